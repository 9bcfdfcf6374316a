//! The CA's own Secret: who signs, which roots are believed, and how far a rotation has come.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use weir_model::TrustDomain;
use zeroize::Zeroizing;

use crate::{
    Authority, AuthorityError, Bundle, CaFiles,
    authority::only,
    bundle::{MAX_FILE_BYTES, parse},
};

/// Where the rotation stands, one `name=value` a line.
const STATE: &str = "weir-rotation";

/// Who made a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// We did: it is a root.
    Made,
    /// The operator did, and plugged it in.
    PluggedIn,
}

/// What may sign: a certificate, its key, what lies between, and the roots that shall be believed as long as it signs.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(crate) files: CaFiles,
    pub(crate) origin: Origin,
}

/// What the CA's own Secret holds: that of Istio's `istio-ca-secret` and `cacerts` (`ca-cert.pem`, `ca-key.pem`, `root-cert.pem`,
/// `cert-chain.pem`), during a rotation the next signer under the same names with `next-` before them, and the rotation's state.
///
/// A plugged-in signer is copied into it, so that the one before it signs until all believe the new root, whatever restarts meanwhile.
#[derive(Debug, Clone)]
pub struct CaSecret {
    /// Who signs. Its roots are the bundle.
    pub(crate) current: Signer,
    pub(crate) bundle: Bundle,
    /// Who is to sign when the bundle has been out for long enough.
    pub(crate) next: Option<Signer>,
    /// When the bundle last got a root more.
    pub(crate) grown: SystemTime,
    /// Since when the bundle has roots that nobody signs by any more.
    pub(crate) leaving: Option<SystemTime>,
}

impl CaSecret {
    /// The first one, with a root of our own making.
    ///
    /// # Errors
    /// The root cannot be made.
    pub fn make(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        Self::new(Signer { files: CaFiles::make(trust_domain, now)?, origin: Origin::Made }, now)
    }

    /// The first one, with what the operator plugged in.
    ///
    /// # Errors
    /// The files are no CA.
    pub fn plugged_in(files: &CaFiles, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        Authority::open(files, trust_domain, Duration::ZERO, now)?;
        Self::new(Signer { files: files.clone(), origin: Origin::PluggedIn }, now)
    }

    fn new(current: Signer, now: SystemTime) -> Result<Self, AuthorityError> {
        let bundle = Bundle::parse("root-cert.pem", &current.files.roots)?;
        Ok(Self { current, bundle, next: None, grown: now, leaving: None }.with_roots_written())
    }

    /// From a Secret's data. What Istio wrote is taken over; keys that are not known are passed over.
    ///
    /// # Errors
    /// A file is missing or damaged, or the state of the rotation cannot be read. Whether it can sign, [`Authority::open`] says.
    pub fn read(data: &BTreeMap<String, impl AsRef<[u8]>>) -> Result<Self, AuthorityError> {
        let state = State::parse(data.get(STATE).map_or(&[], AsRef::as_ref))?;
        let own =
            files(data, &CURRENT)?.ok_or(AuthorityError::File { file: "ca-cert.pem", expected: "to be there" })?;
        let certificate = only("ca-cert.pem", &own.certificate)?;
        let parsed = parse("ca-cert.pem", &certificate)?;
        let made = parsed.subject() == parsed.issuer();
        let origin = state.origin.unwrap_or(if made { Origin::Made } else { Origin::PluggedIn });
        // Istio leaves it empty when its own root signs.
        let roots = if own.roots.is_empty() && made { &own.certificate } else { &own.roots };
        let bundle = Bundle::parse("root-cert.pem", roots)?;
        let next = match files(data, &NEXT)? {
            Some(files) => Some(Signer {
                files,
                origin: state.next_origin.ok_or(AuthorityError::File { file: STATE, expected: "next-origin=" })?,
            }),
            None => None,
        };
        let current = Signer { files: own, origin };
        Ok(Self { current, bundle, next, grown: state.grown, leaving: state.leaving }.with_roots_written())
    }

