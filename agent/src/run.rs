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
use weir_ebpf_loader::Redirect;
use weir_identity::{DevelopmentCa, Identities, Issuer, follow_roots};
use weir_issuance::RemoteCa;
use weir_manifest::Ignored;
use weir_net::NetnsId;
use weir_rpc::{Dial, Target};
use weir_telemetry::{AccessLog, Admin, ControlState, Inquiry, LogHandle, Metrics, Readiness, Routes};
use weir_world::World;

use crate::{
    admin::{ConfigState, Sources, asked, explained, lists},
    cli::{AgentArguments, CniFolders, Switch},
    cni,
    demand::Demands,
    enrol::{Enroller, Places, States, chain},
    exemption::exemption,
    install::{Repair, Repairs},
    measure::{self, Decisions},
    namespaces::{Authority, Namespaces},
    proc::Look,
    refusals, report,
    routed::Routed,
    source::{Change, Control, Manifests, Source},
    worker::{self, Order, Shared},
    zds,
};

/// How often namespaces are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often series of workloads that are gone are forgotten.
const FORGET: Duration = Duration::from_secs(300);
/// How long certificates are asked to be valid. Istio `SECRET_TTL`.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long the last log lines may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop.
pub(crate) fn run(agent: AgentArguments, bpf_dir: std::path::PathBuf) -> anyhow::Result<()> {
    let logging = weir_telemetry::init(agent.log_format, &agent.log_level).context("--log-level")?;
    raise_descriptor_limit();
    settings_in(&agent.proc);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(Agent::start_and_run(agent, bpf_dir, logging))
}

