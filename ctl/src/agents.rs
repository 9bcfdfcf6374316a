//! `weirctl agent`: what agents know and do.

use anyhow::{Result, bail};
use futures_util::{StreamExt, stream};
use hyper::Method;
use serde_json::{Value, json};
use weir_explain::listing::{self, Part};
use weir_world::World;

use crate::{
    cli::{Agent, Log, OfAgents, Wanted},
    out::{Cell, List, Out, Tone, at, list, number},
    place::{Answered, Seen},
};

/// Agents that are asked at once.
const AT_ONCE: usize = 16;

/// A list of which an agent answers one part after the other.
struct Listing {
    path: &'static str,
    head: &'static [&'static str],
    row: fn(&Value) -> Vec<Cell>,
    /// The same of a folder.
    of: fn(&World, &Part) -> Value,
    nothing: &'static str,
}

const WORKLOADS: Listing = Listing {
    path: "/debug/workloads",
    head: &["NAMESPACE", "WORKLOAD", "ADDRESSES", "NODE", "WAYPOINT", "PROTOCOL", "STATUS"],
    row: workload,
    of: listing::workloads,
    nothing: "no workloads",
};
const SERVICES: Listing = Listing {
    path: "/debug/services",
    head: &["NAMESPACE", "SERVICE", "ADDRESSES", "PORTS", "WAYPOINT", "ENDPOINTS"],
    row: service,
    of: listing::services,
    nothing: "no services",
};
const POLICIES: Listing = Listing {
    path: "/debug/policies",
    head: &["NAMESPACE", "POLICY", "KIND", "ACTION", "SCOPE", "RULES", "STATE"],
    row: policy,
    of: listing::policies,
    nothing: "no policies",
};

/// Does what is asked.
///
/// # Errors
/// If no agent answers it.
pub(crate) async fn run(task: &Agent, out: &mut Out<'_>) -> Result<u8> {
    match task {
        Agent::Workloads(of) => listed(of, &WORKLOADS, out).await,
        Agent::Services(of) => listed(of, &SERVICES, out).await,
        Agent::Policies(of) => listed(of, &POLICIES, out).await,
        Agent::Connections(of) => connections(of, out).await,
        Agent::Certificates(of) => certificates(of, out).await,
        Agent::Log(log) => logging(log, out).await,
    }?;
    Ok(0)
}

/// The query for a part.
pub(crate) fn query(wanted: &Wanted, after: Option<&str>) -> Vec<(&'static str, String)> {
    let fields = [("namespace", wanted.namespace.as_deref()), ("name", wanted.name.as_deref()), ("after", after)];
    fields.into_iter().filter_map(|(field, value)| Some((field, value?.to_owned()))).collect()
}

/// A list that every agent has: one is asked.
async fn listed(of: &OfAgents, what: &Listing, out: &mut Out<'_>) -> Result<()> {
    let mut all = List::new(what.head);
    match of.place.seen().await? {
        Seen::Folder(folder) => {
            let OfAgents { wanted: Wanted { namespace, name }, .. } = of;
            let mut after: Option<String> = None;
            loop {
                let fields = [namespace.as_deref(), name.as_deref(), after.as_deref(), None];
                let part = Part::read(fields).map_err(anyhow::Error::msg)?;
                let answer = (what.of)(weir_explain::Scene::world(&*folder), &part);
                all.items(out, list(&answer, "/items"), what.row)?;
                match answer["next"].as_str() {
                    Some(next) => after = Some(next.to_owned()),
                    None => break,
                }
            }
        }
        Seen::Live(live) => {
            let agents = live.agents(of.node.as_deref(), &mut warn).await?;
            let Some(agent) = agents.first() else { bail!("no agent is there") };
            let mut after: Option<String> = None;
            loop {
                let answer = agent.server.ask(what.path, &query(&of.wanted, after.as_deref())).await?;
                all.items(out, list(&answer, "/items"), what.row)?;
                match answer["next"].as_str() {
                    Some(next) if Some(next) != after.as_deref() => after = Some(next.to_owned()),
                    Some(_) | None => break,
                }
            }
        }
    }
    all.end(out, what.nothing)
}

