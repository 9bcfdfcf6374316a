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
    time::Instant,
};
use weir_compile::WaypointName;
use weir_identity::{DevelopmentCa, Identities};
use weir_manifest::Ignored;
use weir_model::SpiffeId;
use weir_telemetry::{AccessLog, Admin, LogHandle, Metrics, Pace, Proxy, Query, Readiness, Routes};

use crate::{
    admin::{ConfigState, Dump},
    asked::{self, Known},
    cli::{Arguments, Switch},
    compiled::State,
    see::Tellers,
    source::{Change, Source},
    worker::{self, Order, Own, Shared},
};

/// How long the last log lines may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the first certificate may take: without one nothing is served.
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
        let (state, source) = open(&arguments)?;
        let readiness = Readiness::default();
        let certified = readiness.wait_for("its certificate");
        let stop = watch::Sender::new(false);
        let identities = identities(&arguments)?;
        let metrics = Arc::new(Metrics::for_requests("waypoint", env!("CARGO_PKG_VERSION")).with_process());
        let own = Own::new(&arguments)?;
        let shared = Shared::new(state.clone(), identities.clone(), own, metrics, keys(&arguments)?);
        let access = AccessLog::start(arguments.log_format, std::io::stdout())?;
        let tellers = tellers(&arguments, &shared, &access, &stop);
        let config = ConfigState::default();
        let dump = Dump { gateway: arguments.gateway.clone(), shared: shared.clone(), config: config.clone() };
        serve(&arguments, &shared, readiness, dump, log, &stop).await?;
        if let Some((identities, own)) = &identities {
            certify(identities, own, &stop).await?;
        }
        certified.done();
        let count = arguments.workers.or_else(|| available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get);
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            workers.push(worker::start(number, &arguments, &shared, tellers.clone()).context("starting a worker")?);
        }
        let drain = arguments.drain;
        let mut waypoint = Self { source, shared, config, workers, access, stop, drain };
        waypoint.accept(state);
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
            Change::Rejected(lines) => {
                for line in &lines {
                    tracing::error!("refused, the last good state stays in force: {line}");
                }
                self.shared.metrics.config_rejected.inc();
                self.config.rejected(timestamp(SystemTime::now()), lines);
            }
        }
    }

    fn accept(&self, state: Arc<State>) {
        let ignored: Vec<String> = self.source.ignored().iter().map(without_effect).collect();
        for line in &ignored {
            tracing::warn!("without effect: {line}");
        }
        for line in &state.notes {
            tracing::warn!("{line}");
        }
        let now = SystemTime::now();
        self.config.accepted(timestamp(now), ignored, state.notes.clone());
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.shared.metrics.config_generation.inc();
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

fn open(arguments: &Arguments) -> anyhow::Result<(Arc<State>, Source)> {
    let settings = weir_compile::Settings {
        trust_domain: arguments.trust_domain.clone(),
        cluster: arguments.cluster_id.clone(),
        network: arguments.network.clone(),
        node: None,
        cluster_domain: arguments.cluster_domain.clone(),
        root_namespace: arguments.root_namespace.clone(),
    };
    let gateway =
        WaypointName { namespace: arguments.gateway.namespace.clone(), name: arguments.gateway.name.as_str().into() };
    Source::open(&arguments.manifests, settings, gateway).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("  {}", weir_identity::causes(error))).collect();
        anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
    })
}

fn identities(arguments: &Arguments) -> anyhow::Result<Option<(Arc<Identities>, SpiffeId)>> {
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

/// Gets the first certificate, and has it renewed.
async fn certify(identities: &Arc<Identities>, own: &SpiffeId, stop: &watch::Sender<bool>) -> anyhow::Result<()> {
    let mut ending = stop.subscribe();
    tokio::spawn(identities.clone().run(async move { drop(ending.wait_for(|stop| *stop).await) }));
    let fetched = tokio::time::timeout(FIRST_CERTIFICATE, identities.fetch(own)).await;
    fetched.context("the CA does not answer")?.with_context(|| format!("no certificate for {own}"))?;
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
    let admin = Routes::Admin(Arc::new(Admin {
        pages: vec![("/config_dump", Box::new(move || dump.dump()))],
        questions: vec![("/debug/explain", Box::new(ask))],
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
