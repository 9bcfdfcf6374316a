//! A pod.

use anyhow::{Context, Result};
use serde_json::Value;
use weir_explain::{Scene, listing};
use weir_model::WorkloadUid;
use weir_world::Thing;

use super::{
    Described,
    known::{Known, What, Whom},
};
use crate::{
    agents::{of_node, waypoint_of},
    cli::Named,
    cluster::Cluster,
    out::{Tone, at, list},
    place::Answered,
    scene::Manifests,
    status::{misspelt, wanted},
};

/// Policies of which more is said than their names.
const POLICIES: usize = 50;
/// Services that are looked through.
const SERVICES: usize = 10_000;

/// All about it.
///
/// # Errors
/// If there is none.
pub(super) async fn describe(of: &Named) -> Result<Described> {
    let known = Known::of(&of.place, Whom::Agents).await?;
    let (namespace, name) = known.meant(of);
    let pod = known.one(What::Workloads, &namespace, &name).await?;
    let (namespace, name) = (at(&pod, "/namespace").to_owned(), at(&pod, "/name").to_owned());
    let mut told = Described::new("Pod", &namespace, &name);
    let caught = at(&pod, "/protocol") == "HBONE";
    match caught {
        true => told.toned("in the mesh", "yes", Tone::Good),
        false => told.toned("in the mesh", "no: it is reached in plaintext", Tone::Doubtful),
    }
    let identity = format!("spiffe://{}/ns/{namespace}/sa/{}", at(&pod, "/trustDomain"), at(&pod, "/serviceAccount"));
    match &known {
        Known::Folder(folder) => of_folder(folder, &pod, &mut told)?,
        Known::Live { cluster, agents, .. } => {
            if let Some(cluster) = cluster {
                labels(cluster, &namespace, &name, &mut told).await?;
            }
            of_agent(agents, &pod, &identity, &mut told);
        }
    }
    told.fact("node", at(&pod, "/node"));
    let addresses: Vec<&str> = list(&pod, "/workloadIps").iter().filter_map(Value::as_str).collect();
    told.fact("addresses", addresses.join(", "));
    told.fact("identity", identity);
    if at(&pod, "/unsupported") != "-" {
        told.toned("not reached", at(&pod, "/unsupported"), Tone::Bad);
    }
    services(&known, &pod, &mut told).await?;
    if let Known::Live { agents, .. } = &known {
        policies(&known, agents, &pod, &mut told).await?;
    }
    Ok(told)
}

/// What manifests say beside it.
fn of_folder(folder: &Manifests, pod: &Value, told: &mut Described) -> Result<()> {
    let uid: WorkloadUid = at(pod, "/uid").parse().context("the workload's uid")?;
    let world = folder.world();
    if let Some(why) = folder.enrolled_by(&uid) {
        told.fact("because", why);
    }
    bound(pod, Scene::binding(folder, &Thing::Workload(uid.clone())), told);
    let Some(workload) = world.workload(&uid) else { return Ok(()) };
    let statuses = folder.statuses();
    let mut any = false;
    for policy in world.policies().filter(|policy| listing::covers(policy, &workload)) {
        any = true;
        let (kind, namespace, name) =
            (policy.source.kind.to_string(), policy.name.namespace.as_str(), &*policy.source.name);
        let status = statuses.iter().find(|one| one.kind == kind && one.namespace == namespace && one.name == name);
        let enforced = status.map_or_else(|| format!("{kind} {namespace}/{name}"), ToString::to_string);
        told.fact("policy", enforced);
    }
    if !any {
        told.fact("policy", "none covers it: whoever reaches it may enter");
    }
    Ok(())
}

fn bound(thing: &Value, why: Option<String>, told: &mut Described) {
    match waypoint_of(thing).as_str() {
        "-" => {}
        waypoint => {
            told.fact("waypoint", format!("{waypoint}{}", why.map(|why| format!(", {why}")).unwrap_or_default()))
        }
    }
}

/// What its labels and those of its namespace ask for.
async fn labels(cluster: &Cluster, namespace: &str, name: &str, told: &mut Described) -> Result<()> {
    let own = cluster.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await?;
    let space = cluster.get(&format!("/api/v1/namespaces/{namespace}")).await?.unwrap_or_default();
    let Some(own) = own else { return Ok(()) };
    let mode = Some(at(&space, "/metadata/labels/istio.io~1dataplane-mode")).filter(|mode| *mode != "-");
    match wanted(&own, mode) {
        Ok(()) if at(&own, "/metadata/labels/istio.io~1dataplane-mode") == "ambient" => {
            told.fact("because", "its own label istio.io/dataplane-mode=ambient");
        }
        Ok(()) => told.fact("because", format!("the label istio.io/dataplane-mode=ambient of Namespace {namespace}")),
        Err(why) => told.toned("because", why, Tone::Doubtful),
    }
    for (object, whose) in [(&own, "pod"), (&space, "namespace")] {
        for slip in misspelt(&object["metadata"]["labels"]) {
            told.toned("label", format!("of its {whose}: {slip}"), Tone::Bad);
        }
    }
    let uses = |object: &Value| {
        Some(at(object, "/metadata/labels/istio.io~1use-waypoint").to_owned()).filter(|text| text != "-")
    };
    let use_of = uses(&own).map(|name| (name, "its own label".to_owned()));
    let use_of = use_of.or(uses(&space).map(|name| (name, format!("the label of Namespace {namespace}"))));
    if let Some((waypoint, whose)) = use_of {
        told.fact("uses", format!("waypoint {waypoint}, by {whose} istio.io/use-waypoint"));
    }
    Ok(())
}

