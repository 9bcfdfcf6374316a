//! The agent's life: start everything in order, follow the mesh, stop in order.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use weir_compile::ClusterDomain;
use weir_discovery::{FolderSource, Update};
use weir_ebpf_loader::Redirect;
use weir_identity::{DevelopmentCa, Identities};
use weir_manifest::Ignored;
use weir_telemetry::{AccessLog, Admin, LogHandle, Metrics, Readiness, Routes};
use weir_world::World;

use crate::{
    admin::{ConfigState, Sources},
    cli::{AgentArguments, Switch},
    cni,
    enrol::{Enroller, States, chain},
    exemption::exemption,
    measure::{self, Decisions},
    routed::Routed,
    worker::{self, Order, Shared},
};

/// How often namespaces are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often series of workloads that are gone are forgotten.
const FORGET: Duration = Duration::from_secs(300);
/// How long the last log lines may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop.
pub(crate) fn run(agent: AgentArguments, bpf_dir: std::path::PathBuf) -> anyhow::Result<()> {
    let logging = weir_telemetry::init(agent.log_format, &agent.log_level).context("--log-level")?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(Agent::start_and_run(agent, bpf_dir, logging))
}

struct Agent {
    source: FolderSource,
    enroller: Enroller,
    shared: Shared,
    config: ConfigState,
    workers: Vec<worker::Handle>,
    access: Option<AccessLog>,
    decisions: Decisions,
    stop: watch::Sender<bool>,
    drain: Duration,
}

impl Agent {
    async fn start_and_run(
        arguments: AgentArguments,
        bpf_dir: std::path::PathBuf,
        log: LogHandle,
    ) -> anyhow::Result<()> {
        let settings = weir_compile::Settings {
            trust_domain: arguments.trust_domain.clone(),
            cluster: arguments.cluster_id.clone(),
            network: arguments.network.clone(),
            node: Some(arguments.node_name.clone()),
            cluster_domain: ClusterDomain::default(),
            root_namespace: weir_compile::default_root_namespace(),
        };
        let (world, source) = FolderSource::open(&arguments.manifests, settings).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("  {}", chain(error))).collect();
            anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
        })?;
        let ca = DevelopmentCa::open(&arguments.ca_dir, &arguments.trust_domain).context("--ca-dir")?;
        let routed = Routed::new(&bpf_dir);
        let redirect = Redirect::start(&weir_ebpf_loader::Settings {
            pin_dir: bpf_dir,
            cgroup_root: arguments.cgroup_root.clone(),
            max_flows: arguments.max_flows,
            host_exemption: exemption(arguments.cgroup_root.as_deref(), &arguments.host_process),
        })
        .context("the kernel programs cannot be started")?;
        let shared = Shared {
            world: Arc::new(ArcSwap::new(world)),
            identities: Arc::new(Identities::new(Arc::new(ca))),
            metrics: Arc::new(Metrics::new("agent", env!("CARGO_PKG_VERSION")).with_process()),
        };
        let access = match arguments.access_log {
            Switch::On => Some(AccessLog::start(arguments.log_format, io::stdout())?),
            Switch::Off => None,
        };
        if let Some(access) = &access {
            access.follow(&arguments.log_level);
        }
        let workers = start_workers(&arguments, &shared, &redirect, access.as_ref())?;
        let states = States::default();
        let orders = workers.iter().map(|worker| worker.orders.clone()).collect();
        let enroller = Enroller::new(redirect, shared.clone(), orders, routed, states.clone());
        let plugin_states = states.clone();
        let config = ConfigState::default();
        let stop = watch::Sender::new(false);
        let readiness = Readiness::default();
        let enrolled = readiness.wait_for("pods of this node");
        let dump = Sources {
            node: arguments.node_name.to_string(),
            world: shared.world.clone(),
            identities: shared.identities.clone(),
            states,
            config: config.clone(),
        };
        serve(&arguments, &shared, readiness, dump, (log, access.clone()), &stop).await?;
        serve_plugin(&arguments, plugin_states, &stop)?;
        let identities = shared.identities.clone();
        let mut ending = stop.subscribe();
        tokio::spawn(identities.run(async move { drop(ending.wait_for(|stop| *stop).await) }));
        let mut agent = Self {
            source,
            enroller,
            shared,
            config,
            workers,
            access,
            decisions: Decisions::default(),
            stop,
            drain: arguments.drain,
        };
        measure::collect(&agent.shared, agent.access.clone(), agent.decisions.clone());
        agent.accept(agent.shared.world.load_full());
        agent.reconcile().await;
        if agent.enroller.failing() == 0 {
            enrolled.done();
            agent.follow(None).await?;
        } else {
            agent.follow(Some(enrolled)).await?;
        }
        agent.end().await
    }

    /// Follows the mesh until told to stop.
    async fn follow(&mut self, mut enrolled: Option<weir_telemetry::Unready>) -> anyhow::Result<()> {
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (mut look, mut forget) = (interval(LOOK), interval(FORGET));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.stop.subscribe();
        tracing::info!("weir-agent is running");
        loop {
            tokio::select! {
                _ = terminated.recv() => break,
                _ = interrupted.recv() => break,
                _ = stop.wait_for(|stop| *stop) => break,
                update = self.source.next() => {
                    match update {
                        Update::World(world) => self.accept(world),
                        Update::Rejected(errors) => self.reject(&errors),
                    }
                    self.reconcile().await;
                }
                _ = look.tick() => {
                    self.reconcile().await;
                    self.decisions.update(self.enroller.redirect());
                }
                _ = forget.tick() => self.shared.metrics.forget_idle(),
            }
            // Ready once every pod that is to be caught has been, and from then on: what fails later is told by metrics.
            if self.enroller.failing() == 0
                && let Some(enrolled) = enrolled.take()
            {
                enrolled.done();
            }
        }
        Ok(())
    }

    fn accept(&self, world: Arc<World>) {
        self.shared.world.store(world);
        let ignored: Vec<String> = self.source.ignored().iter().map(without_effect).collect();
        for line in &ignored {
            tracing::warn!("without effect: {line}");
        }
        let now = SystemTime::now();
        self.config.accepted(timestamp(now), ignored);
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.shared.metrics.config_generation.inc();
        self.shared.metrics.config_last_good.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    fn reject(&self, errors: &[weir_discovery::SourceError]) {
        let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
        for line in &lines {
            tracing::error!("manifest refused, the last good state stays in force: {line}");
        }
        self.shared.metrics.config_rejected.inc();
        self.config.rejected(timestamp(SystemTime::now()), lines);
    }

    async fn reconcile(&mut self) {
        let world = self.shared.world.load_full();
        self.enroller.reconcile(&world).await;
    }

    /// Stops: nothing new, what is open may end, then the last words. Programs and pins stay, so that pods do not fall back
    /// to plaintext; another agent takes them over.
    async fn end(self) -> anyhow::Result<()> {
        tracing::info!(drain = ?self.drain, "stopping: open connections may end, new ones are refused or another agent's");
        let by = Instant::now() + self.drain;
        for worker in &self.workers {
            // A worker that is gone has nothing to drain.
            drop(worker.orders.send(Order::Drain { by }).await);
        }
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || workers.into_iter().all(|w| w.thread.join().is_ok()));
        let all_well = tokio::time::timeout_at(by + LAST_WORDS, joined).await;
        self.stop.send_replace(true);
        if let Some(access) = &self.access {
            access.close(LAST_WORDS);
        }
        match all_well {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => bail!("a worker did not end well"),
            Err(_) => bail!("a worker did not end in time"),
        }
    }
}

