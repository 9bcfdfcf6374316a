//! Other parties: certificates good and bad, an HTTP/2 client that says what it is told to, pods' programs.

mod http2;
mod pki;
mod scene;

pub use http2::Http2;
pub use pki::{Ca, Leaf, Signed, client, tls_client};
pub use scene::{Agent, agent, bed, listening_ports, serve, until};