/// What is told beside the answer.
pub(crate) fn warn(text: String) {
    eprintln!("weirctl: {}", crate::out::shown(&text));
}

fn addresses(value: &Value, pointer: &str) -> String {
    let all: Vec<&str> = list(value, pointer).iter().filter_map(Value::as_str).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

pub(crate) fn waypoint_of(value: &Value) -> String {
    match value.pointer("/waypoint/destination") {
        Some(Value::String(address)) => address.clone(),
        Some(service @ Value::Object(_)) => {
            let host = at(service, "/hostname");
            format!("{}/{}", at(service, "/namespace"), host.split('.').next().unwrap_or(host))
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => "-".to_owned(),
    }
}

fn workload(one: &Value) -> Vec<Cell> {
    let healthy = at(one, "/status");
    vec![
        at(one, "/namespace").into(),
        at(one, "/name").into(),
        addresses(one, "/workloadIps").into(),
        at(one, "/node").into(),
        waypoint_of(one).into(),
        at(one, "/protocol").into(),
        Cell::new(healthy, if healthy == "Healthy" { Tone::Good } else { Tone::Bad }),
    ]
}

fn service(one: &Value) -> Vec<Cell> {
    let endpoints = list(one, "/endpoints");
    let ready = endpoints.iter().filter(|endpoint| endpoint["ready"] == json!(true)).count();
    let ports: Vec<String> = list(one, "/ports").iter().map(ToString::to_string).collect();
    let vips: Vec<&str> = list(one, "/vips").iter().filter_map(Value::as_str).map(plain).collect();
    let tone = if ready == 0 { Tone::Bad } else { Tone::Plain };
    vec![
        at(one, "/namespace").into(),
        at(one, "/name").into(),
        if vips.is_empty() { "-".into() } else { vips.join(",").into() },
        ports.join(",").into(),
        waypoint_of(one).into(),
        Cell::new(&format!("{ready}/{}", endpoints.len()), tone),
    ]
}

/// An address without the default network before it and the length of a host behind it.
pub(crate) fn plain(vip: &str) -> &str {
    let vip = vip.strip_prefix('/').unwrap_or(vip);
    vip.strip_suffix("/32").or(vip.strip_suffix("/128")).unwrap_or(vip)
}

fn policy(one: &Value) -> Vec<Cell> {
    let state = match (at(one, "/rejected"), one["dryRun"] == json!(true)) {
        ("-", false) => Cell::new("enforced", Tone::Good),
        ("-", true) => Cell::new("dry run", Tone::Doubtful),
        (why, _) => Cell::new(&format!("denies all: {why}"), Tone::Bad),
    };
    vec![
        at(one, "/namespace").into(),
        at(one, "/source").into(),
        at(one, "/kind").into(),
        at(one, "/action").into(),
        at(one, "/scope").into(),
        list(one, "/rules").len().to_string().into(),
        state,
    ]
}

/// Who an end of a connection is.
pub(crate) fn end(value: &Value, pointer: &str) -> String {
    let Some(end) = value.pointer(pointer) else { return "-".to_owned() };
    match (at(end, "/namespace"), at(end, "/workload"), at(end, "/identity"), at(end, "/address")) {
        ("-", _, "-", address) | (_, "-", "-", address) => address.to_owned(),
        (_, "-", identity, _) => identity.strip_prefix("spiffe://").unwrap_or(identity).to_owned(),
        (namespace, workload, _, _) => format!("{namespace}/{workload}"),
    }
}

async fn connections(of: &OfAgents, out: &mut Out<'_>) -> Result<()> {
    let agents = of.place.live().await?.agents(of.node.as_deref(), &mut warn).await?;
    let mut all = List::new(&["NODE", "DIRECTION", "FROM", "TO", "ADDRESS", "PROTOCOL", "AGE", "SENT", "RECEIVED"]);
    for agent in &agents {
        let mut after: Option<String> = None;
        loop {
            let answer = agent.server.ask("/debug/connections", &query(&of.wanted, after.as_deref())).await?;
            let items = on_node(&answer, "/items", &agent.name());
            all.items(out, &items, |one| {
                vec![
                    at(one, "/node").into(),
                    at(one, "/direction").into(),
                    end(one, "/source").into(),
                    end(one, "/destination").into(),
                    at(one, "/destination/address").into(),
                    at(one, "/protocol").into(),
                    format!("{}s", number(one, "/seconds")).into(),
                    number(one, "/bytesSent").to_string().into(),
                    number(one, "/bytesReceived").to_string().into(),
                ]
            })?;
            match answer["next"].as_str() {
                Some(next) if Some(next) != after.as_deref() => after = Some(next.to_owned()),
                Some(_) | None => break,
            }
        }
    }
    all.end(out, "no connection is open")
}

/// Items of an answer with the node they are of before all else.
fn on_node(answer: &Value, pointer: &str, node: &str) -> Vec<Value> {
    let with = |item: &Value| {
        let mut fields = serde_json::Map::new();
        fields.insert("node".to_owned(), node.into());
        fields.extend(item.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(fields)
    };
    list(answer, pointer).iter().map(with).collect()
}

async fn certificates(of: &OfAgents, out: &mut Out<'_>) -> Result<()> {
    let agents = of.place.live().await?.agents(of.node.as_deref(), &mut warn).await?;
    let mut all = List::new(&["NODE", "IDENTITY", "STATE", "SERIAL NUMBER", "VALID FROM", "EXPIRES", "LAST FAILURE"]);
    for agent in &agents {
        let Ok(summary) = &agent.summary else { continue };
        let mut items = on_node(summary, "/certificates", &agent.name());
        items.retain(|item| {
            let mut parts = at(item, "/identity").rsplit('/');
            let (account, _, namespace) = (parts.next(), parts.next(), parts.next());
            of.wanted.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
                && of.wanted.name.as_deref().is_none_or(|wanted| account == Some(wanted))
        });
        all.items(out, &items, |one| {
            let state = at(one, "/state");
            vec![
                at(one, "/node").into(),
                at(one, "/identity").into(),
                Cell::new(state, if state == "Valid" { Tone::Good } else { Tone::Bad }),
                at(one, "/serialNumber").into(),
                at(one, "/validFrom").into(),
                at(one, "/expirationTime").into(),
                at(one, "/lastFailure").into(),
            ]
        })?;
    }
    all.end(out, "no certificate is held")
}

/// Shows or sets log filters.
async fn logging(log: &Log, out: &mut Out<'_>) -> Result<()> {
    let agents = log.place.live().await?.agents(log.node.as_deref(), &mut warn).await?;
    let query: Vec<(&str, String)> = log.filter.iter().map(|filter| ("level", filter.clone())).collect();
    let method = if query.is_empty() { Method::GET } else { Method::POST };
    let asked = agents
        .iter()
        .map(|agent| async { (agent.name(), agent.server.send(method.clone(), "/logging", &query).await) });
    let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut all = List::new(&["NODE", "FILTER"]);
    for (node, answer) in answers {
        let (status, body) = answer?;
        if status != 200 {
            bail!("the agent of {node} answers {status}: {}", body.trim());
        }
        let filter = body.trim().strip_prefix("current log filter: ").unwrap_or(body.trim());
        let item = json!({ "node": node, "filter": filter });
        all.items(out, &[item], |one| vec![at(one, "/node").into(), at(one, "/filter").into()])?;
    }
    all.end(out, "no agent is there")
}

/// The agent of a node among some.
pub(crate) fn of_node<'a>(agents: &'a [Answered], node: &str) -> Option<&'a Answered> {
    agents.iter().find(|agent| agent.name() == node)
}
