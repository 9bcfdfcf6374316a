//! JSON Web Key Sets: text in, the public keys of it that a signature can be checked with out. It checks none itself.
//!
//! A key that is of no use (of a type nobody knows, for encryption, damaged) is left out, as RFC 7517 §5 has it, and so is every secret
//! one: the text of a policy is no place for secrets, and a public key must never be taken for one. A set of which nothing is left is refused.

use std::{hash, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

/// The largest set, in bytes.
pub const MAX_JWKS: usize = 1 << 20;

/// Most keys of a set. Issuers publish a few: those in use, the ones before and the ones to come.
const MAX_KEYS: usize = 128;

/// Most bytes of a key's name or algorithm.
const MAX_NAME: usize = 1_024;

/// The largest number in a key of RSA, in bytes: 8192 bits.
const MAX_NUMBER: usize = 1_024;

/// A set of public keys, at least one. RFC 7517 §5.
#[derive(Debug, Clone)]
pub struct Jwks {
    text: Arc<str>,
    keys: Arc<[Jwk]>,
}

/// A public key that checks signatures. RFC 7517 §4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// `kid`.
    pub id: Option<Arc<str>>,
    /// `alg`: the only algorithm it is for.
    pub algorithm: Option<Arc<str>>,
    /// The key itself.
    pub key: PublicKey,
}

/// `kty`, and what a key of that type consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// `RSA`: big-endian numbers without leading zeros. RFC 7518 §6.3.1.
    Rsa {
        /// `n`.
        modulus: Box<[u8]>,
        /// `e`.
        exponent: Box<[u8]>,
    },
    /// `EC`. RFC 7518 §6.2.1.
    Ec {
        /// `crv`.
        curve: Curve,
        /// `x` and `y`, uncompressed: SEC 1 §2.3.3.
        point: Box<[u8]>,
    },
    /// `OKP` with the curve Ed25519. RFC 8037 §2.
    Ed25519(Box<[u8]>),
}

/// `crv` of a key of type EC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// `P-256`.
    P256,
    /// `P-384`.
    P384,
    /// `P-521`.
    P521,
}

impl Curve {
    /// Bytes of a coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Too large.
    #[error("{len} bytes, at most {MAX_JWKS} are read")]
    TooLarge {
        /// Its bytes.
        len: usize,
    },
    /// Not text.
    #[error("no UTF-8")]
    NotText,
    /// Not JSON.
    #[error("no JSON at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Not an object with a list `keys`.
    #[error("no object with a list \"keys\"")]
    NoKeys,
    /// More keys than are read.
    #[error("{count} keys, at most {MAX_KEYS} are read")]
    TooMany {
        /// As many.
        count: usize,
    },
    /// Not one of its keys can check a signature.
    #[error("no key in it is a public one of type RSA, EC or OKP for signatures; the first: {first}")]
    NoneUsable {
        /// What is wrong with the first.
        first: Unusable,
    },
}

/// Why a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is none.
    #[error("there is none")]
    Absent,
    /// A member has another type than it must have, or is too long.
    #[error("a member is no text of a fit length")]
    Member,
    /// Its type is not known, or that of secret keys.
    #[error("its \"kty\" is not RSA, EC or OKP")]
    Type,
    /// Its curve is not known.
    #[error("its \"crv\" is not P-256, P-384, P-521 or Ed25519")]
    Curve,
    /// It is for something else.
    #[error("its \"use\" or \"key_ops\" is not to check signatures")]
    Use,
    /// Its numbers are missing, damaged or of another length.
    #[error("its numbers are missing, no base64url, or of another length than keys of its type have")]
    Numbers,
}

