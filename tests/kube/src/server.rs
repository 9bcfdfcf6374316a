//! The server: TLS, who asks, and to which part the request goes.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    access::{self, Wish},
    apply::Managers,
    fault::Faults,
    forward,
    reply::{Body, Refusal, json, page_not_found},
    request::{Path, Query, Resource},
    store::Store,
    token::{self, OWN_AUDIENCE, User},
    verbs::{self, Change, PatchKind},
    watch,
};

/// Most a request may have, in bytes: etcd's limit, and some.
const MAX_BODY: usize = 3 << 20;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the requests share.
pub(crate) struct State {
    store: Mutex<Store>,
    pub(crate) faults: Faults,
    admin: String,
    lists: AtomicU64,
    /// The version the last watch began from.
    pub(crate) watched: AtomicU64,
    /// Where the ports of pods really are, by namespace and name of the pod.
    pub(crate) forwards: Mutex<HashMap<(String, String), SocketAddr>>,
}

impl State {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An API server on the loopback, until it is dropped.
pub struct ApiServer {
    state: Arc<State>,
    address: SocketAddr,
    /// The kubeconfig and the CA's certificate.
    folder: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

impl ApiServer {
    /// Starts one on a free port, empty but for the namespaces `default` and `kube-system`.
    ///
    /// # Errors
    /// When there is no port or no place for a kubeconfig.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port on the loopback")?;
        let address = listener.local_addr()?;
        let folder = tempfile::tempdir()?;
        let (acceptor, authority) = tls()?;
        let admin = format!("admin-{:032x}", rand::random::<u128>());
        let server = Self::kubeconfig_text(address, &folder.path().join("ca.pem"), &admin);
        std::fs::write(folder.path().join("ca.pem"), authority)?;
        std::fs::write(folder.path().join("kubeconfig"), server)?;
        let state = Arc::new(State {
            store: Mutex::new(Store::new()),
            faults: Faults::new(),
            admin,
            lists: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            forwards: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, acceptor, state.clone()));
        Ok(Self { state, address, folder, accepting })
    }

    /// JSON is YAML.
    fn kubeconfig_text(address: SocketAddr, authority: &FilePath, token: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "weir-test",
            "clusters": [{"name": "weir-test", "cluster":
                {"server": format!("https://{address}"), "certificate-authority": authority}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "weir-test", "context": {"cluster": "weir-test", "user": "admin"}}],
        })
        .to_string()
    }

    /// `https://…`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig of somebody who may do everything. It is there as long as the server.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A client of somebody who may do everything.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let file = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Whoever is forwarded to a port of the pod gets there, whichever port it is.
    pub fn forward(&self, namespace: &str, pod: &str, to: SocketAddr) {
        let mut forwards = self.state.forwards.lock().unwrap_or_else(PoisonError::into_inner);
        forwards.insert((namespace.to_owned(), pod.to_owned()), to);
    }

    /// Puts pods in as they are, as if they always were there: quicker than by requests, and without a history.
    pub fn populate(&self, pods: impl IntoIterator<Item = Value>) {
        let mut store = self.state.store();
        let Some(resource) = store.resource("", "v1", "pods") else { return };
        for pod in pods {
            store.insert(&resource, pod, Managers::default());
        }
        store.compact();
    }

    /// What can be done to it.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Forgets the history: whoever goes on from an older version is told 410.
    pub fn compact(&self) {
        self.state.store().compact();
    }

    /// Pages of lists it was asked for so far.
    pub fn lists(&self) -> u64 {
        self.state.lists.load(Relaxed)
    }

    /// Whether the last watch began where nothing has happened since, to any kind.
    pub fn is_watched_from_now(&self) -> bool {
        self.state.watched.load(Relaxed) == self.state.store().version
    }

    /// A client of whoever holds a token.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client_of(&self, token: &str) -> Result<Client> {
        let mut file = Kubeconfig::read_from(self.kubeconfig())?;
        for user in &mut file.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() });
        }
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// One token is over.
    pub fn expire_token(&self, token: &str) {
        self.state.store().tokens.expire_one(token);
    }

    /// All tokens it gave out are over.
    pub fn expire_tokens(&self) {
        self.state.store().tokens.expire();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A CA of the server's own and a certificate for the loopback.
fn tls() -> Result<(TlsAcceptor, String)> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key)?.pem();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let key = rcgen::KeyPair::generate()?;
    let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
    let leaf = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), authority))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !state.faults.is_down() => {
                    connections.spawn(connection(stream, acceptor.clone(), state.clone()));
                }
                Ok(_) => {}
                // Out of file descriptors, most likely.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let mut down = state.faults.down.subscribe();
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(state, request).await) }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        // A client that leaves in the middle of a watch is no news.
        _ended = serving => {}
        () = watch::gone(&mut down) => {}
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let is_list = request.method() == Method::GET
        && Path::parse(request.uri().path()).is_some_and(|path| path.name.is_none())
        && !Query::parse(request.uri().query().unwrap_or_default()).watch;
    let delay = state.faults.delayed(is_list);
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let (head, body) = match forward::asked(request.uri().path()) {
        Some((namespace, pod)) => {
            return forward::answer(&state, &namespace, &pod, request).unwrap_or_else(|refusal| refused(&refusal));
        }
        None => request.into_parts(),
    };
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return refused(&Refusal::new(413, "RequestEntityTooLarge", "limit is 3145728")),
    };
    route(&state, &head, &body).unwrap_or_else(|refusal| refused(&refusal))
}

fn refused(refusal: &Refusal) -> Response<Body> {
    json(refusal.code, &refusal.status())
}

