//! Who calls, as far as it was proven.

use std::{pin::Pin, sync::Arc};

use weir_model::{Namespace, NodeName, ServiceAccount, SpiffeId};

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// By a certificate of the mesh, in the TLS handshake.
    Certificate,
    /// By a service account's token, which the API server knows.
    Token,
}

/// Who calls. Among the extensions of every request a server of this crate hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its service account, in the server's own trust domain.
    pub identity: SpiffeId,
    /// The node of the pod its token is bound to. A certificate proves none.
    pub node: Option<NodeName>,
    /// That pod's name.
    pub pod: Option<Arc<str>>,
    /// How it proved that.
    pub credential: Credential,
}

impl Caller {
    /// The namespace of its service account.
    pub fn namespace(&self) -> &Namespace {
        self.identity.namespace()
    }

    /// Its service account.
    pub fn service_account(&self) -> &ServiceAccount {
        self.identity.service_account()
    }
}

/// Why a token proves nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unproven {
    /// It is no token that the cluster knows, or not any more, or not for us.
    #[error("the token is not accepted: {0}")]
    Refused(String),
    /// Nobody can say: the caller may try again.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// An answer on its way. Boxed, so that a [`Verify`] can be chosen at run time.
pub type Verifying<'a> = Pin<Box<dyn Future<Output = Result<Caller, Unproven>> + Send + 'a>>;

/// Something that knows tokens: a cluster's API server, or for tests and folders a list.
pub trait Verify: Send + Sync {
    /// Who holds the token.
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a>;
}
