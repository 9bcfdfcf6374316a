//! The keys of an issuer, ready to check signatures.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::signature::ParsedPublicKey;
use weir_manifest::{Jwk, Jwks, JwksError, KeySource, PublicKey};

use crate::algorithm::Algorithm;

/// Most keys that are tried for one token. A token that names its key needs one or two.
const MAX_TRIED: usize = 16;

/// How long numbers of RSA may be, in bits. RFC 7518 §3.3: 2048 at least.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Where keys that were fetched are found.
pub trait Keys {
    /// The keys of a source, if they are there.
    fn keys(&self, source: &KeySource) -> Option<Arc<KeySet>>;
}

impl Keys for HashMap<KeySource, Arc<KeySet>> {
    fn keys(&self, source: &KeySource) -> Option<Arc<KeySet>> {
        self.get(source).cloned()
    }
}

/// Public keys of an issuer, at least one.
pub struct KeySet {
    keys: Vec<Key>,
}

/// A key, as each algorithm uses it that it is for.
struct Key {
    id: Option<Arc<str>>,
    uses: Vec<(Algorithm, ParsedPublicKey)>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no set.
    #[error("no JSON Web Key Set: {0}")]
    Jwks(JwksError),
    /// None of its keys can be used.
    #[error(
        "no key in it is one of RSA of 2048 to 8192 bits, a point of its curve, or of Ed25519, and for an algorithm of it"
    )]
    NoneUsable,
}

/// What came of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A key made it.
    Good,
    /// No key did that could have.
    Bad {
        /// Whether one of them was the one that the token names.
        named: bool,
    },
    /// No key could have.
    NoKey,
}

impl KeySet {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    /// When it is none, or has no key of use.
    pub fn read(bytes: &[u8]) -> Result<Self, KeySetError> {
        Self::new(&Jwks::read(bytes).map_err(KeySetError::Jwks)?)
    }

    /// Makes the keys of a set ready. One that cannot be used is left out, as in RFC 7517 §5.
    ///
    /// # Errors
    /// When there is none left.
    pub fn new(jwks: &Jwks) -> Result<Self, KeySetError> {
        let keys: Vec<_> = jwks.keys().iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeySetError::NoneUsable) } else { Ok(Self { keys }) }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none: never.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a signature with the key of that name and with those that have none; or, if none is named, with all.
    pub(crate) fn check(&self, algorithm: Algorithm, id: Option<&str>, signed: &[u8], signature: &[u8]) -> Outcome {
        let (mut any, mut named) = (false, false);
        let is_meant = |key: &&Key| match (id, key.id.as_deref()) {
            (Some(meant), Some(own)) => meant == own,
            (None, _) | (_, None) => true,
        };
        for (key, public) in self.keys.iter().filter(is_meant).filter_map(|key| key.used_for(algorithm)).take(MAX_TRIED)
        {
            any = true;
            named |= id.is_some() && key.id.is_some();
            if public.verify_sig(signed, signature).is_ok() {
                return Outcome::Good;
            }
        }
        if any { Outcome::Bad { named } } else { Outcome::NoKey }
    }
}

impl Key {
    /// The key as this algorithm uses it, if it is for it.
    fn used_for(&self, algorithm: Algorithm) -> Option<(&Self, &ParsedPublicKey)> {
        self.uses.iter().find(|(own, _)| *own == algorithm).map(|(_, public)| (self, public))
    }
}

fn key(jwk: &Jwk) -> Option<Key> {
    if let PublicKey::Rsa { modulus, .. } = &jwk.key
        && !RSA_BITS.contains(&bits(modulus))
    {
        return None;
    }
    let is_for = |algorithm: &Algorithm| jwk.algorithm.as_deref().is_none_or(|only| only == algorithm.name());
    let uses = Algorithm::ALL.into_iter().filter(is_for);
    let uses: Vec<_> = uses.filter_map(|algorithm| Some((algorithm, algorithm.with(&jwk.key)?))).collect();
    let id = jwk.id.clone().filter(|name| !name.is_empty());
    (!uses.is_empty()).then_some(Key { id, uses })
}

/// Bits of a number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let Some((first, rest)) = number.split_first() else { return 0 };
    let of_first = (0..8).rev().find(|bit| first >> bit != 0).map_or(0, |bit| bit + 1);
    rest.len() * 8 + of_first
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn the_example_of_rfc_8037_is_good() {
        // Appendix A.4, whose payload is no claims.
        let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let set = KeySet::read(set.as_bytes()).unwrap();
        let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert_eq!((set.len(), set.check(Algorithm::EdDsa, None, signed, &signature)), (1, Outcome::Good));
        assert_eq!(set.check(Algorithm::EdDsa, None, &signed[1..], &signature), Outcome::Bad { named: false });
        assert_eq!(set.check(Algorithm::Es256, None, signed, &signature), Outcome::NoKey);
    }

    #[test]
    fn bits_are_counted_from_the_first_that_is_set() {
        for (number, want) in [(&[][..], 0), (&[1], 1), (&[0x80], 8), (&[1, 0], 9), (&[0xff, 0xff], 16)] {
            assert_eq!(bits(number), want, "{number:?}");
        }
    }
}
