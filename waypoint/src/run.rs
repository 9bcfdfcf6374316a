//! The waypoint's life: start everything in order, follow the mesh, stop in order.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, sleep},
};
use weir_compile::WaypointName;
use weir_identity::{DevelopmentCa, Identities};
use weir_issuance::RemoteCa;
use weir_manifest::Ignored;
use weir_model::SpiffeId;
use weir_rpc::{Dial, Target};
use weir_telemetry::{AccessLog, Admin, ControlState, LogHandle, Metrics, Pace, Proxy, Query, Readiness, Routes};

use crate::{
    admin::{ConfigState, Dump},
    asked::{self, Known},
    cli::{Arguments, GatewayName, Switch},
    compiled::State,
    control::{Control, introduction},
    refusals,
    see::Tellers,
    source::{Change, Source},
    told::Subject,
    worker::{self, Order, Own, Shared},
};

/// How long the last log lines may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long certificates are asked to be valid. Istio `SECRET_TTL`.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Between two looks for the first certificate. When the CA is asked again, what holds certificates decides.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long the first certificate may take from a CA of our own: without one nothing is served.
const FIRST_CERTIFICATE: Duration = Duration::from_secs(60);

/// Runs the waypoint until it is told to stop.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let logging = weir_telemetry::init(arguments.log_format, &arguments.log_level).context("--log-level")?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(Waypoint::start_and_run(arguments, logging))
}

struct Waypoint {
    source: Source,
    shared: Shared,
    config: ConfigState,
    workers: Vec<worker::Handle>,
    access: AccessLog,
    stop: watch::Sender<bool>,
    drain: Duration,
}

impl Waypoint {
    async fn start_and_run(arguments: Arguments, log: LogHandle) -> anyhow::Result<()> {
        let readiness = Readiness::default();
        let Origin { mut source, state, identities, control } = Origin::open(&arguments, &readiness)?;
        let certified = readiness.wait_for("its certificate");
        let stop = watch::Sender::new(false);
        let metrics = Arc::new(Metrics::for_requests("waypoint", env!("CARGO_PKG_VERSION")).with_process());
        let own = Own::new(&arguments)?;
        let (keys, names) = (keys(&arguments)?, names(&arguments));
        let count = worker_count(&arguments);
        let refusals = refusals::rings(count);
        let first = state.clone().unwrap_or_default();
        let shared = Shared::new(first, identities.clone(), own, metrics, (keys, names), refusals);
        tokio::spawn(shared.clone().follow_names());
        let access = AccessLog::start(arguments.log_format, std::io::stdout())?;
        let tellers = tellers(&arguments, &shared, &access, &stop);
        let config = ConfigState::default();
        control.iter().for_each(|control| control.collect(&shared.metrics));
        let gateway = arguments.gateway.clone();
        let dump = Dump { gateway, shared: shared.clone(), config: config.clone(), control: control.clone() };
        serve(&arguments, &shared, readiness, dump, log, &stop).await?;
        let first = async {
            if let Some((identities, own)) = &identities {
                let patience = if control.is_some() { Duration::MAX } else { FIRST_CERTIFICATE };
                certify(identities, own, &stop, patience).await?;
            }
            match state {
                Some(state) => Ok(state),
                None => Ok::<_, anyhow::Error>(first_of(&mut source, &shared, &config).await),
            }
        };
        let state = tokio::select! {
            state = first => state?,
            () = stopped(&stop) => return Ok(()),
        };
        if let (Some(_), Some((identities, _))) = (&control, &identities) {
            tokio::spawn(weir_identity::follow_roots(arguments.ca_roots.clone(), identities.clone(), stopped(&stop)));
        }
        let (workers, drain) = (Vec::with_capacity(count), arguments.drain);
        let mut waypoint = Self { source, shared, config, workers, access, stop, drain };
        waypoint.accept(state);
        for number in 0..count {
            let worker = worker::start(number, &arguments, &waypoint.shared, tellers.clone());
            waypoint.workers.push(worker.context("starting a worker")?);
        }
        certified.done();
        waypoint.follow().await?;
        waypoint.end().await
    }

