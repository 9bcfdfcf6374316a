//! Tokens of service accounts: given out, looked up, reviewed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    reply::Refusal,
    store::{Store, text},
};

/// The audience of tokens that are for the server itself.
pub(crate) const OWN_AUDIENCE: &str = "https://kubernetes.default.svc";
/// The least lifetime of a token, in seconds: real servers refuse less.
const LEAST_LIFE: u64 = 600;

#[derive(Debug, Clone)]
struct Token {
    namespace: String,
    account: (String, String),
    pod: Option<(String, String)>,
    node: Option<(String, String)>,
    audiences: Vec<String>,
    until: Instant,
}

/// The tokens that were given out.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    tokens: HashMap<String, Token>,
}

impl Tokens {
    /// A token is over.
    pub(crate) fn expire_one(&mut self, text_of_it: &str) {
        if let Some(token) = self.tokens.get_mut(text_of_it) {
            token.until = Instant::now();
        }
    }

    /// All tokens are over.
    pub(crate) fn expire(&mut self) {
        for token in self.tokens.values_mut() {
            token.until = Instant::now();
        }
    }
}

/// Who a token is.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    uid: String,
    extra: Value,
}

impl User {
    /// Whoever may do everything.
    pub(crate) fn admin() -> Self {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Self { name: "admin".to_owned(), groups, uid: String::new(), extra: json!({}) }
    }

    fn shown(&self) -> Value {
        json!({"username": self.name, "uid": self.uid, "groups": self.groups, "extra": self.extra})
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// TokenRequest: POST to `serviceaccounts/NAME/token`.
pub(crate) fn request(store: &mut Store, namespace: &str, account: &str, mut body: Value) -> Result<Value, Refusal> {
    let missing = || Refusal::not_found("serviceaccounts", account);
    let account_uid =
        text(store.find("serviceaccounts", namespace, account).ok_or_else(missing)?, "/metadata/uid").to_owned();
    let seconds = body["spec"]["expirationSeconds"].as_u64().unwrap_or(3600);
    if seconds < LEAST_LIFE {
        return Err(Refusal::invalid("spec.expirationSeconds: may not specify a duration less than 10 minutes"));
    }
    let bound = &body["spec"]["boundObjectRef"];
    let (mut pod, mut node) = (None, None);
    if !bound.is_null() {
        if text(bound, "/kind") != "Pod" {
            return Err(Refusal::invalid("spec.boundObjectRef.kind: this server binds tokens to Pods only"));
        }
        let name = text(bound, "/name");
        let found = store.find("pods", namespace, name).ok_or_else(|| Refusal::not_found("pods", name))?;
        let uid = text(found, "/metadata/uid");
        if !text(bound, "/uid").is_empty() && text(bound, "/uid") != uid {
            return Err(Refusal::conflict("the UID in the bound object reference does not match the UID in record"));
        }
        if text(found, "/spec/serviceAccountName") != account {
            return Err(Refusal::bad(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name"
            )));
        }
        pod = Some((name.to_owned(), uid.to_owned()));
        let host = text(found, "/spec/nodeName");
        let record = store.find("nodes", "", host).map(|node| text(node, "/metadata/uid").to_owned());
        node = (!host.is_empty()).then(|| (host.to_owned(), record.unwrap_or_default()));
    }
    let mut audiences = strings(&body["spec"]["audiences"]);
    if audiences.is_empty() {
        audiences.push(OWN_AUDIENCE.to_owned());
    }
    let token = format!("sa-{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (namespace, account) = (namespace.to_owned(), (account.to_owned(), account_uid));
    store.tokens.tokens.insert(token.clone(), Token { namespace, account, pod, node, audiences, until });
    body["apiVersion"] = json!("authentication.k8s.io/v1");
    body["kind"] = json!("TokenRequest");
    body["status"] = json!({"token": token, "expirationTimestamp": "2126-01-01T00:00:00Z"});
    Ok(body)
}

/// Who holds a token meant for one of `audiences`, and which of them; or why nobody does.
pub(crate) fn authenticate(
    store: &Store,
    text_of_it: &str,
    audiences: &[String],
) -> Result<(User, Vec<String>), String> {
    let token = store.tokens.tokens.get(text_of_it).ok_or("invalid bearer token")?;
    if token.until <= Instant::now() {
        return Err("[invalid bearer token, service account token has expired]".to_owned());
    }
    let meant: Vec<String> = token.audiences.iter().filter(|audience| audiences.contains(audience)).cloned().collect();
    if meant.is_empty() {
        let (have, want) = (&token.audiences, audiences);
        return Err(format!(
            "[invalid bearer token, token audiences {have:?} is invalid for the target audiences {want:?}]"
        ));
    }
    let alive = |plural: &str, name: &str, uid: &str| {
        store.find(plural, &token.namespace, name).is_some_and(|object| text(object, "/metadata/uid") == uid)
    };
    let pod_lives = token.pod.as_ref().is_none_or(|(name, uid)| alive("pods", name, uid));
    if !pod_lives || !alive("serviceaccounts", &token.account.0, &token.account.1) {
        return Err("[invalid bearer token, service account token has been invalidated]".to_owned());
    }
    let mut extra = json!({});
    for (kind, bound) in [("pod", &token.pod), ("node", &token.node)] {
        if let Some((name, uid)) = bound {
            extra[format!("authentication.kubernetes.io/{kind}-name")] = json!([name]);
            extra[format!("authentication.kubernetes.io/{kind}-uid")] = json!([uid]);
        }
    }
    let name = format!("system:serviceaccount:{}:{}", token.namespace, token.account.0);
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", token.namespace),
        "system:authenticated".to_owned(),
    ];
    Ok((User { name, groups, uid: token.account.1.clone(), extra }, meant))
}

/// TokenReview.
pub(crate) fn review(store: &Store, mut body: Value) -> Value {
    let mut audiences = strings(&body["spec"]["audiences"]);
    if audiences.is_empty() {
        audiences.push(OWN_AUDIENCE.to_owned());
    }
    body["status"] = match authenticate(store, text(&body, "/spec/token"), &audiences) {
        Ok((user, meant)) => json!({"authenticated": true, "user": user.shown(), "audiences": meant}),
        Err(error) => json!({"user": {}, "error": error}),
    };
    body["apiVersion"] = json!("authentication.k8s.io/v1");
    body["kind"] = json!("TokenReview");
    body
}
