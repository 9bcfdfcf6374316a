//! Who holds a token: asked of the API server, which alone knows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use weir_model::{SpiffeId, TrustDomain};
use weir_rpc::{Caller, Credential, Unproven, Verify, Verifying};

use crate::error::within;

/// How long a review may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a good answer counts: a token that was withdrawn is accepted no longer than this.
const TRUSTED: Duration = Duration::from_secs(10);
/// Good answers kept at once.
const KEPT: usize = 4096;
/// Most a token may have, in bytes.
const MAX_TOKEN: usize = 16 << 10;

const USER: &str = "system:serviceaccount:";
const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-name";

/// SHA-256 of a token: the token itself is not kept.
type Digested = [u8; 32];

/// Checks tokens of service accounts by `TokenReview`.
pub struct TokenReviewer {
    reviews: Api<TokenReview>,
    trust_domain: TrustDomain,
    audiences: Vec<String>,
    trusted: Mutex<HashMap<Digested, (Instant, Caller)>>,
}

impl TokenReviewer {
    /// A reviewer that accepts tokens for one of `audiences`, such as `istio-ca`.
    pub fn new(client: Client, trust_domain: TrustDomain, audiences: Vec<String>) -> Self {
        Self { reviews: Api::all(client), trust_domain, audiences, trusted: Mutex::default() }
    }

    async fn review(&self, token: &str) -> Result<Caller, Unproven> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(Unproven::Refused(format!("it has {} bytes, expected 1 to {MAX_TOKEN}", token.len())));
        }
        let digest: Digested = Sha256::digest(token.as_bytes()).into();
        if let Some(caller) = self.remembered(&digest) {
            return Ok(caller);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(self.audiences.clone()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let asked = Instant::now();
        let create = async { self.reviews.create(&PostParams::default(), &review).await };
        let answer = within(DEADLINE, || "create TokenReview".to_owned(), create).await;
        let answer = answer.map_err(|error| Unproven::Unavailable(error.to_string()))?;
        let status = answer.status.ok_or_else(|| Unproven::Unavailable("the review has no status".to_owned()))?;
        let caller = caller(status, &self.audiences, &self.trust_domain)?;
        self.remember(digest, asked, &caller);
        Ok(caller)
    }

    fn remembered(&self, digest: &Digested) -> Option<Caller> {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.get(digest).filter(|(asked, _)| asked.elapsed() < TRUSTED).map(|(_, caller)| caller.clone())
    }

    fn remember(&self, digest: Digested, asked: Instant, caller: &Caller) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if trusted.len() >= KEPT {
            trusted.retain(|_, (asked, _)| asked.elapsed() < TRUSTED);
        }
        if trusted.len() < KEPT {
            trusted.insert(digest, (asked, caller.clone()));
        }
    }
}

impl Verify for TokenReviewer {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        Box::pin(self.review(token))
    }
}

/// Who the server says it is.
fn caller(status: TokenReviewStatus, audiences: &[String], trust_domain: &TrustDomain) -> Result<Caller, Unproven> {
    let refused = |why: String| Err(Unproven::Refused(why));
    if status.authenticated != Some(true) {
        return refused(status.error.unwrap_or_else(|| "the API server does not know it".to_owned()));
    }
    // A server that knows nothing of audiences says none: what it accepts may be meant for somebody else.
    let meant = status.audiences.unwrap_or_default();
    if !meant.iter().any(|audience| audiences.contains(audience)) {
        return refused(format!("it is for the audiences {meant:?}, expected one of {audiences:?}"));
    }
    let user = status.user.unwrap_or_default();
    let Some((namespace, account)) = service_account(&user) else {
        return refused(format!("its user is {:?}, expected a service account", user.username.unwrap_or_default()));
    };
    let (Ok(namespace), Ok(account)) = (namespace.parse(), account.parse()) else {
        return refused(format!("its user is {:?}, which is no legal service account", user.username));
    };
    let extra = user.extra.unwrap_or_default();
    let node = match single(&extra, NODE)?.map(str::parse) {
        Some(Ok(node)) => Some(node),
        Some(Err(error)) => return refused(format!("its node: {error}")),
        None => None,
    };
    let pod = single(&extra, POD)?.map(Arc::from);
    let identity = SpiffeId::new(trust_domain.clone(), namespace, account);
    Ok(Caller { identity, node, pod, credential: Credential::Token })
}

fn service_account(user: &UserInfo) -> Option<(&str, &str)> {
    user.username.as_deref()?.strip_prefix(USER)?.split_once(':')
}

/// The one value of an extra; two of them would be two nodes or two pods.
fn single<'e>(extra: &'e BTreeMap<String, Vec<String>>, key: &str) -> Result<Option<&'e str>, Unproven> {
    match extra.get(key).map(Vec::as_slice) {
        None | Some([]) => Ok(None),
        Some([one]) => Ok(Some(one)),
        Some(many) => Err(Unproven::Refused(format!("{key} has {} values, expected one", many.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(username: &str, audiences: &[&str], extra: &[(&str, &[&str])]) -> TokenReviewStatus {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(owned(audiences)),
            error: None,
            user: Some(UserInfo {
                username: Some(username.to_owned()),
                extra: Some(extra.iter().map(|(key, values)| ((*key).to_owned(), owned(values))).collect()),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn a_caller_is_who_the_server_says_and_nothing_is_guessed() {
        let good = "system:serviceaccount:todo:ui";
        for (status, want) in [
            (status(good, &["istio-ca"], &[(NODE, &["n1"]), (POD, &["ui-1"])]), Ok((Some("n1"), Some("ui-1")))),
            (status(good, &["x", "istio-ca"], &[]), Ok((None, None))),
            (status(good, &[], &[]), Err("audiences []")),
            (status(good, &["other"], &[]), Err("audiences [\"other\"]")),
            (status("system:node:n1", &["istio-ca"], &[]), Err("expected a service account")),
            (status("system:serviceaccount:todo", &["istio-ca"], &[]), Err("expected a service account")),
            (status("system:serviceaccount:todo:a:b", &["istio-ca"], &[]), Err("no legal service account")),
            (status("system:serviceaccount::", &["istio-ca"], &[]), Err("no legal service account")),
            (status(good, &["istio-ca"], &[(NODE, &["n1", "n2"])]), Err("has 2 values")),
            (status(good, &["istio-ca"], &[(NODE, &["N_1"])]), Err("its node")),
            (TokenReviewStatus::default(), Err("does not know it")),
            (TokenReviewStatus { error: Some("gone".into()), ..TokenReviewStatus::default() }, Err("gone")),
        ] {
            let shown = format!("{status:?}");
            match (caller(status, &["istio-ca".to_owned()], &TrustDomain::default()), want) {
                (Ok(caller), Ok((node, pod))) => {
                    assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/todo/sa/ui");
                    assert_eq!(caller.node.as_ref().map(|node| node.as_str()), node, "{shown}");
                    assert_eq!(caller.pod.as_deref(), pod, "{shown}");
                }
                (Err(Unproven::Refused(why)), Err(want)) => assert!(why.contains(want), "{why} has no {want}"),
                (answer, _) => panic!("{shown}: {answer:?}"),
            }
        }
    }
}
