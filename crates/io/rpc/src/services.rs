//! Which service a call is for.

use std::{collections::HashMap, convert::Infallible};

use tonic::{Status, body::Body, server::NamedService};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// A call as a service gets it.
pub type Call = http::Request<Body>;
/// Its answer.
pub type Answer = http::Response<Body>;

/// Services by their names.
#[derive(Debug, Default)]
pub struct Services {
    by_name: HashMap<&'static str, BoxCloneSyncService<Call, Answer, Infallible>>,
}

impl Services {
    /// One more service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Call, Response = Answer, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.by_name.insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// The answer to a call: of the service it names, as `/package.Service/Method`.
    pub(crate) async fn call(&self, call: Call) -> Answer {
        let service = call.uri().path().strip_prefix('/').and_then(|path| path.split_once('/')).map(|(name, _)| name);
        match service.and_then(|name| self.by_name.get(name)) {
            Some(service) => service.clone().oneshot(call).await.unwrap_or_else(|never| match never {}),
            None => Status::unimplemented(format!("there is no {:?} here", call.uri().path())).into_http(),
        }
    }
}
