//! A service.

use anyhow::Result;
use serde_json::Value;
use weir_explain::Scene;
use weir_model::{Namespace, ServiceName};
use weir_world::Thing;

use super::{
    Described,
    known::{Known, What, Whom},
};
use crate::{
    agents::{plain, waypoint_of},
    cli::Named,
    out::{Tone, at, counted, list, number},
    scene::Manifests,
};

/// Endpoints that are listed.
const ENDPOINTS: usize = 100;

/// All about it.
///
/// # Errors
/// If there is none.
pub(super) async fn describe(of: &Named) -> Result<Described> {
    let known = Known::of(&of.place, Whom::WaypointsToo).await?;
    let (namespace, name) = known.meant(of);
    let service = known.one(What::Services, &namespace, &name).await?;
    let mut told = Described::new("Service", at(&service, "/namespace"), at(&service, "/name"));
    told.fact("host", at(&service, "/hostname"));
    let vips: Vec<&str> = list(&service, "/vips").iter().filter_map(Value::as_str).map(plain).collect();
    told.fact("addresses", if vips.is_empty() { "none: it is headless".to_owned() } else { vips.join(", ") });
    let ports: Vec<String> = list(&service, "/ports").iter().map(ToString::to_string).collect();
    told.fact("ports", ports.join(", "));
    if at(&service, "/unsupported") != "-" {
        told.toned("not reached", at(&service, "/unsupported"), Tone::Bad);
    }
    match &known {
        Known::Folder(folder) => of_folder(folder, &service, &mut told)?,
        Known::Live { cluster, waypoints, .. } => {
            let by = match cluster {
                Some(cluster) => {
                    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
                    let own = cluster.get(&path).await?.unwrap_or_default();
                    match at(&own, "/metadata/labels/istio.io~1use-waypoint") {
                        "-" => ", by the label of its namespace",
                        _ => ", by its own label istio.io/use-waypoint",
                    }
                }
                None => "",
            };
            bound(&service, by, &mut told);
            // Its replicas have the same.
            let own = waypoint_of(&service);
            if let Some(waypoint) = waypoints.iter().find(|one| one.name() == own) {
                let dump = waypoint.server.ask("/config_dump", &[]).await?;
                let own = format!("{namespace}/{}", at(&service, "/hostname"));
                for host in list(&dump, "/hosts").iter().filter(|host| at(host, "/service") == own) {
                    routes(host, &mut told);
                }
            }
        }
    }
    endpoints(&service, &mut told);
    Ok(told)
}

fn bound(service: &Value, why: &str, told: &mut Described) {
    match waypoint_of(service).as_str() {
        "-" => told.fact("waypoint", "none: connections go straight to its pods"),
        waypoint => told.fact("waypoint", format!("{waypoint}{why}")),
    }
}

fn of_folder(folder: &Manifests, service: &Value, told: &mut Described) -> Result<()> {
    let namespace: Namespace = at(service, "/namespace").parse()?;
    let name = ServiceName { namespace, hostname: at(service, "/hostname").parse()? };
    let why = Scene::binding(folder, &Thing::Service(name.clone()));
    bound(service, &why.map(|why| format!(", {why}")).unwrap_or_default(), told);
    let own = format!("Service {}/{}", at(service, "/namespace"), at(service, "/name"));
    for problem in folder.unbound().into_iter().filter(|problem| problem.with == own) {
        told.toned("problem", format!("it {}", problem.what), Tone::Bad);
    }
    let waypoint = waypoint_of(service);
    let Some((namespace, gateway)) = waypoint.split_once('/') else { return Ok(()) };
    let Some(served) = folder.serving(&namespace.parse()?, gateway) else { return Ok(()) };
    let Some(host) = served.serving.hosts.get(&name.hostname) else { return Ok(()) };
    for object in host.http.objects() {
        let count = u64::try_from(object.rules.len()).unwrap_or(u64::MAX);
        told.fact(
            "routes",
            format!("{} {}/{} ({})", object.kind, object.namespace, object.name, counted(count, "rule")),
        );
    }
    if let Some(rule) = &host.destinations.object {
        told.fact("destination", rule.to_string());
    }
    if let Some(why) = &host.refused {
        told.toned("refused", why.to_string(), Tone::Bad);
    }
    Ok(())
}

fn routes(host: &Value, told: &mut Described) {
    for route in list(host, "/routes") {
        let count = counted(number(route, "/rules"), "rule");
        told.fact(
            "routes",
            format!("{} {}/{} ({count})", at(route, "/kind"), at(route, "/namespace"), at(route, "/name")),
        );
    }
    if at(host, "/destinationRule") != "-" {
        told.fact("destination", at(host, "/destinationRule"));
    }
    if at(host, "/refused") != "-" {
        told.toned("refused", at(host, "/refused"), Tone::Bad);
    }
}

fn endpoints(service: &Value, told: &mut Described) {
    let all = list(service, "/endpoints");
    if all.is_empty() {
        told.toned("endpoints", "none: no pod is selected, or none is known yet", Tone::Bad);
    }
    for one in all.iter().take(ENDPOINTS) {
        let uid = at(one, "/workloadUid");
        let mut parts = uid.rsplit('/');
        let (name, namespace) = (parts.next().unwrap_or(uid), parts.next().unwrap_or_default());
        let addresses: Vec<&str> = list(one, "/addresses").iter().filter_map(Value::as_str).collect();
        let targets: Vec<String> =
            list(one, "/ports").iter().map(|port| format!("{} -> {}", port["service"], port["target"])).collect();
        let ready = one["ready"] == Value::Bool(true);
        let (state, tone) = if ready { ("ready", Tone::Good) } else { ("not ready", Tone::Bad) };
        told.toned(
            "endpoints",
            format!("{namespace}/{name} at {} ({}), {state}", addresses.join(", "), targets.join(", ")),
            tone,
        );
    }
    if all.len() > ENDPOINTS {
        told.fact(
            "endpoints",
            format!("and {} more: weirctl agent services -o json lists them", all.len() - ENDPOINTS),
        );
    }
}
