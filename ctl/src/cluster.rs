//! A cluster, and the programs of the mesh in it.

use std::path::Path;

use anyhow::{Error, Result, anyhow};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use weir_kube::{Deed, Error as KubeError, Force, Look};

use crate::out::{at, list};

/// Objects that are asked for at once.
pub(crate) const PAGE: u32 = 500;
/// What programs of the mesh are called, as containers and in `app.kubernetes.io/name`.
const PROGRAMS: [&str; 3] = ["weir-control", "weir-agent", "weir-waypoint"];

/// Pods of Gateways, in all namespaces. Gateway API, GEP-1762: `gateway.networking.k8s.io/gateway-name`, by which weir-control deploys waypoints.
const OF_GATEWAYS: &str = "/api/v1/pods?labelSelector=gateway.networking.k8s.io%2Fgateway-name";

/// A cluster.
pub(crate) struct Cluster {
    look: Look,
}

/// A pod in which a program of the mesh runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) component: &'static str,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) node: String,
    /// Why it is not ready.
    pub(crate) unready: Option<String>,
}

impl Cluster {
    /// The one that a kubeconfig and its context name.
    ///
    /// # Errors
    /// If there is none, and how to name one.
    pub(crate) async fn open(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self> {
        let look = Look::open(kubeconfig, context).await.map_err(|error| {
            Error::new(error).context(
                "no cluster is named: give --kubeconfig FILE or --context NAME, set KUBECONFIG, or ask without a cluster by \
                 --manifests DIR or --admin URL",
            )
        })?;
        Ok(Self { look })
    }

    /// Where its API server is.
    pub(crate) fn url(&self) -> &str {
        self.look.url()
    }

    /// The namespace that is meant where none is said.
    pub(crate) fn namespace(&self) -> &str {
        self.look.namespace()
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// What the server has against it, and what to do.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>> {
        self.look.get(path).await.map_err(|error| self.told(error))
    }

    /// Every object of a collection, a page at a time: no more than a page is held.
    ///
    /// # Errors
    /// What the server has against it, and what to do; what `each` says.
    pub(crate) async fn each(&self, path: &str, mut each: impl FnMut(&Value) -> Result<()>) -> Result<()> {
        let mut token = None;
        loop {
            let page = self.look.page(path, PAGE, token.as_deref()).await.map_err(|error| self.told(error))?;
            page.items.iter().try_for_each(&mut each)?;
            match page.token {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// As [`Cluster::each`], of a kind that the cluster may not have: whether it has it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn each_known(&self, path: &str, mut each: impl FnMut(&Value) -> Result<()>) -> Result<bool> {
        let mut token = None;
        loop {
            let page = match self.look.page(path, PAGE, token.as_deref()).await {
                Err(error) if error.status() == Some(404) => return Ok(false),
                other => other.map_err(|error| self.told(error))?,
            };
            page.items.iter().try_for_each(&mut each)?;
            match page.token {
                Some(next) => token = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// Makes an object what it is to be.
    ///
    /// # Errors
    /// What the server has against it, and what to do.
    pub(crate) async fn apply(&self, path: &str, object: &Value, force: Force) -> Result<()> {
        match self.look.apply(path, object, force).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(409) => Err(Error::new(error)
                .context("the object is there, and others set these fields: give --overwrite to take them")),
            Err(error) => Err(self.told(error)),
        }
    }

    /// Changes some fields of an object.
    ///
    /// # Errors
    /// What the server has against it, and what to do.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        self.look.merge(path, patch).await.map(drop).map_err(|error| self.told(error))
    }

    /// Deletes an object; whether it was there.
    ///
    /// # Errors
    /// What the server has against it, and what to do.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool> {
        self.look.delete(path).await.map_err(|error| self.told(error))
    }

    /// Whether one may do that.
    ///
    /// # Errors
    /// If the server does not say.
    pub(crate) async fn may(&self, deed: &Deed<'_>) -> Result<bool> {
        self.look.may(deed).await.map_err(|error| self.told(error))
    }

    /// A connection to a port of a pod's loopback.
    ///
    /// # Errors
    /// What the server has against it, and what to do.
    pub(crate) async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        self.look.forward(namespace, pod, port).await.map_err(|error| self.told(error))
    }

    /// The mesh's programs in a namespace; waypoints are found by [`Cluster::waypoints`].
    ///
    /// # Errors
    /// If there are none: not installed, or somewhere else.
    pub(crate) async fn programs(&self, namespace: &str) -> Result<Vec<Program>> {
        let mut programs = Vec::new();
        self.each(&format!("/api/v1/namespaces/{namespace}/pods"), |pod| {
            programs.extend(program(pod));
            Ok(())
        })
        .await?;
        if programs.is_empty() {
            return Err(anyhow!(
                "no program of Weir runs in namespace {namespace} of {}: install it by weirctl install, or say where it is by --mesh-namespace",
                self.url()
            ));
        }
        Ok(programs)
    }

    /// The pods of all waypoints, in every namespace.
    ///
    /// # Errors
    /// What the server has against it.
    pub(crate) async fn waypoints(&self) -> Result<Vec<Program>> {
        let mut pods = Vec::new();
        self.each(OF_GATEWAYS, |pod| {
            pods.extend(program(pod).filter(|one| one.component == "weir-waypoint"));
            Ok(())
        })
        .await?;
        Ok(pods)
    }

    /// The pods of one waypoint.
    ///
    /// # Errors
    /// What the server has against it.
    pub(crate) async fn pods_of(&self, namespace: &str, gateway: &str) -> Result<Vec<Program>> {
        let mut pods = Vec::new();
        self.each(&format!("/api/v1/namespaces/{namespace}/pods"), |pod| {
            let of = at(pod, "/metadata/labels/gateway.networking.k8s.io~1gateway-name");
            pods.extend(program(pod).filter(|_| of == gateway));
            Ok(())
        })
        .await?;
        Ok(pods)
    }

    /// What to do about an error.
    fn told(&self, error: KubeError) -> Error {
        let url = self.url().to_owned();
        let hint = match &error {
            KubeError::Unreachable { .. } | KubeError::Slow { .. } => format!(
                "the cluster at {url} cannot be reached: is it up, and is it the one you mean? (--context NAME, --kubeconfig FILE; kubectl config \
                 get-contexts lists them)"
            ),
            KubeError::Status { code: 401, .. } => {
                format!(
                    "{url} does not know who asks: the credentials of the kubeconfig have expired, or are of another cluster"
                )
            }
            KubeError::Status { code: 403, .. } => {
                format!("{url} forbids it: ask for a role with this verb on this resource")
            }
            KubeError::Status { .. }
            | KubeError::TooLarge { .. }
            | KubeError::TooMany { .. }
            | KubeError::Malformed { .. }
            | KubeError::Incomplete { .. }
            | KubeError::Config { .. } => format!("asking {url}"),
        };
        Error::new(error).context(hint)
    }
}

/// The program of the mesh that runs in a pod, if one does.
fn program(pod: &Value) -> Option<Program> {
    let name = at(pod, "/metadata/labels/app.kubernetes.io~1name");
    let containers = list(pod, "/spec/containers").iter().map(|container| at(container, "/name"));
    let called: Vec<&str> = [name].into_iter().chain(containers).collect();
    let component = PROGRAMS.into_iter().find(|program| called.contains(program))?;
    Some(Program {
        component,
        namespace: at(pod, "/metadata/namespace").to_owned(),
        pod: at(pod, "/metadata/name").to_owned(),
        node: at(pod, "/spec/nodeName").to_owned(),
        unready: unready(pod),
    })
}

/// Why a pod is not ready, if it is not.
pub(crate) fn unready(pod: &Value) -> Option<String> {
    let ready = list(pod, "/status/conditions").iter().find(|one| at(one, "/type") == "Ready");
    if ready.is_some_and(|one| at(one, "/status") == "True") {
        return None;
    }
    let waiting = list(pod, "/status/containerStatuses").iter().find_map(|one| {
        let state = one.pointer("/state/waiting").or(one.pointer("/state/terminated"))?;
        Some(format!("container {} is {}", at(one, "/name"), at(state, "/reason")))
    });
    let said = ready.map(|one| at(one, "/message")).filter(|text| *text != "-").map(str::to_owned);
    Some(waiting.or(said).unwrap_or_else(|| format!("its phase is {}", at(pod, "/status/phase"))))
}
