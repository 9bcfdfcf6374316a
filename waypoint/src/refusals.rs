//! Requests and tunnels that the waypoint itself refused lately, and what would let them through.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use weir_explain::listing::limit_of;
use weir_http::{Arrival, Record, Target};
use weir_model::{Namespace, SpiffeId, Workload};
use weir_telemetry::{Cursor, Happened, Query, Recent, Recorder, clipped};

use crate::{gate::denied_by, run::timestamp};

/// Refusals that are kept for each worker.
const KEPT: usize = 256;

/// The refusals of all workers.
pub(crate) type Refusals = Arc<Recent<Refused>>;

/// Those of so many workers.
pub(crate) fn rings(workers: usize) -> Refusals {
    Recent::new(workers, KEPT)
}

/// What was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    client: SocketAddr,
    identity: Option<SpiffeId>,
    workload: Option<Arc<Workload>>,
    destination: Option<SocketAddr>,
    service: Option<Box<str>>,
    request: Option<Box<str>>,
    status: u16,
    flags: Box<str>,
    reason: Box<str>,
}

/// The end of one worker.
#[derive(Debug)]
pub(crate) struct Refuser(Recorder<Refused>);

impl Refuser {
    pub(crate) fn new(refusals: &Refusals, worker: usize) -> Self {
        Self(refusals.recorder(worker))
    }

    /// Notes a request that has ended, if it was refused here: not by what answered it, nor by a rule that is to answer so.
    pub(crate) fn look(&self, record: &Record<'_>) {
        let answered = matches!(record.details, "via_upstream" | "direct_response");
        let bad = record.status >= 400 || (record.status == 0 && !record.details.is_empty());
        let gone = record.flags.has(weir_http::Flag::DownstreamConnectionTermination);
        if answered || !bad || gone {
            return;
        }
        let reason = match record.failure {
            Some(failure) => format!("{}: {failure}", record.details),
            None => record.details.to_owned(),
        };
        let request = !record.target.is_empty();
        let Arrival { client, identity, workload, destination, target, .. } = record.arrival;
        self.0.note(Refused {
            client: *client,
            identity: identity.clone(),
            workload: workload.clone(),
            destination: Some(*destination),
            service: match target {
                Target::Service { host, port, .. } => Some(format!("{host}:{port}").into()),
                Target::Pod { .. } => None,
            },
            request: request.then(|| clipped(&format!("{} {}{}", record.method, record.authority, record.target))),
            status: record.status,
            flags: record.flags.to_string().into(),
            reason: clipped(&reason),
        });
    }

    /// Notes a tunnel that was not taken.
    pub(crate) fn tunnel(&self, client: SocketAddr, identity: Option<&SpiffeId>, status: u16, reason: &str) {
        self.0.note(Refused {
            client,
            identity: identity.cloned(),
            workload: None,
            destination: None,
            service: None,
            request: None,
            status,
            flags: "-".into(),
            reason: clipped(reason),
        });
    }
}

/// `/debug/refusals`: the newest, or what came behind a cursor.
///
/// # Errors
/// What is wrong with the query.
pub(crate) fn answer(refusals: &Refusals, query: &Query) -> Result<Value, String> {
    let [namespace, name, after, limit] = query.fields(["namespace", "name", "after", "limit"])?;
    let namespace: Option<Namespace> =
        namespace.map(|text| text.parse().map_err(|error| format!("namespace: {error}"))).transpose()?;
    let after = after.map(str::parse::<Cursor>).transpose()?;
    let page = refusals.after(after.as_ref(), limit_of(limit)?, |one| one.concerns(namespace.as_ref(), name));
    Ok(page.told("refusals", told))
}

impl Refused {
    /// Whether one end is of that namespace and called so.
    fn concerns(&self, namespace: Option<&Namespace>, name: Option<&str>) -> bool {
        let service = self.service.as_deref().unwrap_or_default();
        let mut host = service.split('.');
        let (short, of) = (host.next().unwrap_or_default(), host.next().unwrap_or_default());
        let account = self.identity.as_ref();
        namespace.is_none_or(|wanted| of == wanted.as_str() || account.is_some_and(|own| own.namespace() == wanted))
            && name.is_none_or(|wanted| {
                short == wanted
                    || account.is_some_and(|own| own.service_account().as_str() == wanted)
                    || self.workload.as_ref().is_some_and(|own| *own.name == *wanted || *own.workload_name == *wanted)
            })
    }
}

