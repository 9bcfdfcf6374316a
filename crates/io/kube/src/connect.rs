//! Where the API server is.

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::Error;

/// How long a connection to the server may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of the server a kubeconfig names, or without one of the cluster this process runs in. Nothing is asked yet.
///
/// # Errors
/// When the file, or the pod's service account, cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| Error::Config {
        path: kubeconfig.map(Path::to_owned),
        source,
    };
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| fail(error.into()))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| fail(error.into()))?
        }
        None => Config::infer().await.map_err(|error| fail(error.into()))?,
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| fail(error.into()))
}
