//! The socket that the CNI plugin asks on: a pod's name and network namespace in, whether it is caught out, as soon as that is
//! certain. It changes nothing: who is caught is what the mesh says, and [`crate::enrol`] does it.

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
use weir_model::{ClusterId, NameError, Namespace, WorkloadUid};
use weir_net::NetnsId;

use crate::enrol::{PodState, States, chain};

/// How long an ADD waits for its pod. The plugin waits for 20 s.
const WAIT: Duration = Duration::from_secs(15);
/// How long a connection may live, waiting included.
const CONNECTION: Duration = Duration::from_secs(20);
/// The longest question, in bytes.
const BODY_BOUND: usize = 64 << 10;
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
    #[error("the agent does not know the pod yet")]
    Unknown,
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
            Self::Body(_) | Self::Decode(_) | Self::Name(_) | Self::Missing(_) => StatusCode::BAD_REQUEST,
            Self::Unknown | Self::Failing(_) | Self::Leaving(_) | Self::Netns { .. } | Self::OtherNetns { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
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
    /// Whether a pod is caught in this namespace, within a time.
    Pod { uid: WorkloadUid, netns: PathBuf, wait: Duration },
}

impl Question {
    fn parse(body: &[u8], cluster: &ClusterId) -> Result<Self, Refusal> {
        let raw: RawQuestion = serde_json::from_slice(body).map_err(Refusal::Decode)?;
        let wait = match raw.command {
            RawCommand::Status => return Ok(Self::Status),
            RawCommand::Add => WAIT,
            RawCommand::Check => Duration::ZERO,
        };
        let namespace: Namespace =
            raw.pod_namespace.ok_or(Refusal::Missing("podNamespace"))?.parse().map_err(Refusal::Name)?;
        let name = raw.pod_name.ok_or(Refusal::Missing("podName"))?;
        let uid = WorkloadUid::of_pod(cluster, &namespace, &name).map_err(Refusal::Name)?;
        let netns = raw.netns.ok_or(Refusal::Missing("netns"))?;
        tracing::debug!(
            pod = %uid, command = ?raw.command, pod_uid = ?raw.pod_uid, container = ?raw.container_id,
            netns = ?netns, ips = ?raw.ips, "asked by the CNI plugin"
        );
        Ok(Self::Pod { uid, netns, wait })
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
}

impl Server {
    /// Listens on `path`, for root alone. A socket of that name is replaced at once: its agent is gone, or hands over.
    ///
    /// # Errors
    /// The socket cannot be put there.
    pub(crate) fn bind(path: &Path, cluster: ClusterId, states: States) -> io::Result<Self> {
        Self::bind_for(0, path, cluster, states)
    }

    fn bind_for(user: u32, path: &Path, cluster: ClusterId, states: States) -> io::Result<Self> {
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
        Ok(Self { listener, answerer: Arc::new(Answerer { user, cluster, states }) })
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
            Question::Pod { uid, netns, wait } => self.settled(&uid, &netns, wait).await,
        }
    }

    /// Whether the pod is caught, once that is certain. What may still become well is waited for.
    async fn settled(&self, uid: &WorkloadUid, netns: &Path, wait: Duration) -> Result<bool, Refusal> {
        let mut states = self.states.follow();
        let by = Instant::now() + wait;
        loop {
            let judged = judge(states.borrow_and_update().get(uid.as_str()), netns);
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
fn judge(state: Option<&PodState>, asked: &Path) -> Result<bool, Refusal> {
    match state {
        None => Err(Refusal::Unknown),
        Some(PodState::Outside(_)) => Ok(false),
        Some(PodState::Failing(reason)) => Err(Refusal::Failing(reason.clone())),
        Some(PodState::Leaving(connections)) => Err(Refusal::Leaving(*connections)),
        Some(PodState::Enrolled { netns, id, .. }) => {
            let at = NetnsId::at(asked).map_err(|source| Refusal::Netns { path: asked.to_owned(), source })?;
            let other = || Refusal::OtherNetns { caught: netns.clone(), asked: asked.to_owned() };
            if at == *id { Ok(true) } else { Err(other()) }
        }
    }
}

#[cfg(test)]
mod tests;
