//! The API server of a large cluster: lists in pages, watches, and small objects that are written back.
//!
//! Objects are text that was made beforehand, so that a list costs this side next to nothing. How a real server misbehaves is shown by
//! the suite in `tests/kube`, not here.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::Shape;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Events that may wait for a watch.
const WAITING: usize = 4096;

/// A server that runs until this is dropped.
pub(crate) struct Source {
    state: Arc<State>,
    shape: Shape,
    _tasks: JoinSet<()>,
    kubeconfig: PathBuf,
}

struct State {
    objects: Mutex<Objects>,
}

#[derive(Default)]
struct Objects {
    version: u64,
    /// Lists, by plural.
    lists: BTreeMap<&'static str, Vec<Bytes>>,
    /// Pods that changed: the version, and the line of a watch.
    changes: Vec<(u64, Bytes)>,
    watching: Vec<mpsc::Sender<Bytes>>,
    /// What was written back, by path.
    written: BTreeMap<String, Value>,
}

impl State {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Makes up the cluster and serves it.
    pub(crate) async fn start(shape: Shape, dir: &Path) -> anyhow::Result<Self> {
        let text = |objects: Vec<Value>| objects.into_iter().map(|object| Bytes::from(object.to_string())).collect();
        let lists: BTreeMap<&'static str, Vec<Bytes>> = [
            ("namespaces", text(shape.all_namespaces())),
            ("nodes", text(shape.all_nodes())),
            ("services", text(shape.all_services())),
            ("endpointslices", text(shape.all_slices())),
            ("authorizationpolicies", text(shape.all_policies())),
            ("pods", (0..shape.pods).map(|pod| Bytes::from(shape.pod(pod, 1, "v1").to_string())).collect()),
        ]
        .into();
        let state = Arc::new(State { objects: Mutex::new(Objects { version: 1, lists, ..Objects::default() }) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (acceptor, root) = tls()?;
        let server = format!("https://{}", listener.local_addr()?);
        let kubeconfig = dir.join("kubeconfig");
        let root_file = dir.join("kube-root.pem");
        std::fs::write(&root_file, root)?;
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "scale",
            "clusters": [{"name": "scale", "cluster": {"server": server, "certificate-authority": root_file}}],
            "users": [{"name": "scale", "user": {"token": "of-the-control-plane"}}],
            "contexts": [{"name": "scale", "context": {"cluster": "scale", "user": "scale"}}]});
        std::fs::write(&kubeconfig, config.to_string())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, state.clone()));
        Ok(Self { state, shape, _tasks: tasks, kubeconfig })
    }

    /// How it is reached.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Mean length of a pod, in bytes.
    pub(crate) fn pod_bytes(&self) -> usize {
        let objects = self.state.objects();
        let pods = objects.lists.get("pods").map_or(&[][..], Vec::as_slice);
        pods.iter().map(Bytes::len).sum::<usize>() / pods.len().max(1)
    }

    /// Changes a pod: its label `version` says `change` from now on.
    ///
    /// # Errors
    /// When nobody watches, or who does is too slow.
    pub(crate) fn change(&self, pod: u32, change: &str) -> anyhow::Result<()> {
        let mut objects = self.state.objects();
        objects.version += 1;
        let version = objects.version;
        let object = self.shape.pod(pod, version, change).to_string();
        let line = Bytes::from(format!("{{\"type\":\"MODIFIED\",\"object\":{object}}}\n"));
        let pods = objects.lists.get_mut("pods").context("there are pods")?;
        *pods.get_mut(usize::try_from(pod)?).context("the pod exists")? = object.into();
        objects.changes.push((version, line.clone()));
        objects.watching.retain(|watch| !watch.is_closed());
        ensure!(!objects.watching.is_empty(), "nobody watches the pods");
        objects.watching.iter().try_for_each(|watch| watch.try_send(line.clone())).context("a watch is too slow")
    }
}