    /// The Secret's data. What is not among it is to be removed.
    pub fn data(&self) -> BTreeMap<&'static str, Zeroizing<Vec<u8>>> {
        let mut data = BTreeMap::new();
        let signers = [(&CURRENT, Some(&self.current)), (&NEXT, self.next.as_ref())];
        for (names, signer) in signers.into_iter().filter_map(|(names, signer)| Some((names, signer?))) {
            let CaFiles { certificate, key, roots, chain } = &signer.files;
            data.insert(names[0], certificate.clone().into());
            data.insert(names[1], key.clone());
            data.insert(names[2], roots.clone().into());
            data.insert(names[3], chain.clone().into());
        }
        let state = State {
            origin: Some(self.current.origin),
            next_origin: self.next.as_ref().map(|next| next.origin),
            grown: self.grown,
            leaving: self.leaving,
        };
        data.insert(STATE, state.to_string().into_bytes().into());
        data
    }

    /// The CA that signs now, for [`Authority::open`].
    pub fn files(&self) -> &CaFiles {
        &self.current.files
    }

    /// The roots to publish.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The same, with the bundle in the file of roots.
    pub(crate) fn with_roots_written(mut self) -> Self {
        self.current.files.roots = self.bundle.pem().into_bytes();
        self
    }
}

const CURRENT: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
const NEXT: [&str; 4] = ["next-ca-cert.pem", "next-ca-key.pem", "next-root-cert.pem", "next-cert-chain.pem"];

fn files(
    data: &BTreeMap<String, impl AsRef<[u8]>>,
    names: &[&'static str; 4],
) -> Result<Option<CaFiles>, AuthorityError> {
    let [certificate, key, roots, chain] = *names;
    let Some(own) = data.get(certificate) else { return Ok(None) };
    let optional = |name: &'static str| {
        let found = data.get(name).map_or(&[][..], AsRef::as_ref);
        match found.len() > MAX_FILE_BYTES {
            true => Err(AuthorityError::File { file: name, expected: "at most 256 KiB" }),
            false => Ok(found.to_vec()),
        }
    };
    let key = match optional(key)? {
        found if found.is_empty() => return Err(AuthorityError::File { file: key, expected: "to be there" }),
        found => Zeroizing::new(found),
    };
    Ok(Some(CaFiles { certificate: own.as_ref().to_vec(), key, roots: optional(roots)?, chain: optional(chain)? }))
}

/// What the Secret says beside the files.
struct State {
    origin: Option<Origin>,
    next_origin: Option<Origin>,
    grown: SystemTime,
    leaving: Option<SystemTime>,
}

impl State {
    /// A Secret without it was written by others: its bundle has been out since ever.
    fn parse(text: &[u8]) -> Result<Self, AuthorityError> {
        let refused = |expected| AuthorityError::File { file: STATE, expected };
        let mut state = Self { origin: None, next_origin: None, grown: SystemTime::UNIX_EPOCH, leaving: None };
        let text = str::from_utf8(text).map_err(|_| refused("text"))?;
        for line in text.lines() {
            let (name, value) = line.split_once('=').ok_or_else(|| refused("lines of name=value"))?;
            let time = || {
                let seconds = value.parse::<u32>().map_err(|_| refused("a time in Unix seconds"));
                seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()))
            };
            let origin = || match value {
                "made" => Ok(Origin::Made),
                "plugged-in" => Ok(Origin::PluggedIn),
                _ => Err(refused("made or plugged-in as an origin")),
            };
            match name {
                "origin" => state.origin = Some(origin()?),
                "next-origin" => state.next_origin = Some(origin()?),
                "bundle-grown" => state.grown = time()?,
                "roots-leaving" => state.leaving = Some(time()?),
                _ => return Err(refused("origin, next-origin, bundle-grown or roots-leaving")),
            }
        }
        Ok(state)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let word = |origin| match origin {
            Origin::Made => "made",
            Origin::PluggedIn => "plugged-in",
        };
        if let Some(origin) = self.origin {
            writeln!(f, "origin={}", word(origin))?;
        }
        if let Some(origin) = self.next_origin {
            writeln!(f, "next-origin={}", word(origin))?;
        }
        writeln!(f, "bundle-grown={}", seconds(self.grown))?;
        self.leaving.map_or(Ok(()), |leaving| writeln!(f, "roots-leaving={}", seconds(leaving)))
    }
}
