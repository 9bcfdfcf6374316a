//! ZDS: pods and their network namespaces from a CNI node agent, Istio's by name, on a unix socket of packets. It listens, we connect
//! and say hello; it then sends all its pods and whatever changes, and waits for an answer to each.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use weir_model::{ClusterId, NameError, Namespace, WorkloadUid};
use weir_net::{Netns, NetnsError, NetnsId, Packet, PacketStream};
use weir_wire::zds::{AddedPod, HELLO, MESSAGE_BOUND, Request, ZdsError, ack};

use crate::{
    enrol::{PodState, States, chain},
    namespaces::{Handed, Namespaces, TooMany},
};

/// How long the other side may take to take an answer.
const SEND: Duration = Duration::from_secs(5);
/// How long an answer may wait for the pod to be caught. The other side waits for 5 s.
const CAUGHT: Duration = Duration::from_secs(4);
/// The shortest pause before another connection, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(15)];

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a message cannot be sent")]
    Send(#[source] io::Error),
    #[error("a message is not taken within {SEND:?}")]
    SendLate,
    #[error("a message cannot be received")]
    Receive(#[source] io::Error),
    #[error("the other side ended it")]
    End,
}

/// Why a request is not done. The other side is told.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Parse(#[from] ZdsError),
    #[error("{request} with {found} descriptors, expected {expected}")]
    Descriptors { request: &'static str, found: usize, expected: usize },
    #[error("{pod} does not name a pod")]
    Name {
        pod: AddedPod,
        #[source]
        source: NameError,
    },
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("the node's own namespace is not known")]
    Own(#[source] io::Error),
    #[error("the descriptor is the node's own network namespace")]
    Nodes,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("{pod} is not caught yet: {why}")]
    NotCaught { pod: AddedPod, why: String },
}

/// Follows one node agent.
pub(crate) struct Client {
    path: PathBuf,
    cluster: ClusterId,
    namespaces: Namespaces,
    states: States,
}

impl Client {
    pub(crate) fn new(path: PathBuf, cluster: ClusterId, namespaces: Namespaces, states: States) -> Self {
        Self { path, cluster, namespaces, states }
    }

    /// Follows until `shutdown` is done. What is known stays known while nobody is there.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        let follow = async {
            let mut pause = PAUSES[0];
            loop {
                let since = Instant::now();
                let ended = self.connection().await;
                if since.elapsed() > PAUSES[1] {
                    pause = PAUSES[0];
                }
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                tracing::warn!(reason = %chain(&ended), "no ZDS; trying again in {jittered:?}");
                sleep(jittered).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = follow => {}
        }
    }

    async fn connection(&self) -> Ended {
        match PacketStream::connect(&self.path) {
            Ok(stream) => self.talk(&stream).await,
            Err(source) => Ended::Connect { path: self.path.clone(), source },
        }
    }

    /// Until the end: each request is answered before the next is read.
    async fn talk(&self, stream: &PacketStream) -> Ended {
        self.namespaces.begin_snapshot();
        if let Err(ended) = send(stream, &HELLO).await {
            return ended;
        }
        tracing::info!(path = %self.path.display(), "ZDS: connected");
        let mut buffer = vec![0; MESSAGE_BOUND];
        loop {
            // It may have nothing to say for as long as it lives: its end shows in the socket.
            let packet = match stream.receive(&mut buffer).await {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ended::End,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let told = send(stream, &ack(Some(&error.to_string()))).await;
                    return told.err().unwrap_or(Ended::Receive(error));
                }
                Err(error) => return Ended::Receive(error),
            };
            let Packet { length, descriptors } = packet;
            let done = self.answer(&buffer[..length], descriptors).await;
            let reason = done.err().map(|refusal| chain(&refusal));
            if let Some(reason) = &reason {
                tracing::warn!(reason, "ZDS: refused");
            }
            if let Err(ended) = send(stream, &ack(reason.as_deref())).await {
                return ended;
            }
        }
    }

    async fn answer(&self, message: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        let request = Request::parse(message)?;
        let (name, expected) = match &request {
            Request::Add(_) => ("add", 1),
            Request::Keep { .. } => ("keep", 0),
            Request::Del { .. } => ("del", 0),
            Request::SnapshotSent => ("snapshot_sent", 0),
        };
        let found = descriptors.len();
        if found != expected {
            return Err(Refusal::Descriptors { request: name, found, expected });
        }
        match (request, descriptors.into_iter().next()) {
            (Request::Add(pod), Some(descriptor)) => self.add(pod, descriptor).await?,
            (Request::Keep { uid }, _) => self.namespaces.keep(uid),
            (Request::Del { uid }, _) => {
                tracing::info!(uid, "ZDS: taken back");
                self.namespaces.take_back(&uid);
            }
            (Request::SnapshotSent, _) => {
                tracing::info!("ZDS: all pods have been sent");
                self.namespaces.end_snapshot();
            }
            (Request::Add(_), None) => return Err(Refusal::Descriptors { request: name, found, expected }),
        }
        Ok(())
    }

    /// Takes a pod, and answers when it is caught. While all are being sent, nobody waits for one.
    async fn add(&self, pod: AddedPod, descriptor: OwnedFd) -> Result<(), Refusal> {
        let uid = name(&self.cluster, &pod).map_err(|source| Refusal::Name { pod: pod.clone(), source })?;
        let netns = Arc::new(Netns::from_fd(descriptor, Path::new("zds").join(&pod.uid))?);
        if netns.id() == NetnsId::own().map_err(Refusal::Own)? {
            return Err(Refusal::Nodes);
        }
        tracing::info!(pod = %uid, uid = pod.uid, "ZDS: handed over");
        let mut states = self.states.follow();
        self.namespaces.hand(pod.uid.clone(), Handed { uid: uid.clone(), netns: netns.clone() })?;
        if !self.namespaces.is_whole() {
            return Ok(());
        }
        let by = Instant::now() + CAUGHT;
        loop {
            let judged = judge(states.borrow_and_update().get(uid.as_str()), &netns);
            let Err(why) = judged else { return Ok(()) };
            if !matches!(timeout_at(by, states.changed()).await, Ok(Ok(()))) {
                return Err(Refusal::NotCaught { pod, why });
            }
        }
    }
}

fn name(cluster: &ClusterId, pod: &AddedPod) -> Result<WorkloadUid, NameError> {
    let namespace: Namespace = pod.namespace.parse()?;
    WorkloadUid::of_pod(cluster, &namespace, &pod.name)
}

/// Whether a pod is caught in this namespace, or why not (yet).
fn judge(state: Option<&PodState>, netns: &Netns) -> Result<(), String> {
    match state {
        Some(PodState::Enrolled { id, .. }) if *id == netns.id() => Ok(()),
        Some(PodState::Enrolled { netns: other, .. }) => Err(format!("it still is in {}", other.display())),
        Some(PodState::Failing(reason)) => Err(reason.clone()),
        Some(PodState::Leaving(connections)) => {
            Err(format!("one of its name is leaving, with {connections} connections"))
        }
        Some(PodState::Outside { why, .. }) => Err(format!("the mesh does not want it caught: {why:?}")),
        Some(PodState::NotSent) | None => Err("the mesh does not know it".to_owned()),
    }
}

async fn send(stream: &PacketStream, message: &[u8]) -> Result<(), Ended> {
    timeout(SEND, stream.send(message)).await.map_err(|_late| Ended::SendLate)?.map_err(Ended::Send)
}
