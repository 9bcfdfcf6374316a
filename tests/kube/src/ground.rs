//! Where a case of the suite stands: a server, a client, and a namespace of its own that goes with it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use crate::ApiServer;

/// A server to test against: the one `WEIR_TEST_KUBECONFIG` names, or one of our own.
pub struct Ground {
    /// A client that may do everything.
    pub client: Client,
    /// The server, if it is ours: only then there are faults.
    pub server: Option<ApiServer>,
    namespaces: Vec<String>,
}

impl Ground {
    /// The ground `WEIR_TEST_KUBECONFIG` asks for.
    ///
    /// # Errors
    /// When the server it names cannot be reached.
    pub async fn new() -> Result<Self> {
        match std::env::var_os("WEIR_TEST_KUBECONFIG") {
            Some(path) => {
                let client = weir_kube::connect(Some(&PathBuf::from(path))).await?;
                Ok(Self { client, server: None, namespaces: Vec::new() })
            }
            None => Self::own().await,
        }
    }

    /// A server of our own, for what a real one cannot be made to do.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn own() -> Result<Self> {
        let server = ApiServer::start().await?;
        let client = server.client().await?;
        Ok(Self { client, server: Some(server), namespaces: Vec::new() })
    }

    /// A new namespace.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn namespace(&mut self) -> Result<String> {
        let name = format!("weir-test-{:08x}", rand::random::<u32>());
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made = Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await;
        made.with_context(|| format!("namespace {name}"))?;
        self.namespaces.push(name.clone());
        Ok(name)
    }

    /// Takes its namespaces away. A case that fails leaves them behind, to be looked at.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn clean(self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        for name in &self.namespaces {
            namespaces.delete(name, &DeleteParams::default()).await.with_context(|| format!("delete {name}"))?;
        }
        Ok(())
    }
}
