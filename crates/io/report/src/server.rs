//! The control plane's end.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;
use weir_model::NodeName;
use weir_rpc::{Caller, Credential};

use crate::messages::{Caught, Heard, REPORT, Report, SERVICE};

/// Most a report may have, in bytes, and how many pods it may name: a node of Kubernetes has a few hundred.
const MAX_MESSAGE: usize = 1 << 20;
const MAX_PODS: usize = 4096;
/// How long a report may be on its way once its call has begun.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who wants the news.
pub trait Sink: Send + Sync {
    /// Whether the caller is an agent at all.
    fn admits(&self, caller: &Caller) -> bool;
    /// All pods that are caught on the node, as its agent says.
    fn heard(&self, node: &NodeName, pods: Vec<Caught>);
}

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct Reports(Arc<dyn Sink>);

impl Reports {
    /// Tells `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self(sink)
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

impl NamedService for Reports {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Reports {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let sink = self.0.clone();
        Box::pin(async move { Ok(answer(sink, call).await) })
    }
}

async fn answer(sink: Arc<dyn Sink>, call: http::Request<Body>) -> http::Response<Body> {
    if call.uri().path() != REPORT {
        return Status::unimplemented(format!("{SERVICE} has no method {:?}", call.uri().path())).into_http();
    }
    let node = match node(&*sink, call.extensions().get::<Caller>()) {
        Ok(node) => node,
        Err(status) => {
            tracing::warn!(reason = status.message(), "a report was refused");
            return status.into_http();
        }
    };
    let method = Take { sink, node };
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE);
    let late = |_| Status::deadline_exceeded("the report did not come in time").into_http();
    timeout(DEADLINE, grpc.unary(method, call)).await.unwrap_or_else(late)
}

/// The node that the caller's token is bound to. A certificate proves none.
fn node(sink: &dyn Sink, caller: Option<&Caller>) -> Result<NodeName, Status> {
    let caller = caller.ok_or_else(|| Status::unauthenticated("nobody proved who calls"))?;
    if !sink.admits(caller) {
        return Err(Status::permission_denied(format!("{} is no agent", caller.identity)));
    }
    match (&caller.node, caller.credential) {
        (Some(node), Credential::Token) => Ok(node.clone()),
        (_, Credential::Token | Credential::Certificate) => {
            Err(Status::permission_denied(format!("{} did not prove on which node it is", caller.identity)))
        }
    }
}

struct Take {
    sink: Arc<dyn Sink>,
    node: NodeName,
}

impl UnaryService<Report> for Take {
    type Response = Heard;
    type Future = std::future::Ready<Result<Response<Heard>, Status>>;

    fn call(&mut self, request: Request<Report>) -> Self::Future {
        let pods = request.into_inner().pods;
        if pods.len() > MAX_PODS {
            let why = format!("{} pods on one node, at most {MAX_PODS} are believed", pods.len());
            return std::future::ready(Err(Status::invalid_argument(why)));
        }
        self.sink.heard(&self.node, pods);
        std::future::ready(Ok(Response::new(Heard {})))
    }
}
