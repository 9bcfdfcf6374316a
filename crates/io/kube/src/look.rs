//! An API server as somebody looks at it: objects as they are, a page at a time, what one may do, small changes, and ports of pods.

use std::{path::Path, time::Duration};

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use crate::{Error, error::within};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a connection to the server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Most an answer may have, in bytes: a page of 500 pods, each as large as pods are, and some.
const MAX_ANSWER: usize = 64 << 20;
/// Most of an error that is read as text, in characters.
const MAX_MESSAGE: usize = 200;
/// As whom objects are applied.
const MANAGER: &str = "weirctl";

/// An API server, asked as whoever a kubeconfig names.
#[derive(Clone)]
pub struct Look {
    client: Client,
    url: String,
    namespace: String,
}

/// A page of a list.
#[derive(Debug)]
pub struct Listed {
    /// The objects, as they came.
    pub items: Vec<Value>,
    /// For the next page, if there is one.
    pub token: Option<String>,
}

/// Something that one may do, or not. Kubernetes `ResourceAttributes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed<'a> {
    /// `verb`.
    pub verb: &'a str,
    /// `group`; empty for the core.
    pub group: &'a str,
    /// `resource`.
    pub resource: &'a str,
    /// `subresource`; empty for the object itself.
    pub part: &'a str,
    /// `namespace`; all of them without one.
    pub namespace: Option<&'a str>,
}

impl Look {
    /// The server that a kubeconfig names, or the one of `KUBECONFIG`, or of the pod this runs in. Nothing is asked yet.
    ///
    /// # Errors
    /// When the file, its context, or the pod's service account cannot be used.
    pub async fn open(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| Error::Config {
            path: kubeconfig.map(Path::to_owned),
            source,
        };
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let mut config = match (kubeconfig, context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path).map_err(|error| fail(error.into()))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| fail(error.into()))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| fail(error.into()))?,
            (None, None) => Config::infer().await.map_err(|error| fail(error.into()))?,
        };
        config.connect_timeout = Some(CONNECT);
        let (url, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| fail(error.into()))?;
        Ok(Self { client, url, namespace })
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// The namespace that is meant where none is said.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A page of at most `limit` objects of a collection, such as `/api/v1/pods`, or `/api/v1/pods?labelSelector=app`.
    ///
    /// # Errors
    /// When the server refuses, does not say in time, or says what is no list.
    pub async fn page(&self, path: &str, limit: u32, token: Option<&str>) -> Result<Listed, Error> {
        let mut target = format!("{path}{}limit={limit}", if path.contains('?') { '&' } else { '?' });
        if let Some(token) = token {
            target.push_str("&continue=");
            target.extend(token.bytes().map(|byte| match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            }));
        }
        let what = format!("list {path}");
        let answer = self.send(&what, Method::GET, &target, None).await?;
        let (items, metadata) = match answer {
            Value::Object(mut fields) => (fields.remove("items"), fields.remove("metadata").unwrap_or_default()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => (None, Value::Null),
        };
        let items = match items {
            Some(Value::Array(items)) => items,
            Some(Value::Null) => Vec::new(),
            Some(_) | None => return Err(Error::Incomplete { what, field: "items" }),
        };
        let token = metadata["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(Listed { items, token })
    }

    /// An object, or another page of the server, if it is there.
    ///
    /// # Errors
    /// When the server refuses, or does not say in time.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.send(&format!("get {path}"), Method::GET, path, None).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Applies an object on the server's side. By force, fields of others become ours.
    ///
    /// # Errors
    /// With status 409 when the fields belong to others, and when the server refuses or does not say in time.
    pub async fn apply(&self, path: &str, object: &Value, force: Force) -> Result<Value, Error> {
        let force = match force {
            Force::Yes => "&force=true",
            Force::No => "",
        };
        let target = format!("{path}?fieldManager={MANAGER}{force}");
        self.send(&format!("apply {path}"), Method::PATCH, &target, Some(("application/apply-patch+yaml", object)))
            .await
    }

    /// Changes some fields of an object. RFC 7396.
    ///
    /// # Errors
    /// When the server refuses, or does not say in time.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Error> {
        let target = format!("{path}?fieldManager={MANAGER}");
        self.send(&format!("patch {path}"), Method::PATCH, &target, Some(("application/merge-patch+json", patch))).await
    }

    /// Deletes an object; whether it was there.
    ///
    /// # Errors
    /// When the server refuses, or does not say in time.
    pub async fn delete(&self, path: &str) -> Result<bool, Error> {
        match self.send(&format!("delete {path}"), Method::DELETE, path, None).await {
            Err(error) if error.status() == Some(404) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Whether one may do that, by `SelfSubjectAccessReview`.
    ///
    /// # Errors
    /// When the server does not say in time.
    pub async fn may(&self, deed: &Deed<'_>) -> Result<bool, Error> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": deed.verb, "group": deed.group, "resource": deed.resource, "subresource": deed.part,
                "namespace": deed.namespace.unwrap_or_default(),
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let what = "create SelfSubjectAccessReview";
        let answer = self.send(what, Method::POST, path, Some(("application/json", &review))).await?;
        let missing = || Error::Incomplete { what: what.to_owned(), field: "status.allowed" };
        answer.pointer("/status/allowed").and_then(Value::as_bool).ok_or_else(missing)
    }

    /// A connection to a port of a pod, as the pod itself would make it to its loopback.
    ///
    /// # Errors
    /// When the server refuses, or does not do it in time.
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let what = || format!("get and create pods/portforward of {namespace}/{pod}");
        let mut forwarder = within(DEADLINE, what, async { pods.portforward(pod, &[port]).await }).await?;
        forwarder.take_stream(port).ok_or_else(|| Error::Incomplete { what: what(), field: "stream" })
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        target: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, Error> {
        let unreachable = |error| Error::of(what, error);
        let mut request = Request::builder().method(method).uri(target).header(header::ACCEPT, "application/json");
        let body = match body {
            Some((kind, value)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                Body::from(value.to_string().into_bytes())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|error| unreachable(kube::Error::HttpError(error)))?;
        let deadline = Instant::now() + DEADLINE;
        let slow = |_| Error::Slow { what: what.to_owned(), within: DEADLINE };
        let answer = timeout_at(deadline, self.client.send(request)).await.map_err(slow)?.map_err(unreachable)?;
        let (status, mut body, mut bytes) = (answer.status(), answer.into_body(), Vec::new());
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(slow)? {
            let frame = frame.map_err(unreachable)?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |part| part));
            if bytes.len() > MAX_ANSWER {
                return Err(Error::TooLarge { what: what.to_owned(), max: MAX_ANSWER });
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { what: what.to_owned(), source });
        }
        Err(refused(what, status, &bytes))
    }
}

/// Whether fields of others become ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They do.
    Yes,
    /// They do not: then it is an error.
    No,
}

fn refused(what: &str, status: StatusCode, text: &[u8]) -> Error {
    let message = match serde_json::from_slice::<Status>(text) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(text).trim().chars().take(MAX_MESSAGE).collect(),
    };
    Error::Status { what: what.to_owned(), code: status.as_u16(), message }
}