/// A certificate for the loopback that is its own root.
fn tls() -> anyhow::Result<(TlsAcceptor, String)> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), cert.pem()))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(state.clone(), request));
                    // A client that leaves is no news.
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_ok();
                });
            }
        }
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path();
    let query: BTreeMap<&str, &str> =
        head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let plural = path.rsplit('/').next().unwrap_or_default();
    let is_list = head.method == Method::GET
        && (path.starts_with("/api/v1/") || path.starts_with("/apis/"))
        && !path.contains("/namespaces/");
    Ok(match (is_list, query.contains_key("watch")) {
        (true, true) => watch(&state, plural, number("resourceVersion").unwrap_or_default()),
        (true, false) => list(
            &state.objects(),
            plural,
            number("limit").unwrap_or(usize::MAX),
            number("continue").unwrap_or_default(),
        ),
        (false, _) => write(&mut state.objects(), &head.method, path, &body),
    })
}

fn json_reply(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut reply = Response::new(Full::new(text.into()).boxed_unsync());
    *reply.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    reply
}

/// A page of a list; of what the cluster does not have it is empty.
fn list(objects: &Objects, plural: &str, limit: usize, from: usize) -> Response<Body> {
    let all = objects.lists.get(plural).map_or(&[][..], Vec::as_slice);
    let (from, to) = (from.min(all.len()), from.saturating_add(limit).min(all.len()));
    let mut text = Vec::with_capacity(all[from..to].iter().map(|object| object.len() + 1).sum::<usize>() + 200);
    let token = if to < all.len() { to.to_string() } else { String::new() };
    let version = objects.version;
    let head = format!(
        "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":\
         {{\"resourceVersion\":\"{version}\",\"continue\":\"{token}\"}},\"items\":["
    );
    text.extend_from_slice(head.as_bytes());
    for (place, object) in all[from..to].iter().enumerate() {
        text.extend_from_slice(if place == 0 { b"" } else { b"," });
        text.extend_from_slice(object);
    }
    text.extend_from_slice(b"]}");
    json_reply(200, text)
}

fn watch(state: &State, plural: &str, from: usize) -> Response<Body> {
    let (sender, lines) = mpsc::channel(WAITING);
    let mut objects = state.objects();
    let from = u64::try_from(from).unwrap_or(u64::MAX);
    let missed: Vec<Bytes> = match plural {
        "pods" => objects.changes.iter().filter(|(version, _)| *version > from).map(|(_, line)| line.clone()).collect(),
        _ => Vec::new(),
    };
    // Of other kinds nothing ever happens: their watches only stay open.
    objects.watching.retain(|watch| !watch.is_closed());
    let keep = if plural == "pods" {
        objects.watching.push(sender);
        None
    } else {
        Some(sender)
    };
    let lines = futures_util::stream::iter(missed).chain(ReceiverStream::new(lines)).map(move |line| {
        let _open = &keep;
        Ok(Frame::data(line))
    });
    let mut reply = Response::new(StreamBody::new(lines).boxed_unsync());
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    reply
}

/// What the control plane writes itself: Leases, ConfigMaps. Kept as it comes, whatever is in it.
fn write(objects: &mut Objects, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
    let mut object: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let at = if method == Method::POST { format!("{path}/{name}") } else { path.to_owned() };
    if method == Method::GET || method == Method::DELETE {
        let found = objects.written.get(&at);
        let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{at} not found")});
        return found
            .map_or_else(|| json_reply(404, missing.to_string()), |object| json_reply(200, object.to_string()));
    }
    if method == Method::PATCH
        && let Some(before) = objects.written.get(&at)
    {
        let mut merged = before.clone();
        merge(&mut merged, object);
        object = merged;
    }
    objects.version += 1;
    object["metadata"]["resourceVersion"] = json!(objects.version.to_string());
    let reply = json_reply(if method == Method::POST { 201 } else { 200 }, object.to_string());
    objects.written.insert(at, object);
    reply
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if let Some(object) = target.as_object_mut() {
            if value.is_null() {
                object.remove(&key);
            } else {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}