/// What the agent of its node says.
fn of_agent(agents: &[Answered], pod: &Value, identity: &str, told: &mut Described) {
    let node = at(pod, "/node");
    let Some(Ok(summary)) = of_node(agents, node).map(|agent| &agent.summary) else {
        return told.toned(
            "caught",
            format!("not known: the agent of {node} was not asked, or does not answer"),
            Tone::Doubtful,
        );
    };
    let own = list(summary, "/pods").iter().find(|one| at(one, "/uid") == at(pod, "/uid"));
    match own.map(|own| (at(own, "/state"), at(own, "/reason"))) {
        None => told.toned("caught", format!("no: the agent of {node} does not know it"), Tone::Bad),
        Some(("Enrolled", _)) => told.toned("caught", format!("by the agent of {node}"), Tone::Good),
        Some(("Failing", why)) => told.toned("caught", format!("no: {why}"), Tone::Bad),
        Some((state, "-")) => told.fact("caught", format!("no: {state}")),
        Some((_, why)) => told.fact("caught", format!("no: {why}")),
    }
    bound(pod, None, told);
    let held = list(summary, "/certificates")
        .iter()
        .find(|one| identity == format!("spiffe://{}", at(one, "/identity").trim_start_matches("spiffe://")));
    match held {
        Some(held) if at(held, "/state") == "Valid" => {
            told.toned("certificate", format!("valid until {}", at(held, "/expirationTime")), Tone::Good);
        }
        Some(held) => {
            told.toned("certificate", format!("{}: {}", at(held, "/state"), at(held, "/lastFailure")), Tone::Bad)
        }
        None => {}
    }
}

async fn services(known: &Known, pod: &Value, told: &mut Described) -> Result<()> {
    let all = known.items(What::Services, Some(at(pod, "/namespace")), None, SERVICES).await?;
    for service in &all {
        let own = list(service, "/endpoints").iter().find(|one| at(one, "/workloadUid") == at(pod, "/uid"));
        let Some(own) = own else { continue };
        let ports: Vec<String> =
            list(own, "/ports").iter().map(|port| format!("{} -> {}", port["service"], port["target"])).collect();
        let through = match waypoint_of(service).as_str() {
            "-" => String::new(),
            waypoint => format!(", through waypoint {waypoint}"),
        };
        told.fact("service", format!("{} ({}){through}", at(service, "/hostname"), ports.join(", ")));
    }
    Ok(())
}

/// Policies the agent of its node enforces on it.
async fn policies(known: &Known, agents: &[Answered], pod: &Value, told: &mut Described) -> Result<()> {
    let Some(Ok(summary)) = of_node(agents, at(pod, "/node")).map(|agent| &agent.summary) else { return Ok(()) };
    let own = list(summary, "/pods").iter().find(|one| at(one, "/uid") == at(pod, "/uid"));
    let names: Vec<&str> =
        own.map(|own| list(own, "/policies")).unwrap_or_default().iter().filter_map(Value::as_str).collect();
    if names.is_empty() {
        told.fact("policy", "none covers it at its agent: whoever reaches it may enter");
    }
    for name in names.iter().take(POLICIES) {
        let (namespace, own) = name.split_once('/').unwrap_or(("", name));
        let found = known.items(What::Policies, Some(namespace), Some(own), 1).await?;
        match found.first() {
            Some(policy) => {
                let rejected = match at(policy, "/rejected") {
                    "-" => String::new(),
                    why => format!(", denies all: {why}"),
                };
                let dry = if policy["dryRun"] == Value::Bool(true) { ", dry run" } else { "" };
                let (kind, source, action) = (at(policy, "/kind"), at(policy, "/source"), at(policy, "/action"));
                told.fact("policy", format!("{kind} {namespace}/{source}: {action}, at its agent{dry}{rejected}"));
            }
            None => told.fact("policy", (*name).to_owned()),
        }
    }
    if names.len() > POLICIES {
        told.fact("policy", format!("and {} more", names.len() - POLICIES));
    }
    Ok(())
}
