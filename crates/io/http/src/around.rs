//! What the engine is put into, and what passes between them.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use weir_balance::{Client, Place, Weight};
use weir_model::{AppProtocol, Health, Hostname, Port, SpiffeId, Workload};
use weir_request::Request;
use weir_serving::{ClusterPolicy, Host, Serving, Subset};

use crate::record::{Flags, Record};

/// What the engine is put into: one for each worker.
pub trait Around: 'static {
    /// A connection to an endpoint.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;
    /// What is kept of a request from its begin to its end, for telemetry.
    type Span: 'static;

    /// What is served now.
    fn snapshot(&self) -> Rc<Snapshot>;

    /// Where this worker runs, and how many like it there are: what near and far are measured from.
    fn place(&self) -> Client;

    /// The endpoints of a service, or of a part of it. Asked once for each version of what is served.
    fn endpoints(&self, host: &Hostname, port: Port, subset: Option<&Subset>) -> Vec<Endpoint>;

    /// Where the client wanted to go, as an endpoint: for a pod that was asked for by its address, and for `PASSTHROUGH`. None if nobody is there.
    fn original(&self, arrival: &Arrival) -> Option<Endpoint>;

    /// A connection to an endpoint, made within the time that its policy gives. It may carry requests of other clients later, unless the policy has it
    /// begin with who the client is.
    fn connect(&self, to: &Endpoint, dial: Dial<'_>) -> impl Future<Output = Result<Self::Io, ConnectError>>;

    /// Whether a request may go on. Asked once, and once more after [`Admission::Later`].
    fn admit(&self, arrival: &Arrival, host: Option<&Host>, request: &Request<'_>) -> Admission;

    /// Whether a connection that is no HTTP may go on; or why not, in the words of Envoy's `CONNECTION_TERMINATION_DETAILS`. Asked once, before
    /// anything of it goes anywhere.
    ///
    /// # Errors
    /// With the reason to close it.
    fn admit_connection(&self, arrival: &Arrival, host: Option<&Host>) -> Result<(), Box<str>>;

    /// A request begins: it may be given an id and a trace context.
    fn begin(&self, arrival: &Arrival, headers: &mut HeaderMap) -> Self::Span;

    /// A connection that is not HTTP has got to its endpoint. Of the record nothing is counted yet; [`Self::end`] is told of it, too.
    fn opened(&self, span: &mut Self::Span, record: &Record<'_>);

    /// A request has ended, or a connection that was not HTTP.
    fn end(&self, span: Self::Span, record: &Record<'_>);
}

/// What is served, and its version: another version is another content.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// All of it.
    pub serving: Arc<Serving>,
    /// Endpoints may have changed, too, when it is another.
    pub version: u64,
}

/// How a connection to an endpoint is made.
#[derive(Debug, Clone, Copy)]
pub struct Dial<'d> {
    /// Whose connection it is for.
    pub arrival: &'d Arrival,
    /// The service that the endpoint is of; none for one that was asked for by its address.
    pub host: Option<&'d Hostname>,
    /// How that service's endpoints are treated.
    pub policy: &'d ClusterPolicy,
    /// What is going to be said on it.
    pub speaks: Speaks,
}

/// What is said on a connection to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever its client says.
    Anything,
}

/// A connection that was accepted, and what is proven of it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The client's address.
    pub client: SocketAddr,
    /// Who the client is. None in plaintext.
    pub identity: Option<SpiffeId>,
    /// The client's workload, if it is known.
    pub workload: Option<Arc<Workload>>,
    /// The labels of that workload.
    #[expect(clippy::type_complexity, reason = "pairs of texts, shared")]
    pub labels: Option<Arc<[(Box<str>, Box<str>)]>>,
    /// The address the client asked for.
    pub destination: SocketAddr,
    /// What stands behind that address.
    pub target: Target,
    /// How many proxies in front append to `x-forwarded-for` and are believed. Istio `numTrustedProxies`.
    pub trusted_hops: u32,
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service.
    Service {
        /// Its name.
        host: Hostname,
        /// Its port.
        port: Port,
        /// What that port says it speaks.
        protocol: AppProtocol,
    },
    /// A pod by itself.
    Pod {
        /// Its address and port.
        address: SocketAddr,
    },
}

/// An endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload's uid.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// How much it gets.
    pub weight: Weight,
    /// Whether it takes new connections.
    pub health: Health,
    /// Where it is.
    pub place: Arc<Place>,
    /// What it speaks, as the service's port says.
    pub protocol: AppProtocol,
}

/// One change of a request's headers: a value instead of all it had, or none.
pub type Edit = (HeaderName, Option<HeaderValue>);

/// What is changed of a request's head before anything else reads it.
#[derive(Debug, Default)]
pub struct Edits {
    /// Its headers.
    pub headers: Vec<Edit>,
    /// Its query.
    pub query: QueryEdit,
}

/// What becomes of a query.
#[derive(Debug, Default)]
pub enum QueryEdit {
    /// It stays as it came.
    #[default]
    None,
    /// It becomes this.
    To(String),
    /// Nothing is left of it.
    Gone,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn are_none(&self) -> bool {
        self.headers.is_empty() && matches!(self.query, QueryEdit::None)
    }
}

/// Whether a request may go on.
pub enum Admission {
    /// It may, with these changes: claims of its token in headers, say.
    Pass(Edits),
    /// It is answered with this.
    Answer(Box<Refusal>),
    /// It is asked about once more when this has ended, such as a fetch of keys; if that is the answer again, it is answered with this. Who gives it bounds how long it takes.
    Later(Later, Box<Refusal>),
}

/// What may change an answer.
pub type Later = Pin<Box<dyn Future<Output = ()>>>;

/// The answer to a request that may not go on.
#[derive(Debug)]
pub struct Refusal {
    /// 401 or 403. A call of gRPC is told the status that stands for it.
    pub status: u16,
    /// Text.
    pub body: Box<str>,
    /// Headers of the answer, `www-authenticate` for one.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For the access log: `UAEX`, or none.
    pub flags: Flags,
    /// For the access log: Envoy's `RESPONSE_CODE_DETAILS`.
    pub details: Box<str>,
}

/// Why there is no connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// Nobody there, or not who it should be.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// It is not to be connected to, for this reason.
    #[error("{0}")]
    Refused(Box<str>),
}

impl Endpoint {
    /// What balancing knows it by: Envoy hashes addresses.
    pub(crate) fn key(&self) -> Arc<str> {
        self.address.to_string().into()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Pod { address } => address.fmt(f),
        }
    }
}