fn told(one: &Happened<Refused>) -> Value {
    let Refused { client, identity, workload, destination, service, request, status, flags, reason } = &one.what;
    let namespace = workload.as_ref().map(|own| own.namespace.as_str());
    let namespace = namespace.or(identity.as_ref().map(|own| own.namespace().as_str()));
    let policy = denied_by(reason)
        .map(|(namespace, name)| json!({ "kind": "AuthorizationPolicy", "namespace": namespace, "name": name }));
    json!({
        "at": timestamp(one.at),
        "direction": "waypoint",
        "source": {
            "address": client.to_string(),
            "namespace": namespace,
            "workload": workload.as_ref().map(|own| &*own.name),
            "identity": identity.as_ref().map(ToString::to_string),
        },
        "destination": { "address": destination.map(|at| at.to_string()) },
        "service": service,
        "request": request,
        "status": status,
        "flag": flags,
        "reason": reason,
        "policy": policy,
        "remedy": remedy(reason, identity.as_ref()),
    })
}

/// What would let it through, by where the answer came from. Envoy `RESPONSE_CODE_DETAILS`.
fn remedy(details: &str, identity: Option<&SpiffeId>) -> Option<String> {
    if let Some((namespace, name)) = denied_by(details) {
        return Some(format!("take it out of what AuthorizationPolicy {namespace}/{name} denies: a DENY always wins"));
    }
    let of = |text: &str| details.starts_with(text);
    Some(if of("rbac_access_denied") {
        let who = identity.map_or("a client without identity".to_owned(), |identity| format!("{identity}"));
        format!(
            "a rule of an ALLOW policy there that matches this request of {who}: weirctl explain says what each rule lacks"
        )
    } else if of("jwt_authn_access_denied") {
        "send a token that the RequestAuthentication accepts: issuer, audience, signature and time".to_owned()
    } else if of("route_not_found") {
        "add a route whose host, path, method and headers match, or a rule for all other requests".to_owned()
    } else if of("no_healthy_upstream") {
        "an endpoint must become ready: weirctl describe service says which are".to_owned()
    } else if of("overflow") {
        "raise spec.trafficPolicy.connectionPool in the DestinationRule, or add endpoints".to_owned()
    } else if of("upstream_reset_before_response_started") || of("upstream_response_timeout") {
        "look at the endpoint, and at the agent of its node: weirctl why asks that, too".to_owned()
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(refuser: &Refuser, service: Option<&str>, identity: Option<&str>, reason: &str) {
        refuser.0.note(Refused {
            client: "[fd00::9]:4000".parse().unwrap(),
            identity: identity.map(|text| text.parse().unwrap()),
            workload: None,
            destination: Some("10.96.0.1:80".parse().unwrap()),
            service: service.map(Into::into),
            request: Some("GET cart.shop/items".into()),
            status: 403,
            flags: "-".into(),
            reason: reason.into(),
        });
    }

    #[test]
    fn what_was_refused_is_told_with_its_policy_and_what_would_let_it_through() {
        let refusals = rings(1);
        let refuser = Refuser::new(&refusals, 0);
        let web = Some("spiffe://cluster.local/ns/front/sa/web");
        let cart = Some("cart.shop.svc.cluster.local:80");
        note(&refuser, cart, web, "rbac_access_denied_matched_policy[ns[shop]-policy[no-web]-rule[0]]");
        note(&refuser, cart, None, "rbac_access_denied_matched_policy[none]");
        refuser.tunnel("10.0.0.9:1".parse().unwrap(), None, 404, "10.0.0.1:80 is not bound to this waypoint");
        let ask = |query: &str| answer(&refusals, &query.parse().unwrap());
        let all = ask("").unwrap();
        let first = &all["refusals"][0];
        assert_eq!((&first["policy"]["name"], &first["status"]), (&json!("no-web"), &json!(403)));
        assert!(first["remedy"].as_str().unwrap().contains("what AuthorizationPolicy shop/no-web denies"), "{first}");
        assert!(all["refusals"][1]["remedy"].as_str().unwrap().contains("a client without identity"));
        assert_eq!(all["refusals"][2]["remedy"], Value::Null);
        for (query, want) in
            [("namespace=front", 1), ("namespace=shop", 2), ("name=web", 1), ("name=cart", 2), ("name=x", 0)]
        {
            assert_eq!(ask(query).unwrap()["refusals"].as_array().unwrap().len(), want, "{query}");
        }
        assert!(ask("limit=0").unwrap_err().contains("from 1 to 1000"));
        let cursor = all["cursor"].as_str().unwrap();
        assert_eq!(ask(&format!("after={cursor}")).unwrap()["refusals"], json!([]));
    }

    #[test]
    fn each_answer_of_the_waypoints_own_has_its_remedy() {
        for (details, part) in [
            ("jwt_authn_access_denied{Jwt_is_expired}", "send a token"),
            ("route_not_found", "add a route"),
            ("no_healthy_upstream", "must become ready"),
            ("overflow", "connectionPool"),
            ("upstream_reset_before_response_started{connection_failure}", "look at the endpoint"),
        ] {
            assert!(remedy(details, None).unwrap().contains(part), "{details}");
        }
        assert_eq!(remedy("http1.codec_error", None), None);
    }
}