    /// Follows the mesh until told to stop.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut stop = self.stop.subscribe();
        tracing::info!("weir-waypoint is running");
        loop {
            tokio::select! {
                _ = terminated.recv() => break,
                _ = interrupted.recv() => break,
                _ = stop.wait_for(|stop| *stop) => break,
                change = self.source.next() => self.change(change),
            }
        }
        Ok(())
    }

    fn change(&self, change: Change) {
        match change {
            Change::State(state) => self.accept(state),
            Change::Rejected(lines) => reject(&self.shared, &self.config, lines),
        }
    }

    fn accept(&self, state: Arc<State>) {
        let ignored: Vec<String> = self.source.ignored().iter().map(without_effect).collect();
        for line in &ignored {
            tracing::warn!("without effect: {line}");
        }
        for line in &*state.notes {
            tracing::warn!("{line}");
        }
        let now = SystemTime::now();
        self.config.accepted(timestamp(now), ignored, state.notes.to_vec());
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.shared.metrics.config_generation.inc();
        self.shared.metrics.config_refused.set(0);
        self.shared.metrics.config_last_good.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.shared.publish(state);
    }

    /// Stops: nothing new, what is under way may end, then the last words. Until then the mesh is followed.
    async fn end(mut self) -> anyhow::Result<()> {
        tracing::info!(drain = ?self.drain, "stopping: requests under way may end, new connections are refused");
        let by = Instant::now() + self.drain;
        for worker in &self.workers {
            // A worker that is gone has nothing to drain.
            drop(worker.orders.send(Order::Drain { by }).await);
        }
        let workers = std::mem::take(&mut self.workers);
        let joined = tokio::task::spawn_blocking(move || workers.into_iter().all(|w| w.thread.join().is_ok()));
        let joined = tokio::time::timeout_at(by + LAST_WORDS, joined);
        tokio::pin!(joined);
        let all_well = loop {
            tokio::select! {
                all_well = &mut joined => break all_well,
                change = self.source.next() => self.change(change),
            }
        };
        self.stop.send_replace(true);
        self.access.close(LAST_WORDS);
        match all_well {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => bail!("a worker did not end well"),
            Err(_) => bail!("a worker did not end in time"),
        }
    }
}

fn reject(shared: &Shared, config: &ConfigState, lines: Vec<String>) {
    for line in &lines {
        tracing::error!("refused, the last good state stays in force: {line}");
    }
    shared.metrics.config_rejected.inc();
    shared.metrics.config_refused.set(1);
    config.rejected(timestamp(SystemTime::now()), lines);
}

/// The first state of a source that has none at once.
async fn first_of(source: &mut Source, shared: &Shared, config: &ConfigState) -> Arc<State> {
    loop {
        match source.next().await {
            Change::State(state) => return state,
            Change::Rejected(lines) => reject(shared, config, lines),
        }
    }
}

/// Where everything comes from.
struct Origin {
    source: Source,
    /// The first state, where it is there at once.
    state: Option<Arc<State>>,
    identities: Option<(Arc<Identities>, SpiffeId)>,
    control: Option<ControlState>,
}

impl Origin {
    fn open(arguments: &Arguments, readiness: &Readiness) -> anyhow::Result<Self> {
        let settings = weir_compile::Settings {
            trust_domain: arguments.trust_domain.clone(),
            cluster: arguments.cluster_id.clone(),
            network: arguments.network.clone(),
            node: None,
            cluster_domain: arguments.cluster_domain.clone(),
            root_namespace: arguments.root_namespace.clone(),
        };
        let GatewayName { namespace, name } = &arguments.gateway;
        let gateway = WaypointName { namespace: namespace.clone(), name: name.as_str().into() };
        match (&arguments.manifests, &arguments.control) {
            (Some(manifests), _) => {
                let (state, source) = Source::open(manifests, settings, gateway).map_err(|errors| {
                    let lines: Vec<String> =
                        errors.iter().map(|error| format!("  {}", weir_identity::causes(error))).collect();
                    anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
                })?;
                Ok(Self { source, state: Some(state), identities: own_ca(arguments)?, control: None })
            }
            (None, Some(control)) => {
                let about = ControlState::waiting(readiness.wait_for("the control plane"));
                let (xds, ca) = dials(arguments, control)?;
                let pod = arguments.pod_name.as_ref().map_or(name.as_str(), |pod| pod.as_str());
                let cluster = arguments.cluster_id.as_str();
                let node = introduction(namespace, pod, cluster, &arguments.cluster_domain.to_string());
                let hosts = arguments.plain.iter().map(|plain| plain.host.clone()).collect();
                let source = Control::new(xds, node, Subject { settings, gateway, hosts }, about.clone());
                let identities = match arguments.proxy_addr {
                    // The agent proves who it is.
                    Some(_) => None,
                    None => {
                        let ca = Arc::new(RemoteCa::new(ca, CERTIFICATE_LIFETIME));
                        Some((Arc::new(Identities::new(ca)), arguments.identity()?))
                    }
                };
                let source = Source::Control(Box::new(source));
                Ok(Self { source, state: None, identities, control: Some(about) })
            }
            (None, None) => bail!("expected --manifests or --control"),
        }
    }
}