/// A key as it is written.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// When it is none, or has no key of use.
    pub fn read(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_JWKS {
            return Err(JwksError::TooLarge { len: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| JwksError::NotText)?;
        let mut set: Value = serde_json::from_str(text)
            .map_err(|error| JwksError::NotJson { line: error.line(), column: error.column() })?;
        let Some(Value::Array(keys)) = set.get_mut("keys").map(Value::take) else { return Err(JwksError::NoKeys) };
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany { count: keys.len() });
        }
        let (mut usable, mut first) = (Vec::new(), None);
        for key in keys {
            match jwk(key) {
                Ok(key) => usable.push(key),
                Err(why) => first = first.or(Some(why)),
            }
        }
        if usable.is_empty() {
            return Err(JwksError::NoneUsable { first: first.unwrap_or(Unusable::Absent) });
        }
        Ok(Self { text: text.into(), keys: usable.into() })
    }

    /// The set as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The keys of use, at least one.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }
}

impl PartialEq for Jwks {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Jwks {}

impl hash::Hash for Jwks {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

fn jwk(key: Value) -> Result<Jwk, Unusable> {
    let raw: RawKey = serde_json::from_value(key).map_err(|_| Unusable::Member)?;
    let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > MAX_NAME);
    if too_long(&raw.kid) || too_long(&raw.alg) {
        return Err(Unusable::Member);
    }
    let for_signatures = raw.usage.as_deref().is_none_or(|usage| usage == "sig");
    let verifies = raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures || !verifies {
        return Err(Unusable::Use);
    }
    let key = public_key(&raw)?;
    Ok(Jwk { id: raw.kid.map(Into::into), algorithm: raw.alg.map(Into::into), key })
}

fn public_key(raw: &RawKey) -> Result<PublicKey, Unusable> {
    match raw.kty.as_str() {
        "RSA" => Ok(PublicKey::Rsa { modulus: number(&raw.n)?, exponent: number(&raw.e)? }),
        "EC" => {
            let curve = match raw.crv.as_deref() {
                Some("P-256") => Curve::P256,
                Some("P-384") => Curve::P384,
                Some("P-521") => Curve::P521,
                Some(_) | None => return Err(Unusable::Curve),
            };
            let mut point = vec![4];
            for coordinate in [&raw.x, &raw.y] {
                point.extend(exactly(coordinate, curve.size())?);
            }
            Ok(PublicKey::Ec { curve, point: point.into() })
        }
        "OKP" if raw.crv.as_deref() == Some("Ed25519") => Ok(PublicKey::Ed25519(exactly(&raw.x, 32)?.into())),
        "OKP" => Err(Unusable::Curve),
        _ => Err(Unusable::Type),
    }
}

/// A number of any length, its leading zeros taken off: some issuers write one before a number whose first bit is set.
fn number(text: &Option<String>) -> Result<Box<[u8]>, Unusable> {
    let bytes = decoded(text)?;
    let start = bytes.iter().position(|byte| *byte != 0).ok_or(Unusable::Numbers)?;
    match bytes.split_at(start).1 {
        number if number.len() <= MAX_NUMBER => Ok(number.into()),
        _ => Err(Unusable::Numbers),
    }
}

fn exactly(text: &Option<String>, size: usize) -> Result<Vec<u8>, Unusable> {
    decoded(text).and_then(|bytes| if bytes.len() == size { Ok(bytes) } else { Err(Unusable::Numbers) })
}

fn decoded(text: &Option<String>) -> Result<Vec<u8>, Unusable> {
    let text = text.as_ref().ok_or(Unusable::Numbers)?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| Unusable::Numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7517 Appendix A.1, a key for encryption and one of RSA.
    const RFC_7517: &str = include_str!("jwks/rfc7517.json");
    const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn set(keys: &str) -> String {
        format!("{{\"keys\":[{keys}]}}")
    }

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let set = Jwks::read(RFC_7517.as_bytes()).unwrap();
        let [rsa] = set.keys() else { panic!("{set:?}") };
        assert_eq!((rsa.id.as_deref(), rsa.algorithm.as_deref()), (Some("2011-04-29"), Some("RS256")));
        let PublicKey::Rsa { modulus, exponent } = &rsa.key else { panic!("{rsa:?}") };
        assert_eq!((modulus.len(), &exponent[..]), (256, [1, 0, 1].as_slice()));
        assert_eq!(set.as_str(), RFC_7517);
    }

