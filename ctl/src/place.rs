//! The mesh that is looked at: what a folder says, or programs that run.

use std::{sync::Arc, time::SystemTime};

use anyhow::{Result, bail};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::{
    agents::warn,
    cli::Place,
    cluster::{Cluster, Program},
    folder,
    live::Server,
    out::at,
    scene::Manifests,
};

/// Programs that are asked at once.
const AT_ONCE: usize = 16;

/// A mesh.
pub(crate) enum Seen {
    /// As manifests of a folder say.
    Folder(Box<Manifests>),
    /// As it runs.
    Live(Live),
}

/// Programs that run, and their cluster if they are looked for in one.
pub(crate) struct Live {
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Those that were found, or named.
    servers: Vec<(Server, Option<Program>)>,
}

/// A program that answered, or why it did not.
pub(crate) struct Answered {
    pub(crate) server: Server,
    /// What the cluster says of it.
    pub(crate) program: Option<Program>,
    pub(crate) summary: Result<Value>,
}

impl Answered {
    /// The program it is: `weir-agent` and so on.
    pub(crate) fn component(&self) -> &str {
        match (&self.summary, &self.program) {
            (Ok(summary), _) => at(summary, "/component"),
            (Err(_), Some(program)) => program.component,
            (Err(_), None) => "-",
        }
    }

    /// What it is called: a node, a waypoint, a replica; the pod's name, or the URL, of one that does not answer.
    pub(crate) fn name(&self) -> String {
        match (&self.summary, &self.program) {
            (Ok(summary), _) => at(summary, "/name").to_owned(),
            (Err(_), Some(program)) if program.component == "weir-agent" => program.node.clone(),
            (Err(_), Some(program)) => format!("{}/{}", program.namespace, program.pod),
            (Err(_), None) => self.server.to_string(),
        }
    }
}

impl Place {
    /// The mesh.
    ///
    /// # Errors
    /// If there is none there.
    pub(crate) async fn seen(&self) -> Result<Seen> {
        match &self.mesh.manifests {
            Some(_) => self.folder().map(|folder| Seen::Folder(Box::new(folder))),
            None => self.live().await.map(Seen::Live),
        }
    }

    /// What the manifests of the folder mean.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn folder(&self) -> Result<Manifests> {
        let Some(folder) = &self.mesh.manifests else { bail!("expected --manifests DIR") };
        let settings = folder::settings(&self.mesh)?;
        let now = SystemTime::now();
        folder::read(folder, move |objects| Manifests::of(objects, &settings, now))
    }

    /// The cluster.
    ///
    /// # Errors
    /// If none is named, or admin servers or a folder are, which are none.
    pub(crate) async fn cluster(&self) -> Result<Arc<Cluster>> {
        if self.mesh.manifests.is_some() || !self.admin.is_empty() {
            bail!("this is asked of a cluster: leave --manifests and --admin out");
        }
        Cluster::open(self.kubeconfig.as_deref(), self.context.as_deref()).await.map(Arc::new)
    }

    /// The programs that run.
    ///
    /// # Errors
    /// If there are none, or the cluster does not say which.
    pub(crate) async fn live(&self) -> Result<Live> {
        if self.mesh.manifests.is_some() {
            bail!(
                "this is asked of programs that run, which a folder does not know: leave --manifests out, or give --admin URL"
            );
        }
        if !self.admin.is_empty() {
            let servers = self.admin.iter().map(|url| (Server::Url(url.clone()), None)).collect();
            return Ok(Live { cluster: None, servers });
        }
        let cluster = self.cluster().await?;
        let programs = cluster.programs(&self.mesh_namespace).await?;
        Ok(Live::of(cluster, programs))
    }

    /// The same, and the waypoints of all namespaces. Whoever may not list pods everywhere is told so, and sees the others.
    ///
    /// # Errors
    /// As [`Place::live`].
    pub(crate) async fn everybody(&self) -> Result<Live> {
        let live = self.live().await?;
        let Some(cluster) = live.cluster.clone() else { return Ok(live) };
        match cluster.waypoints().await {
            Ok(waypoints) => Ok(live.and(Live::of(cluster, waypoints))),
            Err(error) => {
                warn(format!("waypoints of other namespaces are left out: {error:#}"));
                Ok(live)
            }
        }
    }
}

impl Live {
    /// These programs of a cluster.
    pub(crate) fn of(cluster: Arc<Cluster>, programs: Vec<Program>) -> Self {
        let server = |program: &Program| Server::Pod {
            cluster: cluster.clone(),
            namespace: program.namespace.clone(),
            name: program.pod.clone(),
        };
        let servers = programs.into_iter().map(|program| (server(&program), Some(program))).collect();
        Self { cluster: Some(cluster), servers }
    }

    /// With those of another that are not among these.
    fn and(mut self, other: Self) -> Self {
        for (server, program) in other.servers {
            let known = |one: &Option<Program>| match (one, &program) {
                (Some(one), Some(other)) => one.namespace == other.namespace && one.pod == other.pod,
                (None, _) | (_, None) => false,
            };
            if !self.servers.iter().any(|(_, one)| known(one)) {
                self.servers.push((server, program));
            }
        }
        self
    }

    /// Without programs that the cluster says are this one.
    pub(crate) fn but(mut self, component: &str) -> Self {
        self.servers.retain(|(_, program)| program.as_ref().is_none_or(|one| one.component != component));
        self
    }

    /// All of them, asked who they are.
    pub(crate) async fn all(self) -> Vec<Answered> {
        let asked = self.servers.into_iter().map(|(server, program)| async move {
            let summary = server.ask("/debug/summary", &[]).await;
            Answered { server, program, summary }
        });
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }

    /// The agents that answer, or that of a node.
    ///
    /// # Errors
    /// If none answers: why not. Of several, those that do not are told by `told`.
    pub(crate) async fn agents(self, node: Option<&str>, told: &mut dyn FnMut(String)) -> Result<Vec<Answered>> {
        let known = |one: &Option<Program>| {
            one.as_ref().is_none_or(|one| one.component == "weir-agent" && node.is_none_or(|node| one.node == node))
        };
        let servers = self.servers.into_iter().filter(|(_, program)| known(program)).collect();
        let all = Self { cluster: self.cluster, servers }.all().await;
        let (mut agents, mut others, mut failed) = (Vec::new(), Vec::new(), None);
        for one in all {
            match &one.summary {
                Ok(summary)
                    if at(summary, "/component") == "weir-agent"
                        && node.is_none_or(|node| at(summary, "/name") == node) =>
                {
                    agents.push(one);
                }
                Ok(_) => others.push(format!("{} {}", one.component(), one.name())),
                Err(error) => {
                    if let Some(earlier) = failed.replace(format!("{error:#}")) {
                        told(earlier);
                    }
                }
            }
        }
        match (agents.is_empty(), failed) {
            (false, failed) => {
                failed.into_iter().for_each(told);
                Ok(agents)
            }
            (true, Some(why)) => bail!(why),
            (true, None) => {
                let of = node.map(|node| format!(" of node {node}")).unwrap_or_default();
                let there = if others.is_empty() { "nobody".to_owned() } else { others.join(", ") };
                bail!("no agent{of} there; there is {there}")
            }
        }
    }
}

/// A namespace and a name, from `NAMESPACE/NAME`, or `NAME` in the namespace that is meant else.
pub(crate) fn named<'t>(text: &'t str, namespace: &'t str) -> (&'t str, &'t str) {
    text.split_once('/').unwrap_or((namespace, text))
}