/// The development CA, if there is to be one.
fn own_ca(arguments: &Arguments) -> anyhow::Result<Option<(Arc<Identities>, SpiffeId)>> {
    let Some(ca_dir) = &arguments.ca_dir else { return Ok(None) };
    let ca = DevelopmentCa::open(ca_dir, &arguments.trust_domain).context("--ca-dir")?;
    Ok(Some((Arc::new(Identities::new(Arc::new(ca))), arguments.identity()?)))
}

/// Where what is told of requests goes.
fn tellers(arguments: &Arguments, shared: &Shared, access: &AccessLog, stop: &watch::Sender<bool>) -> Tellers {
    let name = format!("{}.{}", arguments.gateway.name, arguments.gateway.namespace);
    let pod = arguments.pod_name.as_ref().map_or("", |name| name.as_str());
    let proxy = Proxy {
        node: format!("waypoint~{pod}.{}", arguments.gateway.namespace),
        cluster: arguments.cluster_id.to_string(),
        namespace: arguments.gateway.namespace.to_string(),
        canonical_service: arguments.gateway.name.clone(),
        canonical_revision: "latest".to_owned(),
        ..Proxy::default()
    };
    let spans = arguments.otlp_endpoint.clone().map(|endpoint| {
        let resource = vec![("service.name".to_owned(), name)];
        let (spans, exporter) = weir_telemetry::exporter(endpoint, resource, Pace::default());
        spans.collect(&shared.metrics);
        let mut ending = stop.subscribe();
        tokio::spawn(exporter.run(async move { drop(ending.wait_for(|stop| *stop).await) }));
        spans
    });
    Tellers { access: access.clone(), logged: arguments.access_log == Switch::On, spans, proxy: Arc::new(proxy) }
}

/// How control plane and CA are reached.
fn dials(arguments: &Arguments, control: &str) -> anyhow::Result<(Dial, Dial)> {
    let target = |url: &str, name: &Option<String>, flag| Target::parse(url, name.as_deref()).context(flag);
    let xds = target(control, &arguments.control_name, "--control")?;
    let ca = match &arguments.ca {
        Some(ca) => target(ca, &arguments.ca_name, "--ca")?,
        None => target(control, &arguments.ca_name.clone().or(arguments.control_name.clone()), "--control")?,
    };
    let token = Some(arguments.token.clone());
    let xds = Dial { target: xds, roots: arguments.control_roots.clone(), token: token.clone() };
    Ok((xds, Dial { target: ca, roots: arguments.ca_roots.clone(), token }))
}

/// Ends when all is to stop.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopping = stop.subscribe();
    async move { drop(stopping.wait_for(|stop| *stop).await) }
}

