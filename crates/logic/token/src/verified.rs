//! What a good token says, and what becomes of a request that had one, or none.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};
use weir_manifest::HeaderName;

use crate::token::Token;

/// A request whose tokens are good, or that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Who it is from, if a token says so.
    pub verified: Option<Verified>,
    /// What becomes of its head, with a token or without: to be made before anything else reads it.
    pub changes: Changes,
}

/// What is to be changed in the head of a request: first what goes, then what comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Headers to be taken out, every value: those of tokens that are not forwarded, and those that only a token may fill, which the client
    /// cannot be believed about.
    pub remove: Vec<HeaderName>,
    /// Headers to be put in, in place of any of that name.
    pub set: Vec<(HeaderName, Vec<u8>)>,
    /// What becomes of the query.
    pub query: QueryChange,
}

/// What becomes of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryChange {
    /// It is sent on as it came.
    #[default]
    None,
    /// It becomes this.
    To(String),
    /// Nothing is left of it.
    Gone,
}

/// Who a request is from, by a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `iss/sub`, if it has a subject. Istio `requestPrincipals`, `request.auth.principal`.
    pub principal: Option<Arc<str>>,
    /// What it says.
    pub claims: Claims,
}

impl Verified {
    /// `aud`. Istio `request.auth.audiences`.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.claims.token.audiences.iter().map(|one| &**one)
    }

    /// `azp`. Istio `request.auth.presenter`.
    pub fn presenter(&self) -> Option<&str> {
        self.claims.token.presenter.as_deref()
    }
}

/// What a good token says.
#[derive(Clone)]
pub struct Claims {
    token: Arc<Token>,
    /// Names of claims whose text is a list.
    spaced: Arc<[Arc<str>]>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.token.claims).finish()
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        self.token.claims == other.token.claims && self.spaced == other.spaced
    }
}

impl Eq for Claims {}

impl Claims {
    pub(crate) fn new(token: Arc<Token>, spaced: Arc<[Arc<str>]>) -> Self {
        Self { token, spaced }
    }

    /// All of them.
    pub fn all(&self) -> &Map<String, Value> {
        &self.token.claims
    }

    /// The texts of the claim that these names lead to: its text, those in its list, or the words in its text if it is `scope`, `permission`
    /// or one of `spaceDelimitedClaims`. None of a claim of another type. Istio `request.auth.claims[a][b]`.
    pub fn values(&self, path: &[&str]) -> Vec<&str> {
        match (lookup(&self.token.claims, path.iter().copied()), path) {
            (Some(Value::String(text)), [name]) if self.spaced.iter().any(|own| &**own == *name) => {
                text.split(' ').filter(|word| !word.is_empty()).collect()
            }
            (Some(Value::String(text)), _) => vec![text],
            (Some(Value::Array(list)), _) => list.iter().filter_map(Value::as_str).collect(),
            (Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None, _) => Vec::new(),
        }
    }
}

/// A claim as a header says it: a text, a number or a truth value; nothing of any other, nor of a text that no header can hold.
/// Istio `outputClaimToHeaders`: names that lead deeper have dots between them.
pub(crate) fn in_a_header(claims: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let value = claims.get(name).or_else(|| lookup(claims, name.split('.')))?;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    // RFC 9110 §5.5: neither a line break nor another control character, which would begin another header.
    let legal = !text.bytes().any(|byte| byte.is_ascii_control()) && text.trim_ascii() == text;
    legal.then(|| text.into_bytes())
}

fn lookup<'c, 'p>(claims: &'c Map<String, Value>, path: impl IntoIterator<Item = &'p str>) -> Option<&'c Value> {
    let mut names = path.into_iter();
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_object()?.get(name))
}
