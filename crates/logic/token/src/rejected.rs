//! Why a request is refused for its token, and what the client is told.

use weir_manifest::KeySource;
use weir_request::Request;

use crate::token::MAX_TOKEN;

/// Most of a request's address that stands in an answer, in bytes. Envoy `jwt_authn`.
const MAX_REALM: usize = 256;

/// What is wrong with a token. The texts are those of Envoy's `jwt_authn`, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// A rule requires a token, and there is none.
    #[error("Jwt is missing")]
    Missing,
    /// Before its `nbf`.
    #[error("Jwt not yet valid")]
    NotYetValid,
    /// After its `exp`.
    #[error("Jwt is expired")]
    Expired,
    /// No token at all.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// Longer than is read.
    #[error("Jwt is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Its header is no base64url.
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderBase64,
    /// Its header is no JSON object.
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    /// Its header names no algorithm.
    #[error("Jwt header [alg] field is required and must be a string")]
    NoAlgorithm,
    /// `none`, one whose key is a secret, or one nobody knows.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// The name of its key is no text.
    #[error("Jwt header [kid] field is not a string")]
    KeyId,
    /// It says that something must be understood, which nobody here does. RFC 7515 §4.1.11.
    #[error("Jwt header [crit] is not supported")]
    Critical,
    /// Its payload is no base64url.
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadBase64,
    /// Its payload is no JSON object.
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    /// `iss` is no text.
    #[error("Jwt payload [iss] field is not a string")]
    Issuer,
    /// `sub` is no text.
    #[error("Jwt payload [sub] field is not a string")]
    Subject,
    /// `iat` is no time.
    #[error("Jwt payload [iat] field is not an integer")]
    IssuedAt,
    /// `nbf` is no time.
    #[error("Jwt payload [nbf] field is not an integer")]
    NotBefore,
    /// `exp` is no time.
    #[error("Jwt payload [exp] field is not an integer")]
    Expires,
    /// `jti` is no text.
    #[error("Jwt payload [jti] field is not a string")]
    Id,
    /// `aud` is neither text nor a list of texts.
    #[error("Jwt payload [aud] field is not a string or string list")]
    Audience,
    /// Its signature is no base64url.
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureBase64,
    /// No rule that looks where it stands is for its issuer.
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    /// None of its audiences is one of the rule's.
    #[error("Audiences in Jwt are not allowed")]
    AudienceNotAllowed,
    /// No key of its issuer made its signature.
    #[error("Jwt verification fails")]
    Signature,
    /// More tokens than are checked.
    #[error("Found multiple Jwt tokens")]
    TooMany,
    /// No key of its issuer is the one it names, or for its algorithm.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// The keys in the rule cannot be used.
    #[error("Jwks doesn't have any valid public key")]
    NoKeys,
    /// The keys of its issuer are not there.
    #[error("Jwks remote fetch is failed")]
    NotFetched,
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    /// Why. Its text is the body of the answer.
    pub reason: Reason,
    /// The keys with which, fetched anew, it might pass: the issuer may have others by now.
    pub wants: Option<KeySource>,
}

impl From<Reason> for Rejected {
    fn from(reason: Reason) -> Self {
        Self { reason, wants: None }
    }
}

impl Rejected {
    /// The status of the answer. Envoy `jwt_authn`: 403 if the token is good, but for somebody else.
    pub fn status(&self) -> u16 {
        if self.reason == Reason::AudienceNotAllowed { 403 } else { 401 }
    }

    /// The header `www-authenticate` of the answer, as in Envoy. The query is left out: a token may stand there. RFC 6750 §3.
    pub fn www_authenticate(&self, request: &Request<'_>) -> String {
        let realm = format!("{}://{}{}", request.scheme(), request.authority().as_str(), request.path().as_str());
        // RFC 9110 §5.6.4.
        let is_plain = |c: &char| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\');
        let realm: String = realm.chars().filter(is_plain).take(MAX_REALM).collect();
        let error = if self.reason == Reason::Missing { "" } else { ", error=\"invalid_token\"" };
        format!("Bearer realm=\"{realm}\"{error}")
    }
}