    #[test]
    fn keys_of_no_use_are_left_out() {
        let many = vec![OKP; MAX_KEYS].join(",");
        let long = "x".repeat(MAX_NAME + 1);
        let coordinate = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![1; bytes]);
        let ec = |crv: &str, x: usize, y: usize| {
            format!(r#"{{"kty":"EC","crv":"{crv}","x":"{}","y":"{}"}}"#, coordinate(x), coordinate(y))
        };
        let rsa = |n: &str, e: &str| format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#);
        let with = |member: &str| OKP.replacen('{', &format!("{{{member},"), 1);
        for (keys, want) in [
            (OKP.to_owned(), Ok(1)),
            (many, Ok(MAX_KEYS)),
            (with(r#""kid":null"#), Ok(1)),
            (with(r#""use":"sig""#), Ok(1)),
            (with(r#""key_ops":["sign","verify"]"#), Ok(1)),
            (with(r#""x5c":[1],"new":{}"#), Ok(1)),
            (with(r#""use":"enc""#), Err(Unusable::Use)),
            (with(r#""key_ops":["sign"]"#), Err(Unusable::Use)),
            (with(r#""key_ops":[]"#), Err(Unusable::Use)),
            (with(r#""kid":7"#), Err(Unusable::Member)),
            (with(&format!(r#""kid":"{long}""#)), Err(Unusable::Member)),
            (r#"{"kty":"oct","k":"AAAA"}"#.to_owned(), Err(Unusable::Type)),
            (r#"{"kty":"rsa"}"#.to_owned(), Err(Unusable::Type)),
            ("{}".to_owned(), Err(Unusable::Member)),
            ("7".to_owned(), Err(Unusable::Member)),
            (String::new(), Err(Unusable::Absent)),
            (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(), Err(Unusable::Curve)),
            (r#"{"kty":"OKP","crv":"Ed25519"}"#.to_owned(), Err(Unusable::Numbers)),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.to_owned(), Err(Unusable::Numbers)),
            (ec("P-256", 32, 32), Ok(1)),
            (ec("P-384", 48, 48), Ok(1)),
            (ec("P-521", 66, 66), Ok(1)),
            (ec("P-256", 31, 33), Err(Unusable::Numbers)),
            (ec("secp256k1", 32, 32), Err(Unusable::Curve)),
            (rsa("AQAB", "AQAB"), Ok(1)),
            (rsa("AAEAAQ==", "Aw"), Ok(1)),
            (rsa("AAAA", "AQAB"), Err(Unusable::Numbers)),
            (rsa("!", "AQAB"), Err(Unusable::Numbers)),
            (rsa(&coordinate(MAX_NUMBER + 1), "AQAB"), Err(Unusable::Numbers)),
            (format!("{},{OKP}", rsa("", "")), Ok(1)),
        ] {
            let read = Jwks::read(set(&keys).as_bytes()).map(|set| set.keys().len());
            assert_eq!(read, want.map_err(|first| JwksError::NoneUsable { first }), "{keys:.200}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let many = set(&vec![OKP; MAX_KEYS + 1].join(","));
        let large = " ".repeat(MAX_JWKS + 1);
        let deep = "[".repeat(10_000);
        for (bytes, want) in [
            (b"".as_slice(), JwksError::NotJson { line: 1, column: 0 }),
            (b"{\n x", JwksError::NotJson { line: 2, column: 2 }),
            (deep.as_bytes(), JwksError::NotJson { line: 1, column: 128 }),
            (b"\xff", JwksError::NotText),
            (b"[]", JwksError::NoKeys),
            (b"{}", JwksError::NoKeys),
            (b"{\"keys\":{}}", JwksError::NoKeys),
            (many.as_bytes(), JwksError::TooMany { count: MAX_KEYS + 1 }),
            (large.as_bytes(), JwksError::TooLarge { len: MAX_JWKS + 1 }),
        ] {
            assert_eq!(Jwks::read(bytes), Err(want), "{:.40}", String::from_utf8_lossy(bytes));
        }
    }
}
