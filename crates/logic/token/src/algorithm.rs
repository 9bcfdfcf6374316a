//! The algorithms of signatures, RFC 7518 §3.1 and RFC 8037 §3.1. There is no other: neither `none` nor one whose key is a secret.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use weir_manifest::{Curve, PublicKey};

/// `alg` of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// ECDSA over P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// As it stands in a token. RFC 7515 §4.1.1: its case counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// A key as this algorithm uses it; none of a key of another type or curve, or one that is damaged. So no key ever checks a signature
    /// of an algorithm it was not made for.
    pub(crate) fn with(self, key: &PublicKey) -> Option<ParsedPublicKey> {
        match key {
            PublicKey::Rsa { modulus, exponent } => {
                let components = RsaPublicKeyComponents { n: modulus, e: exponent };
                components.to_parsed_public_key(self.rsa()?).ok()
            }
            PublicKey::Ec { curve, point } => match (self, curve) {
                (Self::Es256, Curve::P256) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok(),
                (Self::Es384, Curve::P384) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok(),
                (Self::Es512, Curve::P521) => ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).ok(),
                (_, Curve::P256 | Curve::P384 | Curve::P521) => None,
            },
            PublicKey::Ed25519(key) if self == Self::EdDsa => ParsedPublicKey::new(&ED25519, key).ok(),
            PublicKey::Ed25519(_) => None,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }
}
