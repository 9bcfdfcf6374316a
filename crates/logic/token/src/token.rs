//! A token in its compact form, taken apart: RFC 7515 §7.1 and RFC 7519. Nothing in it is proven.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{algorithm::Algorithm, rejected::Reason};

/// The longest token, in bytes. Bounds what its claims can hold, too: `serde_json` reads 128 levels.
pub const MAX_TOKEN: usize = 16 << 10;

/// What a token says of itself.
#[derive(Debug)]
pub(crate) struct Token {
    /// `alg`.
    pub(crate) algorithm: Algorithm,
    /// `kid`.
    pub(crate) key: Option<Box<str>>,
    /// `iss`; empty when there is none, which no rule is for.
    pub(crate) issuer: Box<str>,
    /// `sub`.
    pub(crate) subject: Option<Box<str>>,
    /// `aud`.
    pub(crate) audiences: Vec<Box<str>>,
    /// `azp`: whom it was issued to. OpenID Connect Core 1.0 §2.
    pub(crate) presenter: Option<Box<str>>,
    /// `nbf`, since 1970.
    pub(crate) not_before: Option<Duration>,
    /// `exp`, since 1970.
    pub(crate) expires: Option<Duration>,
    /// All of its claims.
    pub(crate) claims: Map<String, Value>,
    /// The payload, as it stands in the token.
    pub(crate) payload: Box<str>,
    /// How much of the token is signed, in bytes.
    pub(crate) signed: usize,
    pub(crate) signature: Vec<u8>,
}

impl Token {
    pub(crate) fn read(text: &[u8]) -> Result<Self, Reason> {
        if text.len() > MAX_TOKEN {
            return Err(Reason::TooLong);
        }
        let text = str::from_utf8(text).map_err(|_| Reason::Form)?;
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::Form);
        };
        let decoded = |part: &str, reason| URL_SAFE_NO_PAD.decode(part).map_err(|_| reason);
        let object = |json: &[u8], reason| serde_json::from_slice::<Map<String, Value>>(json).map_err(|_| reason);
        let head = object(&decoded(header, Reason::HeaderBase64)?, Reason::HeaderJson)?;
        let (algorithm, key) = read_header(&head)?;
        let claims = object(&decoded(payload, Reason::PayloadBase64)?, Reason::PayloadJson)?;
        time(&claims, "iat", Reason::IssuedAt)?;
        string(&claims, "jti", Reason::Id)?;
        Ok(Self {
            algorithm,
            key,
            issuer: string(&claims, "iss", Reason::Issuer)?.unwrap_or_default(),
            subject: string(&claims, "sub", Reason::Subject)?,
            audiences: audiences(&claims)?,
            presenter: claims.get("azp").and_then(Value::as_str).map(Into::into),
            not_before: time(&claims, "nbf", Reason::NotBefore)?,
            expires: time(&claims, "exp", Reason::Expires)?,
            signature: decoded(signature, Reason::SignatureBase64)?,
            payload: payload.into(),
            signed: header.len() + 1 + payload.len(),
            claims,
        })
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<Box<str>>), Reason> {
    let Some(Value::String(name)) = header.get("alg") else { return Err(Reason::NoAlgorithm) };
    let algorithm = Algorithm::named(name).ok_or(Reason::Algorithm)?;
    if header.contains_key("crit") {
        return Err(Reason::Critical);
    }
    // An empty name names nothing, as in Envoy.
    let key = string(header, "kid", Reason::KeyId)?.filter(|name| !name.is_empty());
    Ok((algorithm, key))
}

fn string(object: &Map<String, Value>, name: &str, reason: Reason) -> Result<Option<Box<str>>, Reason> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str().into())),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(reason),
    }
}

/// A NumericDate, RFC 7519 §2: seconds since 1970, never before.
fn time(claims: &Map<String, Value>, name: &str, reason: Reason) -> Result<Option<Duration>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(Duration::from_secs(seconds)));
    }
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.map(Some).ok_or(reason)
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<Box<str>>, Reason> {
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.as_str().into()]),
        Some(Value::Array(list)) => {
            list.iter().map(|one| one.as_str().map(Into::into).ok_or(Reason::Audience)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(Reason::Audience),
    }
}
