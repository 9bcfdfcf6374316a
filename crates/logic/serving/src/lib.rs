//! What a waypoint serves, as one immutable value.
//!
//! In: routes, destinations and policies of each service, compiled. Out: for a request to a service, what becomes of it and why. It never does I/O,
//! and knows neither the formats of configuration nor where endpoints are: those the mesh's `World` knows.

mod destination;
mod guard;
mod host;
mod serving;

pub use destination::{
    ClusterPolicy, Destinations, HttpPool, Keepalive, PortPolicies, Subset, TcpPool, UnknownSubset, Upgrade,
    UpstreamTls,
};
pub use guard::Guard;
pub use host::Host;
pub use serving::Serving;
