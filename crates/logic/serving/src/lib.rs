//! What a waypoint serves, as one immutable value.
//!
//! In: routes, destinations and policies of each service, compiled. Out: for a request to a service, what becomes of it and why. It never does I/O,
//! and knows neither the formats of configuration nor where endpoints are: those the mesh's `World` knows.

mod destination;
mod external;
mod guard;
mod host;
mod serving;

pub use destination::{
    ClusterPolicy, Destinations, ForwardTunnel, HttpPool, Keepalive, PortPolicies, ProxyProtocol, Subset, TcpPool,
    UnknownSubset, Upgrade, UpstreamTls,
};
pub use external::{Answers, External, NamedEndpoint, Resolution, Spot};
pub use guard::Guard;
pub use host::Host;
pub use serving::Serving;