struct Agent {
    source: Source,
    enroller: Enroller,
    shared: Shared,
    config: ConfigState,
    workers: Vec<worker::Handle>,
    access: Option<AccessLog>,
    decisions: Decisions,
    /// Whether the source has told everything at least once.
    knows: bool,
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
            cluster_domain: arguments.cluster_domain.clone(),
            root_namespace: arguments.root_namespace.clone(),
        };
        let readiness = Readiness::default();
        let Origin { source, world, issuer, control, demands, dial } = Origin::open(&arguments, settings, &readiness)?;
        let routed = Routed::new(&bpf_dir, &arguments.proc);
        let redirect = Redirect::start(&weir_ebpf_loader::Settings {
            pin_dir: bpf_dir,
            cgroup_root: arguments.cgroup_root.clone(),
            max_flows: arguments.max_flows,
            host_exemption: exemption(arguments.cgroup_root.as_deref(), &arguments.host_process),
        })
        .context("the kernel programs cannot be started")?;
        let shared = Shared {
            world: Arc::new(ArcSwap::new(world.clone().unwrap_or_default())),
            changed: watch::Sender::new(()),
            identities: Arc::new(Identities::new(issuer)),
            metrics: Arc::new(Metrics::new("agent", env!("CARGO_PKG_VERSION")).with_process()),
            shadows: Arc::default(),
            refusals: refusals::rings(worker_count(&arguments)),
            demands,
        };
        let access = access_log(&arguments)?;
        let workers = start_workers(&arguments, &shared, &redirect, access.as_ref())?;
        let states = States::default();
        let orders: Vec<_> = workers.iter().map(|worker| worker.orders.clone()).collect();
        let connections = lists::connections(orders.clone());
        let places = places(&arguments)?;
        let (namespaces, repairs) = (places.namespaces.clone(), Repairs::default());
        let enroller = Enroller::new(redirect, shared.clone(), orders, routed, states.clone(), places);
        let (pod_states, config, stop) = (states.clone(), ConfigState::default(), watch::Sender::new(false));
        let enrolled = readiness.wait_for("pods of this node");
        let dump = Sources {
            node: arguments.node_name.to_string(),
            world: shared.world.clone(),
            identities: shared.identities.clone(),
            states,
            config: config.clone(),
            control: control.clone(),
        };
        serve(&arguments, &shared, readiness, (dump, connections), (log, access.clone()), &stop).await?;
        serve_enrolment(&arguments, &pod_states, &namespaces, &repairs, &stop)?;
        let identities = shared.identities.clone();
        let mut ending = stop.subscribe();
        tokio::spawn(identities.run(async move { drop(ending.wait_for(|stop| *stop).await) }));
        if let (Some(control), Some(dial)) = (&control, dial) {
            control.collect(&shared.metrics);
            keep_in_touch(&arguments, &shared, dial, pod_states, &stop);
        }
        let mut agent = Self {
            source,
            enroller,
            shared,
            config,
            workers,
            access,
            decisions: Decisions::default(),
            knows: false,
            stop,
            drain: arguments.drain,
        };
        measure::collect(&agent.shared, agent.access.clone(), agent.decisions.clone(), repairs);
        if let Some(world) = world {
            agent.accept(world);
            agent.reconcile().await;
        }
        agent.follow(enrolled).await?;
        agent.end().await
    }

    /// Follows the mesh until told to stop.
    async fn follow(&mut self, enrolled: weir_telemetry::Unready) -> anyhow::Result<()> {
        let mut enrolled = Some(enrolled);
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (mut look, mut forget) = (interval(LOOK), interval(FORGET));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.stop.subscribe();
        tracing::info!("weir-agent is running");
        loop {
            // Ready once every pod that is to be caught has been, and from then on: what fails later is told by metrics.
            if self.knows
                && self.enroller.failing() == 0
                && let Some(enrolled) = enrolled.take()
            {
                enrolled.done();
            }
            tokio::select! {
                _ = terminated.recv() => break,
                _ = interrupted.recv() => break,
                _ = stop.wait_for(|stop| *stop) => break,
                change = self.source.next() => {
                    match change {
                        Change::World(world) => self.accept(world),
                        Change::Rejected(errors) => self.reject(errors),
                    }
                    self.reconcile().await;
                }
                () = self.enroller.found() => self.reconcile().await,
                _ = look.tick() => {
                    self.reconcile().await;
                    self.decisions.update(self.enroller.redirect());
                }
                _ = forget.tick() => {
                    self.shared.metrics.forget_idle();
                    self.shared.shadows.forget(&self.shared.world.load());
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, world: Arc<World>) {
        self.knows = true;
        self.shared.publish(world.clone());
        if let Some(demands) = &self.shared.demands {
            demands.told(&world);
        }
        let ignored: Vec<String> = self.source.ignored().iter().map(without_effect).collect();
        for line in &ignored {
            tracing::warn!("without effect: {line}");
        }
        let statuses = self.source.statuses();
        for status in statuses.iter().filter(|status| !status.is_as_written()) {
            tracing::warn!("not enforced as it was written: {status}");
        }
        let now = SystemTime::now();
        self.config.accepted(timestamp(now), ignored, statuses);
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.shared.metrics.config_generation.inc();
        self.shared.metrics.config_refused.set(0);
        self.shared.metrics.config_last_good.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    fn reject(&self, lines: Vec<String>) {
        for line in &lines {
            tracing::error!("refused, the last good state stays in force: {line}");
        }
        self.shared.metrics.config_rejected.inc();
        self.shared.metrics.config_refused.set(1);
        self.config.rejected(timestamp(SystemTime::now()), lines);
    }

    async fn reconcile(&mut self) {
        // Before anything is known nothing is let go of: what an earlier agent caught stays caught, and so refused.
        if !self.knows {
            return;
        }
        let world = self.shared.world.load_full();
        self.enroller.reconcile(&world).await;
    }

    /// Stops: nothing new, what is open may end, then the last words. Programs and pins stay, so that pods do not fall back
    /// to plaintext; another agent takes them over. Until the last connection has ended, policies are followed.
    async fn end(mut self) -> anyhow::Result<()> {
        tracing::info!(drain = ?self.drain, "stopping: open connections may end, new ones are refused or another agent's");
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
                change = self.source.next() => match change {
                    Change::World(world) => self.accept(world),
                    Change::Rejected(errors) => self.reject(errors),
                },
            }
        };
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

/// What a control plane publishes beside the mesh is followed, and it is told what is caught.
fn keep_in_touch(arguments: &AgentArguments, shared: &Shared, dial: Dial, states: States, stop: &watch::Sender<bool>) {
    let ended = || {
        let mut ending = stop.subscribe();
        async move { drop(ending.wait_for(|stop| *stop).await) }
    };
    tokio::spawn(follow_roots(arguments.ca_roots.clone(), shared.identities.clone(), ended()));
    tokio::spawn(report::run(dial, states, shared.world.clone(), ended()));
}

/// Where the mesh and the certificates come from.
struct Origin {
    source: Source,
    /// The first world, where it is there at once.
    world: Option<Arc<World>>,
    issuer: Arc<dyn Issuer>,
    control: Option<ControlState>,
    demands: Option<Arc<Demands>>,
    /// How the control plane is told what is caught.
    dial: Option<Dial>,
}

impl Origin {
    fn open(
        arguments: &AgentArguments,
        settings: weir_compile::Settings,
        readiness: &Readiness,
    ) -> anyhow::Result<Self> {
        match (&arguments.manifests, &arguments.ca_dir, &arguments.control) {
            (Some(manifests), Some(ca_dir), _) => {
                let (world, source) = Manifests::open(manifests, settings).map_err(|errors| {
                    let lines: Vec<String> = errors.iter().map(|error| format!("  {}", chain(error))).collect();
                    anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
                })?;
                let ca = DevelopmentCa::open(ca_dir, &arguments.trust_domain).context("--ca-dir")?;
                let source = Source::Folder(Box::new(source));
                Ok(Self { source, world: Some(world), issuer: Arc::new(ca), control: None, demands: None, dial: None })
            }
            (None, _, Some(control)) => {
                let state = ControlState::waiting(readiness.wait_for("the control plane"));
                let (xds, ca) = dials(arguments, control)?;
                let (cluster, dial) = (arguments.cluster_id.as_str(), Some(xds.clone()));
                let source = Control::new(xds, &arguments.node_name, cluster, arguments.on_demand, state.clone());
                let demands = source.demands();
                Ok(Self {
                    source: Source::Control(Box::new(source)),
                    world: None,
                    issuer: Arc::new(RemoteCa::new(ca, CERTIFICATE_LIFETIME)),
                    control: Some(state),
                    demands,
                    dial,
                })
            }
            (_, _, _) => bail!("expected --manifests with --ca-dir, or --control"),
        }
    }
}

/// How control plane and CA are reached.
fn dials(arguments: &AgentArguments, control: &str) -> anyhow::Result<(Dial, Dial)> {
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

fn access_log(arguments: &AgentArguments) -> anyhow::Result<Option<AccessLog>> {
    match arguments.access_log {
        Switch::On => {
            let access = AccessLog::start(arguments.log_format, io::stdout())?;
            access.follow(&arguments.log_level);
            Ok(Some(access))
        }
        Switch::Off => Ok(None),
    }
}

fn worker_count(arguments: &AgentArguments) -> usize {
    arguments.workers.or_else(|| available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}

fn start_workers(
    arguments: &AgentArguments,
    shared: &Shared,
    redirect: &Redirect,
    access: Option<&AccessLog>,
) -> anyhow::Result<Vec<worker::Handle>> {
    let count = worker_count(arguments);
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
    (dump, connections): (Sources, (&'static str, Inquiry)),
    (logging, access): (LogHandle, Option<AccessLog>),
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let quit = stop.clone();
    // Each worker's end has a line of its own in it, so this one is not shared without a lock.
    let access = access.map(Mutex::new);
    let (world, mesh) = (shared.world.clone(), shared.world.clone());
    let (dump, summary) = (Arc::new(dump), "/debug/summary");
    let short = dump.clone();
    let mut questions = lists::questions(&world, shared.refusals.clone());
    questions.push(("/debug/authz", Box::new(move |query| asked::answer(&world.load(), query))));
    questions.push(("/debug/explain", Box::new(move |query| explained::answer(&mesh.load(), query))));
    let admin = Routes::Admin(Arc::new(Admin {
        pages: vec![("/config_dump", Box::new(move || dump.dump())), (summary, Box::new(move || short.summary()))],
        questions,
        inquiries: vec![connections],
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

/// Who says where pods are.
fn places(arguments: &AgentArguments) -> anyhow::Result<Places> {
    let authority = if arguments.zds_socket.is_some() { Authority::Zds } else { Authority::Mesh };
    let file = arguments.cni_socket.as_ref().map(|socket| socket.with_extension("pods"));
    let mut own = vec![NetnsId::own().context("the agent's own network namespace")?];
    // Where there is no such process, none is found by it.
    own.extend(NetnsId::at(&arguments.proc.join("1/ns/net")).ok());
    Ok(Places { namespaces: Namespaces::new(authority, file), look: Look::new(arguments.proc.clone()), own })
}

/// Starts who tells of pods: the CNI plugin's socket, the keeper of its place in the chain, ZDS.
fn serve_enrolment(
    arguments: &AgentArguments,
    states: &States,
    namespaces: &Namespaces,
    repairs: &Repairs,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let ended = || {
        let mut ending = stop.subscribe();
        async move { drop(ending.wait_for(|stop| *stop).await) }
    };
    let cluster = &arguments.cluster_id;
    if let Some(path) = &arguments.cni_socket {
        let server = cni::Server::bind(path, cluster.clone(), states.clone(), namespaces.clone());
        tokio::spawn(server.context("--cni-socket")?.serve(ended()));
    }
    if let (Some(conf_dir), Some(plugin), Some(socket)) =
        (&arguments.cni_conf_dir, &arguments.cni_plugin, &arguments.cni_socket)
    {
        let node = CniFolders { conf_dir: conf_dir.clone(), bin_dir: arguments.cni_bin_dir.clone() };
        let socket = std::path::absolute(socket)?.to_str().context("--cni-socket is not UTF-8")?.to_owned();
        tokio::spawn(Repair::new(node, plugin.clone(), socket, repairs.clone()).run(ended()));
    }
    if let Some(path) = &arguments.zds_socket {
        let client = zds::Client::new(path.clone(), cluster.clone(), namespaces.clone(), states.clone());
        tokio::spawn(client.run(ended()));
    }
    Ok(())
}

/// Has the settings of namespaces written below this `/proc`: in a container its own cannot be written.
pub(crate) fn settings_in(proc: &std::path::Path) {
    let settings = proc.join("sys");
    if settings.is_dir() {
        weir_netlink::sysctls_in(&settings);
    }
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
