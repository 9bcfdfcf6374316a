//! What is known of one request when it has ended. Fields are named as Envoy's access log has them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::HeaderMap;
use weir_model::{Flags, Service, SpiffeId, Workload};

/// `%PROTOCOL%` of the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpProtocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl HttpProtocol {
    /// Envoy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// How the client's side was protected. Label `connection_security_policy` of Istio's waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpSecurity {
    /// Both sides proved who they are.
    MutualTls,
    /// They did not.
    None,
}

/// One side of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpParty<'a> {
    /// The workload there, if the mesh knows one.
    pub workload: Option<&'a Arc<Workload>>,
    /// Who it proved to be. Without one, a destination's workload says who it should be.
    pub identity: Option<&'a SpiffeId>,
}

/// Where a request was sent, as far as it got.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpstreamRecord<'a> {
    /// `%UPSTREAM_HOST%`: the endpoint.
    pub host: Option<SocketAddr>,
    /// `%UPSTREAM_CLUSTER_RAW%`: `inbound-vip|80|http|reviews.default.svc.cluster.local` at a waypoint of Istio's.
    pub cluster: Option<&'a str>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    pub local: Option<SocketAddr>,
    /// `%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%`: from the last byte of the request to the head of the answer.
    pub service_time: Option<Duration>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: why no connection came about.
    pub failure: Option<&'a str>,
}

/// What a gRPC request adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcRecord {
    /// `grpc-status` of the trailers or the head, or what the proxy answered.
    pub status: Option<u32>,
    /// Messages from the client.
    pub request_messages: u64,
    /// Messages to the client.
    pub response_messages: u64,
}

/// Everything known of one request that ended. What peers wrote may hold anything.
#[derive(Debug, Clone, Copy)]
pub struct HttpRecord<'a> {
    /// `%START_TIME%`.
    pub at: SystemTime,
    /// `%DURATION%`: until the last byte went out.
    pub duration: Duration,
    /// `%REQ(:METHOD)%`.
    pub method: &'a str,
    /// `%REQ(:PATH)%`: as it was routed, with its query.
    pub path: &'a str,
    /// `%REQ(X-ENVOY-ORIGINAL-PATH)%`: as it came, if a route rewrote it.
    pub original_path: Option<&'a str>,
    /// `%REQ(:AUTHORITY)%`.
    pub authority: Option<&'a str>,
    /// `%PROTOCOL%`.
    pub protocol: HttpProtocol,
    /// Of a request whose content type is that of gRPC.
    pub grpc: Option<GrpcRecord>,
    /// `%RESPONSE_CODE%`, absent if no answer was begun.
    pub code: Option<u16>,
    /// `%RESPONSE_FLAGS%`.
    pub flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`, such as `via_upstream`.
    pub code_details: Option<&'a str>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<&'a str>,
    /// `%BYTES_RECEIVED%`: of the request's body.
    pub bytes_received: u64,
    /// `%BYTES_SENT%`: of the answer's body.
    pub bytes_sent: u64,
    /// Bytes of the request on the wire, its head among them: what `istio_request_bytes` counts.
    pub wire_received: u64,
    /// Bytes of the answer on the wire: what `istio_response_bytes` counts.
    pub wire_sent: u64,
    /// Where it was sent; none if it was answered here.
    pub upstream: Option<UpstreamRecord<'a>>,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`: what the client connected to.
    pub downstream_local: SocketAddr,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`: the client.
    pub downstream_remote: SocketAddr,
    /// `%REQ(X-FORWARDED-FOR)%`.
    pub forwarded_for: Option<&'a [u8]>,
    /// `%REQ(USER-AGENT)%`.
    pub user_agent: Option<&'a [u8]>,
    /// `%REQ(X-REQUEST-ID)%`.
    pub request_id: Option<&'a [u8]>,
    /// `%REQUESTED_SERVER_NAME%`.
    pub server_name: Option<&'a str>,
    /// `%ROUTE_NAME%`.
    pub route_name: Option<&'a str>,
    /// The request's headers, if a label or an attribute may ask for one.
    pub request_headers: Option<&'a HeaderMap>,
    /// The answer's headers, likewise.
    pub response_headers: Option<&'a HeaderMap>,
    /// The client.
    pub source: HttpParty<'a>,
    /// The endpoint.
    pub destination: HttpParty<'a>,
    /// The service that was addressed.
    pub service: Option<&'a Arc<Service>>,
    /// How the client's side was protected.
    pub security: HttpSecurity,
}

/// What a connection that is not HTTP is counted by.
#[derive(Debug, Clone, Copy)]
pub struct TcpSubject<'a> {
    /// The client.
    pub source: HttpParty<'a>,
    /// The endpoint.
    pub destination: HttpParty<'a>,
    /// The service that was addressed.
    pub service: Option<&'a Arc<Service>>,
    /// What went wrong, as far as it is known.
    pub flags: Flags,
    /// How the client's side was protected.
    pub security: HttpSecurity,
}
