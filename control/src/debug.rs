//! What people may look at: who is served what, and what is not as it should be. Paths and names as istiod has them, where it has them.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering::Relaxed},
};

use serde_json::{Value, json};
use weir_telemetry::Page;
use weir_xds::{Discovery, Kind, Report};

use crate::{run::timestamp, source::Mesh};

/// All pages, by path.
pub(crate) fn pages(mesh: &Mesh, discovery: &Discovery, replica: &str) -> Vec<(&'static str, Page)> {
    let (syncz, replica) = (discovery.clone(), replica.to_owned());
    let (configz, short, name) = (mesh.clone(), mesh.clone(), replica.clone());
    vec![
        (
            "/debug/syncz",
            Box::new(move || json!(syncz.reports().iter().map(|one| sync(one, &replica)).collect::<Vec<_>>())),
        ),
        ("/debug/configz", Box::new(move || config(&configz))),
        ("/debug/summary", Box::new(move || summary(&short, &name))),
    ]
}

/// One agent, as Kiali and `istioctl proxy-status` read it.
fn sync(report: &Report, replica: &str) -> Value {
    let mut kinds = BTreeMap::new();
    for (kind, standing) in Kind::ALL.iter().zip(&report.standing) {
        kinds.insert(
            kind.type_url(),
            json!({
                "subscribed": if standing.wildcard { json!("*") } else { json!(standing.subscribed) },
                "sent": standing.sent.as_ref().map(|(nonce, version)| json!({ "nonce": nonce, "version": version })),
                "acked": standing.acked,
                "inFlight": standing.in_flight,
                "pending": standing.pending,
                "refused": standing.nacked.as_ref().map(|(nonce, why)| json!({ "nonce": nonce, "reason": why })),
                "inSync": !standing.in_flight && !standing.pending && standing.nacked.is_none(),
            }),
        );
    }
    json!({
        "proxy": report.id,
        "identity": report.label,
        "node": report.node.as_ref().map(|node| node.as_str()),
        "istiod": replica,
        "connectedAt": timestamp(report.since),
        "types": kinds,
    })
}

/// What is short however large the mesh is.
fn summary(mesh: &Mesh, replica: &str) -> Value {
    let state = &mesh.state;
    let refused = state.refused.lock().unwrap_or_else(PoisonError::into_inner).len();
    let lost = state.lost.lock().unwrap_or_else(PoisonError::into_inner);
    json!({
        "component": "weir-control",
        "version": env!("CARGO_PKG_VERSION"),
        "name": replica,
        "config": { "generation": state.generation.load(Relaxed), "refused": refused, "notFollowed": &*lost },
    })
}

fn config(mesh: &Mesh) -> Value {
    let state = &mesh.state;
    let refused = state.refused.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = state.lost.lock().unwrap_or_else(PoisonError::into_inner);
    json!({
        "generation": state.generation.load(Relaxed),
        "resources": Kind::ALL.iter().map(|kind| (kind.type_url(), mesh.store.len(*kind))).collect::<BTreeMap<_, _>>(),
        "namespaces": mesh.namespaces.borrow().iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>(),
        "refused": refused.iter().map(|(key, errors)| json!({
            "kind": &*key.kind,
            "namespace": key.namespace.as_ref().map(|one| one.as_str()),
            "name": &*key.name,
            "errors": errors,
        })).collect::<Vec<_>>(),
        "policiesNotAsWritten": mesh.statuses.not_as_written().iter().map(|one| json!(**one)).collect::<Vec<_>>(),
        "findings": mesh.statuses.findings(),
        "waypointsNotBound": mesh.statuses.not_bound().iter().map(|one| one.to_string()).collect::<Vec<_>>(),
        "notFollowed": &*lost,
    })
}
