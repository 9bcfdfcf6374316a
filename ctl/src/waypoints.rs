//! `weirctl waypoint`: Gateways that are waypoints.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weir_kube::Force;
use weir_model::{hint, nearest};

use crate::{
    cli::{For, Format, Named, Place, Waypoint, Wish},
    cluster::Cluster,
    live::Server,
    out::{Cell, List, Out, Table, Tone, at, counted, list, yaml},
    place::{Live, named},
};

/// Gateways of all namespaces.
pub(crate) const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
/// Classes that make waypoints: Istio's, and our own.
const CLASSES: [&str; 3] = ["weir-waypoint", "istio-waypoint", "istio-agentgateway-waypoint"];
/// The label that binds. Istio `istio.io/use-waypoint`.
const USE: &str = "istio.io/use-waypoint";

/// Does what is asked.
///
/// # Errors
/// What the cluster, or the waypoint, has against it.
pub(crate) async fn run(task: &Waypoint, out: &mut Out<'_>) -> Result<u8> {
    match task {
        Waypoint::List { namespace, place } => every(place, namespace.as_deref(), out).await,
        Waypoint::Status(of) => status(of, out).await,
        Waypoint::Config(of) => config(of, out).await,
        Waypoint::Apply { wish, enroll_namespace, overwrite, place } => {
            let force = if *overwrite { Force::Yes } else { Force::No };
            apply(wish, *enroll_namespace, force, place, out).await
        }
        Waypoint::Delete(of) => delete(of, out).await,
        Waypoint::Generate { wish } => {
            out.text(&yaml(&gateway(wish, wish.namespace.as_deref().unwrap_or("default"))))?;
            Ok(0)
        }
    }
}

/// Whether a Gateway is a waypoint.
pub(crate) fn is_waypoint(gateway: &Value) -> bool {
    CLASSES.contains(&at(gateway, "/spec/gatewayClassName"))
}

/// Whether it was made and runs, as its status says; else why not.
///
/// # Errors
/// Why not.
pub(crate) fn programmed(gateway: &Value) -> Result<(), String> {
    let conditions = list(gateway, "/status/conditions");
    let find = |kind: &str| conditions.iter().find(|one| at(one, "/type") == kind);
    for kind in ["Accepted", "Programmed"] {
        match find(kind) {
            Some(one) if at(one, "/status") == "True" => {}
            Some(one) => {
                return Err(format!(
                    "{kind} is {}: {}: {}",
                    at(one, "/status"),
                    at(one, "/reason"),
                    at(one, "/message")
                ));
            }
            None => return Err(format!("nobody says whether it is {kind}: does weir-control run?")),
        }
    }
    Ok(())
}

fn path(namespace: &str, name: &str) -> String {
    format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways/{name}")
}

fn is_for(gateway: &Value) -> &str {
    match at(gateway, "/metadata/labels/istio.io~1waypoint-for") {
        "-" => "service",
        said => said,
    }
}

async fn every(place: &Place, namespace: Option<&str>, out: &mut Out<'_>) -> Result<u8> {
    let cluster = place.cluster().await?;
    let at_path = match namespace {
        Some(namespace) => format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways"),
        None => GATEWAYS.to_owned(),
    };
    let mut all = List::new(&["NAMESPACE", "NAME", "CLASS", "FOR", "READY", "WHY NOT"]);
    let known = cluster
        .each_known(&at_path, |gateway| {
            if !is_waypoint(gateway) {
                return Ok(());
            }
            let why = programmed(gateway).err();
            let item = json!({
                "namespace": at(gateway, "/metadata/namespace"),
                "name": at(gateway, "/metadata/name"),
                "class": at(gateway, "/spec/gatewayClassName"),
                "for": is_for(gateway),
                "ready": why.is_none(),
                "reason": why,
            });
            all.items(out, &[item], |one| {
                let ready = one["ready"] == json!(true);
                let state = if ready { Cell::new("yes", Tone::Good) } else { Cell::new("no", Tone::Bad) };
                let text = |key: &str| Cell::from(at(one, key));
                vec![text("/namespace"), text("/name"), text("/class"), text("/for"), state, text("/reason")]
            })
        })
        .await?;
    if !known {
        bail!(
            "{} has no Gateways: install the CRDs of the Gateway API first (gateway-api.sigs.k8s.io/guides)",
            cluster.url()
        );
    }
    all.end(out, "no waypoint: weirctl waypoint apply makes one")?;
    Ok(0)
}

