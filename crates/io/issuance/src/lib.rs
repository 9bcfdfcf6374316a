//! Certificates over gRPC: `istio.v1.auth.IstioCertificateService`, both ends of it.
//!
//! In: calls that carry their proven caller, the pods that live, and a CA. Out: a certificate for an identity that the caller may have, or the
//! reason why not. For agents the other end: an identity in, a certificate out that was checked as if the CA were a stranger. It proves
//! nobody's identity itself, and knows neither Kubernetes nor the data path.

mod denied;
mod messages;
mod remote;
mod server;
mod settings;
mod stats;
mod throttle;

pub use denied::Denied;
pub use messages::{IstioCertificateRequest, IstioCertificateResponse};
pub use remote::{RemoteCa, RemoteError};
pub use server::{Certificates, Pods};
pub use settings::{NodeAgents, NodeAgentsError, Settings};
pub use stats::{Reason, Stats};
