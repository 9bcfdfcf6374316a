//! Where a thing is looked up: in a folder, or with the agents that run.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::Value;
use weir_explain::{
    Scene,
    listing::{self, Part},
};
use weir_model::{hint, nearest};
use weir_world::World;

use crate::{
    agents::{query, warn},
    cli::{Named, Place, Wanted},
    cluster::Cluster,
    out::{at, list},
    place::{Answered, named},
    scene::Manifests,
};

/// Names that are compared where one is not there.
const COMPARED: usize = 1_000;

/// Whoever knows.
pub(super) enum Known {
    Folder(Box<Manifests>),
    Live { cluster: Option<Arc<Cluster>>, agents: Vec<Answered>, waypoints: Vec<Answered> },
}

/// Who is asked of what runs.
#[derive(Clone, Copy)]
pub(super) enum Whom {
    Agents,
    WaypointsToo,
}

/// A list.
#[derive(Clone, Copy)]
pub(super) enum What {
    Workloads,
    Services,
    Policies,
}

impl Known {
    /// Whoever knows of the place.
    ///
    /// # Errors
    /// If nobody does.
    pub(super) async fn of(place: &Place, whom: Whom) -> Result<Self> {
        if place.mesh.manifests.is_some() {
            return Ok(Self::Folder(Box::new(place.folder()?)));
        }
        let live = match whom {
            Whom::Agents => place.live().await?,
            Whom::WaypointsToo => place.everybody().await?,
        };
        let live = live.but("weir-control");
        let cluster = live.cluster.clone();
        let (mut agents, mut waypoints, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for one in live.all().await {
            match (&one.summary, one.component()) {
                (Ok(_), "weir-agent") => agents.push(one),
                (Ok(_), "weir-waypoint") => waypoints.push(one),
                (Ok(_), _) => {}
                (Err(error), _) => failed.push(format!("{error:#}")),
            }
        }
        if agents.is_empty() {
            failed.push("no agent answers, and agents know where pods are".to_owned());
            bail!(failed.join("\n"));
        }
        failed.into_iter().for_each(warn);
        Ok(Self::Live { cluster, agents, waypoints })
    }

    /// The namespace and the name somebody means.
    pub(super) fn meant(&self, of: &Named) -> (String, String) {
        let usual = match self {
            Self::Live { cluster: Some(cluster), .. } => cluster.namespace(),
            Self::Live { cluster: None, .. } | Self::Folder(_) => "default",
        };
        let (namespace, name) = named(&of.name, usual);
        (namespace.to_owned(), name.to_owned())
    }

    /// At most so many items of a list.
    pub(super) async fn items(
        &self,
        what: What,
        namespace: Option<&str>,
        name: Option<&str>,
        most: usize,
    ) -> Result<Vec<Value>> {
        let (mut items, mut after): (Vec<Value>, Option<String>) = (Vec::new(), None);
        loop {
            let answer = match self {
                Self::Folder(folder) => {
                    let part = Part::read([namespace, name, after.as_deref(), None]).map_err(anyhow::Error::msg)?;
                    what.of(folder.world(), &part)
                }
                Self::Live { agents, .. } => {
                    let wanted = Wanted { namespace: namespace.map(str::to_owned), name: name.map(str::to_owned) };
                    let Some(agent) = agents.first() else { bail!("no agent answers") };
                    agent.server.ask(what.path(), &query(&wanted, after.as_deref())).await?
                }
            };
            items.extend(list(&answer, "/items").iter().cloned());
            match answer["next"].as_str() {
                Some(next) if items.len() < most && Some(next) != after.as_deref() => after = Some(next.to_owned()),
                Some(_) | None => return Ok(items),
            }
        }
    }

    /// The one of that name.
    ///
    /// # Errors
    /// If there is none: which one may have been meant.
    pub(super) async fn one(&self, what: What, namespace: &str, name: &str) -> Result<Value> {
        let found = self.items(what, Some(namespace), Some(name), 1).await?;
        // A workload is found by its Deployment's name, too.
        if let Some(one) = found.iter().find(|one| at(one, "/name") == name).or(found.first()) {
            return Ok(one.clone());
        }
        let full = |one: &Value| format!("{}/{}", at(one, "/namespace"), at(one, "/name"));
        let own: Vec<String> = self.items(what, Some(namespace), None, COMPARED).await?.iter().map(full).collect();
        let all = match own.is_empty() {
            true => self.items(what, None, None, COMPARED).await?.iter().map(full).collect(),
            false => own.clone(),
        };
        let meant = nearest(&format!("{namespace}/{name}"), all);
        let where_ =
            if own.is_empty() { format!("; the mesh knows nothing in namespace {namespace}") } else { String::new() };
        bail!("there is no {} {namespace}/{name}{}{where_}", what.noun(), hint(meant.as_deref()))
    }
}

impl What {
    fn noun(self) -> &'static str {
        match self {
            Self::Workloads => "pod",
            Self::Services => "service",
            Self::Policies => "policy",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Workloads => "/debug/workloads",
            Self::Services => "/debug/services",
            Self::Policies => "/debug/policies",
        }
    }

    fn of(self, world: &World, part: &Part) -> Value {
        match self {
            Self::Workloads => listing::workloads(world, part),
            Self::Services => listing::services(world, part),
            Self::Policies => listing::policies(world, part),
        }
    }
}
