//! One service, as a waypoint serves it.

use std::sync::Arc;

use weir_model::ServiceName;
use weir_route::{RouteTable, TcpTable};

use crate::{Destinations, External, Guard};

/// What is known of requests to one service.
#[derive(Debug, Clone)]
pub struct Host {
    /// The service.
    pub name: ServiceName,
    /// Routes of requests. Empty: all go to the service itself, to the port that was asked for.
    pub http: Arc<RouteTable>,
    /// Routes of connections that are not HTTP.
    pub tcp: Arc<TcpTable>,
    /// How its endpoints are treated.
    pub destinations: Arc<Destinations>,
    /// Where its endpoints are, if they are not workloads of the mesh.
    pub external: External,
    /// What stands before its requests.
    pub guard: Arc<Guard>,
    /// Why nothing is served, if what is said of it cannot be: everything is refused for this reason.
    pub refused: Option<Arc<str>>,
}