fn worker_count(arguments: &Arguments) -> usize {
    arguments.workers.or_else(|| available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}

/// Begins to fetch the keys of those who issue tokens.
fn keys(arguments: &Arguments) -> anyhow::Result<weir_jwks::Handle> {
    let listed = arguments.jwks_allow.iter().map(String::as_str);
    let allowed = weir_jwks::Allowed::new(listed).context("--jwks-allow")?;
    let roots = weir_jwks::Roots { file: arguments.jwks_ca.clone() };
    let config = weir_jwks::Config { roots, allowed, ..weir_jwks::Config::default() };
    let (fetcher, handle) = weir_jwks::Fetcher::new(config).context("--jwks-ca")?;
    tokio::spawn(fetcher.run());
    Ok(handle)
}

/// Begins to resolve names of endpoints. Where no server of DNS is known nothing has an address, and everything else is served.
fn names(arguments: &Arguments) -> weir_resolver::Names {
    let (follower, names) = weir_resolver::Follower::new();
    let servers = match arguments.dns_server.as_slice() {
        [] => weir_resolver::Servers::System,
        servers => weir_resolver::Servers::These(servers.to_vec()),
    };
    tokio::spawn(async move {
        if let Err(error) = follower.run(servers).await {
            tracing::error!(error = %weir_identity::causes(&error), "names of endpoints are not resolved");
        }
    });
    names
}

/// Gets the first certificate, asked for again until it is late, and has it renewed.
async fn certify(
    identities: &Arc<Identities>,
    own: &SpiffeId,
    stop: &watch::Sender<bool>,
    patience: Duration,
) -> anyhow::Result<()> {
    tokio::spawn(identities.clone().run(stopped(stop)));
    let started = Instant::now();
    let mut complaint = String::new();
    while let Err(error) = identities.fetch(own).await {
        if started.elapsed() > patience {
            return Err(error).with_context(|| format!("no certificate for {own}"));
        }
        let why = weir_identity::causes(&error);
        if why != complaint {
            tracing::warn!("no certificate yet: {why}");
            complaint = why;
        }
        sleep(ASK_AGAIN).await;
    }
    identities.retain(&HashSet::from([own.clone()]));
    Ok(())
}

async fn serve(
    arguments: &Arguments,
    shared: &Shared,
    readiness: Readiness,
    dump: Dump,
    logging: LogHandle,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let quit = stop.clone();
    let (gateway, live, trusted_hops) = (arguments.gateway.clone(), shared.clone(), arguments.trusted_proxies);
    let ask = move |query: &Query| {
        let known = Known { state: live.state(), gateway: &gateway, keys: &live.keys, trusted_hops };
        asked::answer(&known, query)
    };
    let (dump, refused) = (Arc::new(dump), shared.refusals.clone());
    let (short, summary, why) = (dump.clone(), "/debug/summary", "/debug/refusals");
    let admin = Routes::Admin(Arc::new(Admin {
        pages: vec![("/config_dump", Box::new(move || dump.dump())), (summary, Box::new(move || short.summary()))],
        questions: vec![
            ("/debug/explain", Box::new(ask)),
            (why, Box::new(move |query| refusals::answer(&refused, query))),
        ],
        inquiries: Vec::new(),
        logging,
        filtered: Box::new(|_| {}),
        readiness: readiness.clone(),
        quit: Box::new(move || {
            quit.send_replace(true);
        }),
    }));
    let at = |address: SocketAddr, flag: &'static str| async move { weir_telemetry::bind(address).await.context(flag) };
    let mut servers = vec![
        (at(arguments.stats_addr, "--stats-addr").await?, Routes::Stats(shared.metrics.clone())),
        (at(arguments.ready_addr, "--ready-addr").await?, Routes::Ready(readiness)),
    ];
    for listener in weir_telemetry::bind_loopback(arguments.admin_addr).await.context("--admin-addr")? {
        servers.push((listener, admin.clone()));
    }
    for (listener, routes) in servers {
        let mut ending = stop.subscribe();
        tokio::spawn(async move {
            let ended = async move { drop(ending.wait_for(|stop| *stop).await) };
            if let Err(error) = weir_telemetry::serve(listener, routes, ended).await {
                tracing::error!(error = %weir_identity::causes(&error), "a server of the waypoint ended");
            }
        });
    }
    Ok(())
}

/// Two descriptors a connection: the soft limit of most systems is far too low.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open descriptors could not be raised");
    }
}

fn without_effect(ignored: &Ignored) -> String {
    let field = if ignored.field.is_empty() { String::new() } else { format!(", {}", ignored.field) };
    format!("{}: {}{field}: {}", ignored.origin, ignored.object, ignored.why)
}

/// A time as people and programs read it. RFC 3339.
pub(crate) fn timestamp(at: SystemTime) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from(at).format(format).unwrap_or_default()
}
