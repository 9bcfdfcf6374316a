//! The socket that the CNI plugin asks on: a pod's name, network namespace and addresses in, whether it is caught out, as soon as that
//! is certain. Where the pod is goes to [`crate::namespaces`]; who is caught is what the mesh says, and [`crate::enrol`] does it.

use std::{
    convert::Infallible,
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use weir_model::{ClusterId, NameError, Namespace, WorkloadUid, canonical_ip};
use weir_net::NetnsId;

use crate::{
    enrol::{PodState, States, chain},
    namespaces::{Added, Namespaces, TooMany},
};

/// How long an ADD waits for its pod. The plugin waits for 20 s.
const WAIT: Duration = Duration::from_secs(15);
/// How long a connection may live, waiting included.
const CONNECTION: Duration = Duration::from_secs(20);
/// The longest question, in bytes.
const BODY_BOUND: usize = 64 << 10;
/// Addresses of one pod.
const ADDRESSES: usize = 64;
/// The longest `metadata.uid`, in bytes: a UUID, or the hash of a static pod's file.
const POD_UID_BOUND: usize = 128;
/// How many questions wait at once: more than a node starts pods. Others wait in the socket's queue.
const AT_ONCE: usize = 512;
/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a pod must not start now, or a question is none.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("expected POST /cni")]
    NoQuestion,
    #[error("the question cannot be read, or is longer than {BODY_BOUND} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the question is not the JSON that it should be")]
    Decode(#[source] serde_json::Error),
    #[error("podNamespace and podName do not name a pod")]
    Name(#[source] NameError),
    #[error("the question has no {0}")]
    Missing(&'static str),
    #[error("{0} is no absolute path")]
    Relative(PathBuf),
    #[error("podUid has {0} bytes, expected {POD_UID_BOUND} at most")]
    PodUid(usize),
    #[error("{0} ips, expected {ADDRESSES} at most")]
    Addresses(usize),
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("the agent does not know the pod yet")]
    Unknown,
    #[error("the agent knows a pod of this name with the uid {known}, and not yet the one of {asked}")]
    OtherPod { known: Arc<str>, asked: Arc<str> },
    #[error("ZDS decides which pods are caught, and has not sent this one")]
    NotSent,
    #[error("{0}")]
    Failing(String),
    #[error("a pod of this name is leaving the mesh, with {0} connections")]
    Leaving(usize),
    #[error("the network namespace {path}")]
    Netns {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the pod is caught in the network namespace {caught}, which is not {asked}")]
    OtherNetns { caught: PathBuf, asked: PathBuf },
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoQuestion => StatusCode::NOT_FOUND,
            Self::Body(_)
            | Self::Decode(_)
            | Self::Name(_)
            | Self::Missing(_)
            | Self::Relative(_)
            | Self::PodUid(_)
            | Self::Addresses(_) => StatusCode::BAD_REQUEST,
            Self::TooMany(_)
            | Self::Unknown
            | Self::OtherPod { .. }
            | Self::NotSent
            | Self::Failing(_)
            | Self::Leaving(_)
            | Self::Netns { .. }
            | Self::OtherNetns { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawQuestion {
    command: RawCommand,
    pod_namespace: Option<String>,
    pod_name: Option<String>,
    #[serde(default)]
    pod_uid: String,
    #[serde(default)]
    container_id: String,
    netns: Option<PathBuf>,
    #[serde(default)]
    ips: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum RawCommand {
    Add,
    Check,
    Status,
}

/// What the plugin wants to know.
#[derive(Debug)]
enum Question {
    /// Whether the agent is there.
    Status,
    /// A pod starts here: whether it is caught, within a time.
    Add { uid: WorkloadUid, pod: Added },
    /// Whether a pod is caught here now.
    Check { uid: WorkloadUid, pod: Added },
}

impl Question {
    fn parse(body: &[u8], cluster: &ClusterId) -> Result<Self, Refusal> {
        let raw: RawQuestion = serde_json::from_slice(body).map_err(Refusal::Decode)?;
        if matches!(raw.command, RawCommand::Status) {
            return Ok(Self::Status);
        }
        let namespace: Namespace =
            raw.pod_namespace.ok_or(Refusal::Missing("podNamespace"))?.parse().map_err(Refusal::Name)?;
        let name = raw.pod_name.ok_or(Refusal::Missing("podName"))?;
        let uid = WorkloadUid::of_pod(cluster, &namespace, &name).map_err(Refusal::Name)?;
        let netns = raw.netns.ok_or(Refusal::Missing("netns"))?;
        tracing::debug!(
            pod = %uid, command = ?raw.command, pod_uid = ?raw.pod_uid, container = ?raw.container_id,
            netns = ?netns, ips = ?raw.ips, "asked by the CNI plugin"
        );
        if !netns.is_absolute() {
            return Err(Refusal::Relative(netns));
        }
        if raw.pod_uid.len() > POD_UID_BOUND {
            return Err(Refusal::PodUid(raw.pod_uid.len()));
        }
        if raw.ips.len() > ADDRESSES {
            return Err(Refusal::Addresses(raw.ips.len()));
        }
        let addresses = raw.ips.into_iter().map(canonical_ip).collect();
        let pod = Added { incarnation: raw.pod_uid.into(), netns, addresses };
        Ok(match raw.command {
            RawCommand::Add => Self::Add { uid, pod },
            RawCommand::Check | RawCommand::Status => Self::Check { uid, pod },
        })
    }
}

/// Answers the plugin.
pub(crate) struct Server {
    listener: UnixListener,
    answerer: Arc<Answerer>,
}

struct Answerer {
    /// Who may ask.
    user: u32,
    cluster: ClusterId,
    states: States,
    namespaces: Namespaces,
}

impl Server {
    /// Listens on `path`, for root alone. A socket of that name is replaced at once: its agent is gone, or hands over.
    ///
    /// # Errors
    /// The socket cannot be put there.
    pub(crate) fn bind(path: &Path, cluster: ClusterId, states: States, namespaces: Namespaces) -> io::Result<Self> {
        Self::bind_for(0, path, cluster, states, namespaces)
    }

    fn bind_for(
        user: u32,
        path: &Path,
        cluster: ClusterId,
        states: States,
        namespaces: Namespaces,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_added_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        Ok(Self { listener, answerer: Arc::new(Answerer { user, cluster, states, namespaces }) })
    }

    /// Answers until `shutdown` is done; who waits then is left without an answer, and tries again.
    pub(crate) async fn serve(self, shutdown: impl Future<Output = ()>) {
        let free = Arc::new(Semaphore::new(AT_ONCE));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accept = async {
                let permit = free.clone().acquire_owned().await.expect("the semaphore is never closed");
                (self.listener.accept().await, permit)
            };
            tokio::select! {
                () = &mut shutdown => return,
                Some(_) = connections.join_next() => {}
                (accepted, permit) = accept => match accepted {
                    Ok((stream, _)) => {
                        let answerer = self.answerer.clone();
                        connections.spawn(async move {
                            answerer.connection(stream).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of the CNI plugin");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

impl Answerer {
    async fn connection(self: Arc<Self>, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.user => {}
            Ok(peer) => return tracing::warn!(uid = peer.uid(), "not root: not answered on the CNI plugin's socket"),
            Err(error) => return tracing::warn!(%error, "nobody knows who asks on the CNI plugin's socket"),
        }
        let service = service_fn(move |request| {
            let answerer = self.clone();
            async move { Ok::<_, Infallible>(answerer.respond(request).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = timeout(CONNECTION, serving).await {
            tracing::debug!(%error, "a client of the CNI plugin's socket went wrong");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match self.answer(request).await {
            Ok(enrolled) => (StatusCode::OK, serde_json::json!({ "enrolled": enrolled })),
            Err(refusal) => {
                let reason = chain(&refusal);
                tracing::warn!(reason, "the CNI plugin is refused");
                (refusal.status(), serde_json::json!({ "error": reason }))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<bool, Refusal> {
        if request.method() != Method::POST || request.uri().path() != "/cni" {
            return Err(Refusal::NoQuestion);
        }
        let body = Limited::new(request.into_body(), BODY_BOUND).collect().await.map_err(Refusal::Body)?;
        match Question::parse(&body.to_bytes(), &self.cluster)? {
            Question::Status => Ok(false),
            Question::Check { uid, pod } => judge(self.states.follow().borrow().get(uid.as_str()), &pod),
            Question::Add { uid, pod } => {
                // Looked at now: what is not there would be forgotten before anybody uses it.
                NetnsId::at(&pod.netns).map_err(|source| Refusal::Netns { path: pod.netns.clone(), source })?;
                self.settled(uid, pod, WAIT).await
            }
        }
    }

    /// Whether the pod is caught, once that is certain. What may still become well is waited for.
    async fn settled(&self, uid: WorkloadUid, pod: Added, wait: Duration) -> Result<bool, Refusal> {
        let mut states = self.states.follow();
        self.namespaces.add(uid.clone(), pod.clone())?;
        let by = Instant::now() + wait;
        loop {
            let judged = judge(states.borrow_and_update().get(uid.as_str()), &pod);
            let waited = match judged {
                Ok(enrolled) => return Ok(enrolled),
                Err(_) => timeout_at(by, states.changed()).await,
            };
            if !matches!(waited, Ok(Ok(()))) {
                return judged;
            }
        }
    }
}

/// Whether a pod of this state is caught, in this namespace: one of the same name may have been there before.
fn judge(state: Option<&PodState>, asked: &Added) -> Result<bool, Refusal> {
    match state {
        None => Err(Refusal::Unknown),
        Some(PodState::Outside { incarnation, .. })
            if !incarnation.is_empty() && !asked.incarnation.is_empty() && *incarnation != asked.incarnation =>
        {
            Err(Refusal::OtherPod { known: incarnation.clone(), asked: asked.incarnation.clone() })
        }
        Some(PodState::Outside { .. }) => Ok(false),
        Some(PodState::NotSent) => Err(Refusal::NotSent),
        Some(PodState::Failing(reason)) => Err(Refusal::Failing(reason.clone())),
        Some(PodState::Leaving(connections)) => Err(Refusal::Leaving(*connections)),
        Some(PodState::Enrolled { netns, id, .. }) => {
            let path = &asked.netns;
            let at = NetnsId::at(path).map_err(|source| Refusal::Netns { path: path.clone(), source })?;
            let other = || Refusal::OtherNetns { caught: netns.clone(), asked: path.clone() };
            if at == *id { Ok(true) } else { Err(other()) }
        }
    }
}

#[cfg(test)]
mod tests;
