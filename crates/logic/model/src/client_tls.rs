//! TLS that a proxy opens itself, to an endpoint outside of the mesh.

use std::{path::PathBuf, sync::Arc};

use crate::Hostname;

/// How it is opened. Istio `ClientTLSSettings` of mode `SIMPLE` or `MUTUAL`, by files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// Who the proxy says it is: mode `MUTUAL`. None: it does not say.
    pub own: Option<KeyFiles>,
    /// Whom it believes.
    pub server: ServerTrust,
    /// `sni`: the name that is asked for; the host of the service when nothing is said.
    pub sni: Option<Hostname>,
}

/// A certificate and its key, in files of PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyFiles {
    /// `clientCertificate`: the chain, the proxy's own first.
    pub certificate: PathBuf,
    /// `privateKey`.
    pub key: PathBuf,
}

/// Whom a client believes that it is the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerTrust {
    /// Anybody: `insecureSkipVerify`.
    Anybody,
    /// Who proves it.
    Proven(Proof),
}

/// What a server has to prove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Proof {
    /// `caCertificates`: the file of roots that its certificate leads to; those of the system when nothing is said.
    pub roots: Option<PathBuf>,
    /// `caCrl`: the file of revocations; then one must be there for each authority of the chain.
    pub revoked: Option<PathBuf>,
    /// `subjectAltNames`: its certificate is for one of them. When nothing is said, for those of the ServiceEntry, or for the name that is asked for.
    pub names: Vec<Arc<str>>,
}