fn start_workers(
    arguments: &AgentArguments,
    shared: &Shared,
    redirect: &Redirect,
    access: Option<&AccessLog>,
) -> anyhow::Result<Vec<worker::Handle>> {
    let count = arguments.workers.or_else(|| available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get);
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        let origins = redirect.origins().context("the map of original destinations")?;
        workers.push(worker::start(number, shared.clone(), origins, access.cloned()).context("starting a worker")?);
    }
    Ok(workers)
}

async fn serve(
    arguments: &AgentArguments,
    shared: &Shared,
    readiness: Readiness,
    dump: Sources,
    (logging, access): (LogHandle, Option<AccessLog>),
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let quit = stop.clone();
    // Each worker's end has a line of its own in it, so this one is not shared without a lock.
    let access = access.map(Mutex::new);
    let admin = Routes::Admin(Arc::new(Admin {
        pages: vec![("/config_dump", Box::new(move || dump.dump()))],
        logging,
        filtered: Box::new(move |filter| {
            if let Some(access) = &access {
                access.lock().unwrap_or_else(PoisonError::into_inner).follow(filter);
            }
        }),
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
                tracing::error!(error = %chain(&error), "a server of the agent ended");
            }
        });
    }
    Ok(())
}

fn serve_plugin(arguments: &AgentArguments, states: States, stop: &watch::Sender<bool>) -> anyhow::Result<()> {
    let Some(path) = &arguments.cni_socket else { return Ok(()) };
    let server = cni::Server::bind(path, arguments.cluster_id.clone(), states).context("--cni-socket")?;
    let mut ending = stop.subscribe();
    tokio::spawn(server.serve(async move { drop(ending.wait_for(|stop| *stop).await) }));
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