/// The waypoint of that name.
async fn found(cluster: &Cluster, namespace: &str, name: &str) -> Result<Value> {
    if let Some(gateway) = cluster.get(&path(namespace, name)).await? {
        if !is_waypoint(&gateway) {
            bail!(
                "Gateway {namespace}/{name} is of class {}, which makes no waypoint",
                at(&gateway, "/spec/gatewayClassName")
            );
        }
        return Ok(gateway);
    }
    let mut names = Vec::new();
    let known = cluster
        .each_known(GATEWAYS, |gateway| {
            names.push(format!("{}/{}", at(gateway, "/metadata/namespace"), at(gateway, "/metadata/name")));
            Ok(())
        })
        .await?;
    let meant = nearest(&format!("{namespace}/{name}"), names);
    match known {
        true => {
            bail!("there is no Gateway {namespace}/{name}{}; weirctl waypoint apply makes one", hint(meant.as_deref()))
        }
        false => bail!("{} has no Gateways: install the CRDs of the Gateway API first", cluster.url()),
    }
}

async fn status(of: &Named, out: &mut Out<'_>) -> Result<u8> {
    let cluster = of.place.cluster().await?;
    let (namespace, name) = named(&of.name, cluster.namespace());
    let gateway = found(&cluster, namespace, name).await?;
    let pods = cluster.pods_of(namespace, name).await?;
    let mut why = programmed(&gateway).err();
    if pods.is_empty() && why.is_none() {
        why = Some("no pod of it runs".to_owned());
    }
    match out.format {
        Format::Table => {
            match &why {
                None => out.toned(&format!("waypoint {namespace}/{name} is ready"), Tone::Good)?,
                Some(why) => out.toned(&format!("waypoint {namespace}/{name} is not ready: {why}"), Tone::Bad)?,
            }
            out.line(&format!("for {}, of class {}", is_for(&gateway), at(&gateway, "/spec/gatewayClassName")))?;
            for one in list(&gateway, "/status/conditions") {
                out.line(&format!("  {} is {}: {}", at(one, "/type"), at(one, "/status"), at(one, "/message")))?;
            }
            let rows: Vec<Vec<Cell>> = pods
                .iter()
                .map(|pod| {
                    let state = match &pod.unready {
                        None => Cell::new("ready", Tone::Good),
                        Some(why) => Cell::new(why, Tone::Bad),
                    };
                    vec![pod.pod.as_str().into(), pod.node.as_str().into(), state]
                })
                .collect();
            if !rows.is_empty() {
                Table::new(&["POD", "NODE", "STATE"]).rows(out, &rows)?;
            }
        }
        Format::Json | Format::Yaml => {
            let pods: Vec<_> =
                pods.iter().map(|pod| json!({ "name": pod.pod, "node": pod.node, "unready": pod.unready })).collect();
            let conditions = gateway.pointer("/status/conditions");
            out.value(&json!({
                "namespace": namespace, "name": name, "ready": why.is_none(), "reason": why, "conditions": conditions, "pods": pods,
            }))?;
        }
    }
    Ok(u8::from(why.is_some()))
}

/// The admin servers of a waypoint.
async fn servers(of: &Named) -> Result<Vec<Server>> {
    if !of.place.admin.is_empty() {
        return Ok(of.place.admin.iter().map(|url| Server::Url(url.clone())).collect());
    }
    let cluster = of.place.cluster().await?;
    let (namespace, name) = named(&of.name, cluster.namespace());
    found(&cluster, namespace, name).await?;
    let pods = cluster.pods_of(namespace, name).await?;
    if pods.is_empty() {
        bail!("no pod of waypoint {namespace}/{name} runs: weirctl waypoint status {namespace}/{name} says why");
    }
    Ok(Live::of(cluster, pods).all().await.into_iter().map(|one| one.server).collect())
}