/// The user of a request.
pub(crate) fn user(state: &State, headers: &http::HeaderMap) -> Result<User, Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if token == state.admin {
        return Ok(User::admin());
    }
    match token::authenticate(&state.store(), token, &[OWN_AUDIENCE.to_owned()]) {
        Ok((user, _)) => Ok(user),
        Err(_) => Err(Refusal::new(401, "Unauthorized", "Unauthorized")),
    }
}

fn route(state: &Arc<State>, head: &http::request::Parts, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let user = user(state, &head.headers)?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if let Some(unknown) = &query.unknown {
        return Err(Refusal::bad(format!("this server does not know {unknown}")));
    }
    if head.method == Method::GET
        && let Some(found) = discovery(&state.store(), head.uri.path())
    {
        return Ok(json(200, &found));
    }
    let Some(path) = Path::parse(head.uri.path()) else { return Ok(page_not_found()) };
    let resource = format!("{}{}", path.plural, path.part.as_ref().map(|part| format!("/{part}")).unwrap_or_default());
    let wish = Wish {
        verb: path.verb(&head.method, &query).to_owned(),
        group: path.group.clone(),
        resource,
        namespace: if path.plural == "namespaces" { path.name.clone() } else { path.namespace.clone() },
        // A role that names objects lets those be listed and watched that are asked for by that name.
        name: path.name.clone().or_else(|| query.name.clone()),
    };
    // What they themselves may do, all may ask.
    if wish.resource != "selfsubjectaccessreviews" {
        access::check(&state.store(), &user, &wish)?;
    }
    let body = match body {
        [] => Value::Null,
        body => serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body is no JSON: {error}")))?,
    };
    if head.method == Method::POST
        && let Some(answer) = virtual_resource(&mut state.store(), &user, &path, &body)
    {
        return answer.map(|answer| json(201, &answer));
    }
    let resource = state.store().resource(&path.group, &path.version, &path.plural);
    let Some(resource) = resource else { return Ok(page_not_found()) };
    if head.method == Method::GET {
        return read(state, &resource, &path, &query);
    }
    let patch = head.headers.get(header::CONTENT_TYPE).and_then(|kind| match kind.as_bytes() {
        b"application/merge-patch+json" => Some(PatchKind::Merge),
        b"application/apply-patch+yaml" => Some(PatchKind::Apply),
        _ => None,
    });
    let lacking = patch == Some(PatchKind::Apply) && verbs::get(&state.store(), &resource, &path).is_err();
    if lacking {
        // Who applies what is not there makes it.
        access::check(&state.store(), &user, &Wish { verb: "create".to_owned(), name: None, ..wish })?;
    }
    let change = Change { method: &head.method, path: &path, query: &query, patch, body };
    let (code, object) = if query.dry {
        let mut trial = state.store().trial();
        verbs::change(&mut trial, &resource, change)?
    } else {
        verbs::change(&mut state.store(), &resource, change)?
    };
    let wants_metadata = head.headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(PARTIAL));
    Ok(json(code, &if wants_metadata { partial(&object) } else { object }))
}

/// How a client asks for nothing but metadata.
const PARTIAL: &[u8] = b"application/json;as=PartialObjectMetadata;";

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn read(state: &Arc<State>, resource: &Resource, path: &Path, query: &Query) -> Result<Response<Body>, Refusal> {
    if query.watch {
        return watch::start(state, resource, path, query);
    }
    let mut store = state.store();
    let found = match &path.name {
        Some(_) => verbs::get(&store, resource, path)?,
        None => {
            state.lists.fetch_add(1, Relaxed);
            verbs::list(&mut store, resource, path, query)?
        }
    };
    Ok(json(200, &found))
}

/// What is asked by making something that is not kept.
fn virtual_resource(store: &mut Store, user: &User, path: &Path, body: &Value) -> Option<Result<Value, Refusal>> {
    match (path.group.as_str(), path.plural.as_str(), path.part.as_deref()) {
        ("authentication.k8s.io", "tokenreviews", None) => Some(Ok(token::review(store, body.clone()))),
        ("authorization.k8s.io", "subjectaccessreviews", None) => Some(Ok(access::review(store, body.clone()))),
        ("authorization.k8s.io", "selfsubjectaccessreviews", None) => {
            Some(Ok(access::review_of(store, user, body.clone())))
        }
        ("", "serviceaccounts", Some("token")) => {
            let (namespace, name) =
                (path.namespace.as_deref().unwrap_or_default(), path.name.as_deref().unwrap_or_default());
            Some(token::request(store, namespace, name, body.clone()))
        }
        _ => None,
    }
}

/// What the server says of itself; nothing for groups it does not have.
fn discovery(store: &Store, path: &str) -> Option<Value> {
    let group_of = |resource: &Resource| (resource.group.clone(), resource.version.clone());
    let mut groups: Vec<_> = store.resources.iter().map(group_of).filter(|(group, _)| !group.is_empty()).collect();
    groups.sort();
    groups.dedup();
    match path.trim_end_matches('/') {
        "/version" => Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0-weir-test"})),
        "/readyz" | "/livez" => Some(json!("ok")),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => {
            let group = |(group, version): &(String, String)| {
                let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
                json!({"name": group, "versions": [version], "preferredVersion": version})
            };
            let groups: Vec<_> = groups.iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        path => {
            let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
                ["", "api", version] => (String::new(), (*version).to_owned()),
                ["", "apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
                _ => return None,
            };
            let mine: Vec<_> =
                store.resources.iter().filter(|one| one.group == group && one.version == version).collect();
            let listed = |one: &&Resource| {
                json!({"name": one.plural, "singularName": one.kind.to_lowercase(), "namespaced": one.namespaced,
                    "kind": one.kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
            };
            let version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
            let resources: Vec<_> = mine.iter().map(listed).collect();
            (!mine.is_empty()).then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}))
        }
    }
}
