//! The kinds of resources, and what names one version of one.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// How many kinds there are.
pub(crate) const KINDS: usize = Kind::ALL.len();

/// A type of resource that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Workloads and services.
    Address,
    /// Policies.
    Authorization,
    /// Objects that shape requests, as their authors wrote them: a waypoint's matter, and no type of Istio's.
    Object,
}

impl Kind {
    /// All, in the order they are asked for.
    pub const ALL: [Self; 3] = [Self::Address, Self::Authorization, Self::Object];

    /// Those that an agent asks for.
    pub const OF_AGENTS: [Self; 2] = [Self::Address, Self::Authorization];

    /// How the wire calls it.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::Object => "type.googleapis.com/weir.dev.v1.Object",
        }
    }

    /// Its place among [`Kind::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Address => 0,
            Self::Authorization => 1,
            Self::Object => 2,
        }
    }

    /// The kind the wire calls so.
    pub(crate) fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "Address",
            Self::Authorization => "Authorization",
            Self::Object => "Object",
        })
    }
}

/// What a resource says, as a number: the beginning of the SHA-256 of its bytes. The same wherever and whenever it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of a resource of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        Self(hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no version of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version: expected 16 hexadecimal digits in lower case")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    /// It prints as it was read: of what another control plane calls a version nothing is lost.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let number = Some(text).filter(|text| text.len() == 16 && text.bytes().all(digit));
        let number = number.and_then(|text| u64::from_str_radix(text, 16).ok());
        number.map(Self).ok_or_else(|| VersionError(text.to_owned()))
    }
}

/// All resources of a kind as one number: the sum of the hashes of their names and versions, whatever their order. Two sides
/// that have the same sum have the same resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    fn hash(name: &str, version: Version) -> [u64; 4] {
        let hash = Sha256::new().chain_update(version.0.to_be_bytes()).chain_update(name.as_bytes()).finalize();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.chunks(8)) {
            *word = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        words
    }

    /// With one more resource.
    pub(crate) fn add(&mut self, name: &str, version: Version) {
        for (word, more) in self.0.iter_mut().zip(Self::hash(name, version)) {
            *word = word.wrapping_add(more);
        }
    }

    /// Of these and of others.
    pub(crate) fn and(mut self, others: Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(others.0) {
            *word = word.wrapping_add(more);
        }
        self
    }

    /// With one less.
    pub(crate) fn take(&mut self, name: &str, version: Version) {
        for (word, less) in self.0.iter_mut().zip(Self::hash(name, version)) {
            *word = word.wrapping_sub(less);
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_prints_as_it_was_read() {
        let version = Version::of(b"a workload");
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(version.to_string().len(), 16);
        assert_ne!(version, Version::of(b"another"));
        for other in ["", "1", "+00000000000000a", "00000000000000AB", "2026-11-21T00:00:00Z/1"] {
            assert!(other.parse::<Version>().is_err(), "{other:?} was taken");
        }
    }

    #[test]
    fn a_sum_knows_no_order_and_forgets_what_is_taken() {
        let (one, two) = (Version::of(b"1"), Version::of(b"2"));
        let (mut there, mut back) = (Sum::default(), Sum::default());
        there.add("a", one);
        there.add("b", two);
        back.add("b", two);
        back.add("a", one);
        assert_eq!(there, back);
        assert_ne!(there, Sum::default());
        there.take("b", two);
        back.take("a", one);
        assert_ne!(there, back);
        back.take("b", two);
        assert_eq!(back, Sum::default());
    }

    #[test]
    fn a_kind_is_known_by_its_type_url() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.type_url()), Some(kind));
            assert_eq!(Kind::ALL[kind.index()], kind);
        }
        assert_eq!(Kind::of("type.googleapis.com/istio.workload.Workload"), None);
    }
}