async fn config(of: &Named, out: &mut Out<'_>) -> Result<u8> {
    let servers = servers(of).await?;
    let first = servers.first().context("no waypoint is named")?;
    let dump = first.ask("/config_dump", &[]).await?;
    if at(&dump, "/gateway") == "-" {
        bail!("{first} is no waypoint: what agents know is asked by weirctl agent");
    }
    let (namespace, name) = named(&of.name, "default");
    if !of.place.admin.is_empty() && at(&dump, "/gateway") != format!("{namespace}/{name}") {
        bail!("{first} is the waypoint {}, not {namespace}/{name}: ask for that one", at(&dump, "/gateway"));
    }
    if out.format != Format::Table {
        out.value(&dump)?;
        return Ok(0);
    }
    let config = |key: &str| dump.pointer(&format!("/config/{key}"));
    out.line(&format!(
        "waypoint {}, version {}, configuration {} of {}",
        at(&dump, "/gateway"),
        at(&dump, "/version"),
        config("generation").map(ToString::to_string).unwrap_or_default(),
        at(&dump, "/config/loadedAt"),
    ))?;
    for (key, tone) in [("errors", Tone::Bad), ("withoutEffect", Tone::Doubtful), ("findings", Tone::Doubtful)] {
        for line in list(&dump, &format!("/config/{key}")).iter().filter_map(Value::as_str) {
            out.toned(&format!("  {line}"), tone)?;
        }
    }
    let row = |host: &Value| {
        let routes: Vec<String> = list(host, "/routes")
            .iter()
            .map(|route| {
                let rules = route["rules"].as_u64().unwrap_or_default();
                format!(
                    "{} {}/{} ({})",
                    at(route, "/kind"),
                    at(route, "/namespace"),
                    at(route, "/name"),
                    counted(rules, "rule")
                )
            })
            .collect();
        let subsets: Vec<&str> = list(host, "/subsets").iter().filter_map(Value::as_str).collect();
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let refused = at(host, "/refused");
        vec![
            Cell::from(at(host, "/service")),
            or_none(routes.join(", ")).into(),
            at(host, "/destinationRule").into(),
            or_none(subsets.join(",")).into(),
            Cell::new(refused, if refused == "-" { Tone::Plain } else { Tone::Bad }),
        ]
    };
    let mut all = List::new(&["SERVICE", "ROUTES", "DESTINATION RULE", "SUBSETS", "REFUSED"]);
    all.items(out, list(&dump, "/hosts"), row)?;
    all.end(out, "it serves no host")?;
    Ok(0)
}

/// The Gateway of a waypoint. Gateway API v1, as Istio's `istioctl waypoint` makes it.
fn gateway(wish: &Wish, namespace: &str) -> Value {
    let serves = wish.serves.map(|serves| match serves {
        For::Service => "service",
        For::Workload => "workload",
        For::All => "all",
        For::None => "none",
    });
    let mut metadata = json!({ "name": wish.name, "namespace": namespace });
    if let Some(serves) = serves {
        metadata["labels"] = json!({ "istio.io/waypoint-for": serves });
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {
            "gatewayClassName": wish.class,
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
        },
    })
}

async fn apply(wish: &Wish, enroll: bool, force: Force, place: &Place, out: &mut Out<'_>) -> Result<u8> {
    let cluster = place.cluster().await?;
    let namespace = wish.namespace.as_deref().unwrap_or(cluster.namespace());
    let at_namespace = format!("/api/v1/namespaces/{namespace}");
    if cluster.get(&at_namespace).await?.is_none() {
        let mut names = Vec::new();
        cluster
            .each("/api/v1/namespaces", |one| {
                names.push(at(one, "/metadata/name").to_owned());
                Ok(())
            })
            .await?;
        let meant = nearest(namespace, names);
        bail!("there is no namespace {namespace}{}", hint(meant.as_deref()));
    }
    cluster.apply(&path(namespace, &wish.name), &gateway(wish, namespace), force).await?;
    out.line(&format!("waypoint {namespace}/{} applied", wish.name))?;
    if enroll {
        cluster.merge(&at_namespace, &json!({ "metadata": { "labels": { USE: wish.name } } })).await?;
        out.line(&format!(
            "namespace {namespace} labelled {USE}={}: all in it is reached through the waypoint",
            wish.name
        ))?;
    } else {
        out.line(&format!(
            "nothing uses it until it is labelled: kubectl label namespace {namespace} {USE}={}",
            wish.name
        ))?;
    }
    Ok(0)
}

async fn delete(of: &Named, out: &mut Out<'_>) -> Result<u8> {
    let cluster = of.place.cluster().await?;
    let (namespace, name) = named(&of.name, cluster.namespace());
    found(&cluster, namespace, name).await?;
    if !cluster.delete(&path(namespace, name)).await? {
        bail!("waypoint {namespace}/{name} was deleted by somebody else meanwhile");
    }
    out.line(&format!("waypoint {namespace}/{name} deleted"))?;
    let bound = cluster.get(&format!("/api/v1/namespaces/{namespace}")).await?;
    if bound.is_some_and(|bound| at(&bound, "/metadata/labels/istio.io~1use-waypoint") == name) {
        let text = format!(
            "namespace {namespace} still names it, so what is in it is refused: kubectl label namespace {namespace} {USE}-"
        );
        out.toned(&text, Tone::Doubtful)?;
    }
    Ok(0)
}
