//! The control plane's life: start everything in order, serve, stop in order.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use anyhow::{Context, bail, ensure};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
};
use weir_compile::Settings;
use weir_issuance::{Certificates, NodeAgents};
use weir_kube::{Client, Election, ElectionOptions, Leadership, TokenReviewer};
use weir_report::Reports;
use weir_rpc::{Caller, Server, Services, Unproven, Verify, Verifying};
use weir_telemetry::{Admin, LogHandle, Metrics, Readiness, Routes, Unready};
use weir_xds::{Discovery, Refused, Store, Subscriber};

use crate::{
    admission::{self, Known},
    annotate::{Reported, annotate},
    ca::{self, Ca, Storage},
    cli::Arguments,
    debug, deployer, measure,
    profile::Profiler,
    routes::{self, Shapes},
    source::{self, Mesh, Origin},
    status,
    tokens::StaticTokens,
};

/// The Lease that says who writes to the cluster.
const LEASE: &str = "weir-control-leader";

/// Runs the control plane until it is told to stop.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let log = weir_telemetry::init(arguments.log_format, &arguments.log_level).context("--log-level")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(start_and_run(arguments, log))
}

/// Ends what runs, each by its own clone.
type Stop = watch::Sender<bool>;

fn stopped(stop: &Stop) -> impl Future<Output = ()> + Send + use<> {
    let mut stopping = stop.subscribe();
    async move { drop(stopping.wait_for(|stop| *stop).await) }
}

async fn start_and_run(arguments: Arguments, log: LogHandle) -> anyhow::Result<()> {
    let stop = Stop::new(false);
    let metrics = Arc::new(Metrics::of("control", env!("CARGO_PKG_VERSION")).with_process());
    let readiness = Readiness::default();
    let (first, serving) = (readiness.wait_for("the mesh"), readiness.wait_for("serving agents"));
    let cluster = match arguments.manifests {
        Some(_) => None,
        None => Some(weir_kube::connect(arguments.kubeconfig.as_deref()).await.context("the cluster")?),
    };
    let election = cluster.as_ref().map(|client| {
        let options = ElectionOptions::new(arguments.namespace.as_str(), LEASE, &arguments.replica);
        Election::start(client.clone(), options)
    });
    let storage = storage(&arguments, cluster.as_ref(), election.as_ref())?;
    let (ca, now, election) = open_ca(storage, ca_settings(&arguments), election).await?;
    let mesh = mesh(&arguments);
    let discovery = discovery(&arguments, &mesh, &metrics);
    let certificates = Certificates::new(now.authority.clone(), mesh.pods.clone(), issuance(&arguments));
    let agents = arguments.trusted_node_accounts.clone();
    let reported = Arc::new(Reported::new(agents, arguments.cluster_id.clone(), mesh.pods.clone()));
    let services =
        Services::default().with(discovery.clone()).with(certificates.clone()).with(Reports::new(reported.clone()));
    let verify = verify(&arguments, cluster.as_ref())?;
    let server = Server::new(services, now.tls.clone(), Some(verify), weir_rpc::Limits::default());

    measure::discovery(&metrics, &discovery);
    measure::source(&metrics, &mesh);
    mesh.known.iter().for_each(|known| measure::reviews(&metrics, known));
    measure::certificates(&metrics, &certificates);
    measure::server(&metrics, server.stats());
    election.iter().for_each(|election| measure::leader(&metrics, election.leadership()));
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let pages = debug::pages(&mesh, &discovery, &arguments.replica);
    serve_people(&arguments, metrics, readiness, log, pages, &stop, &mut tasks).await?;
    let (read, mesh_is_read) = oneshot::channel();
    let (address, ending) = (arguments.grpc_addr, stopped(&stop));
    tasks.spawn(serve_agents(server, address, mesh_is_read, serving, ending));
    let ending = stopped(&stop);
    tasks.spawn(async move {
        ca.run(ending).await;
        Ok(())
    });
    let (shapes, statuses, ending) = (mesh.shapes.clone(), mesh.statuses.clone(), stopped(&stop));
    tasks.spawn(async move {
        routes::follow(shapes, statuses, ending).await;
        Ok(())
    });
    let writing = cluster.as_ref().zip(election.as_ref().map(Election::leadership));
    admit(&arguments, &mesh, &now, writing, &stop, &mut tasks).await?;
    if let (Some(client), Some(election)) = (&cluster, &election) {
        write_back(client, election.leadership(), reported, now.bundle, &mesh, &stop, &mut tasks);
        deploy(&arguments, client, election.leadership(), &mesh, &stop, &mut tasks);
    }
    let origin = origin(&arguments, cluster.as_ref())?;
    tasks.spawn(source::follow(
        origin,
        settings(&arguments),
        mesh,
        source::First { ready: first, read },
        stopped(&stop),
    ));
    tracing::info!("weir-control is running");
    let result = wait(&stop, &mut tasks).await;
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of the control plane")??;
    }
    if let Some(election) = election {
        election.stop().await;
    }
    result
}

fn mesh(arguments: &Arguments) -> Mesh {
    Mesh {
        store: Arc::new(Store::new()),
        pods: Arc::default(),
        waypoints: Arc::default(),
        namespaces: watch::Sender::default(),
        statuses: Arc::default(),
        shapes: Arc::new(Shapes::new(settings(arguments))),
        state: Arc::default(),
        known: arguments.webhook_addr.map(|_| Arc::new(Known::new())),
    }
}

/// Answers reviews, if anybody is to ask, and sees to it that on a cluster they know whom.
async fn admit(
    arguments: &Arguments,
    mesh: &Mesh,
    now: &ca::Now,
    cluster: Option<(&Client, Leadership)>,
    stop: &Stop,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (Some(address), Some(known)) = (arguments.webhook_addr, &mesh.known) else { return Ok(()) };
    let listener = bind(address, "--webhook-addr").await?;
    tracing::info!(address = %listener.local_addr()?, "API servers are answered here");
    let serving = admission::serve(listener, now.tls.clone(), settings(arguments), known.clone(), stopped(stop));
    tasks.spawn(async move {
        serving.await;
        Ok(())
    });
    if let Some((client, leadership)) = cluster {
        let trusting = admission::trust(client.clone(), leadership, now.bundle.clone(), stopped(stop));
        tasks.spawn(async move {
            trusting.await;
            Ok(())
        });
    }
    Ok(())
}

/// What is written to the cluster: the roots and what became of policies, by who leads, and which pods are caught, by whoever is told.
fn write_back(
    client: &Client,
    leadership: Leadership,
    reported: Arc<Reported>,
    bundle: watch::Receiver<Arc<str>>,
    mesh: &Mesh,
    stop: &Stop,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let (annotating, ending) = (client.clone(), stopped(stop));
    tasks.spawn(async move {
        annotate(annotating, reported, ending).await;
        Ok(())
    });
    let (client_of_statuses, leading, ending) = (client.clone(), leadership.clone(), stopped(stop));
    let statuses = mesh.statuses.clone();
    tasks.spawn(async move {
        status::write(client_of_statuses, leading, statuses, ending).await;
        Ok(())
    });
    let (publishing, namespaces, ending) = (client.clone(), mesh.namespaces.subscribe(), stopped(stop));
    tasks.spawn(async move {
        ca::publish(publishing, leadership, bundle, namespaces, ending).await;
        Ok(())
    });
}

/// Waypoints, by who leads.
fn deploy(
    arguments: &Arguments,
    client: &Client,
    leadership: Leadership,
    mesh: &Mesh,
    stop: &Stop,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let Some(settings) = arguments.deploying() else {
        tracing::info!("waypoints are not deployed: no --waypoint-image");
        return;
    };
    let (client, waypoints, statuses) = (client.clone(), mesh.waypoints.clone(), mesh.statuses.clone());
    let ending = stopped(stop);
    tasks.spawn(async move {
        deployer::deploy(client, leadership, waypoints, statuses, settings, ending).await;
        Ok(())
    });
}

fn origin(arguments: &Arguments, cluster: Option<&Client>) -> anyhow::Result<Origin> {
    match (&arguments.manifests, cluster) {
        (Some(folder), _) => Origin::folder(folder),
        (None, Some(client)) => Ok(Origin::cluster(client.clone())),
        (None, None) => bail!("neither a folder nor a cluster"),
    }
}

/// Until a signal, somebody's wish, or the end of something that must not end.
async fn wait(stop: &Stop, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        () = stopped(stop) => Ok(()),
        Some(ended) = tasks.join_next() => {
            ended.context("a task of the control plane")??;
            // When all is to stop, tasks end as they should, and the first may be seen before the wish is.
            ensure!(*stop.borrow(), "a part of the control plane ended");
            Ok(())
        }
    }
}

fn settings(arguments: &Arguments) -> Settings {
    Settings {
        trust_domain: arguments.trust_domain.clone(),
        cluster: arguments.cluster_id.clone(),
        network: arguments.network.clone(),
        node: None,
        cluster_domain: arguments.cluster_domain.clone(),
        root_namespace: arguments.root_namespace.clone(),
    }
}

fn ca_settings(arguments: &Arguments) -> ca::Settings {
    ca::Settings {
        trust_domain: arguments.trust_domain.clone(),
        longest: arguments.longest_lifetime,
        names: arguments.names(),
    }
}

fn issuance(arguments: &Arguments) -> weir_issuance::Settings {
    weir_issuance::Settings {
        node_agents: arguments.trusted_node_accounts.clone(),
        lifetime: arguments.certificate_lifetime,
        ..weir_issuance::Settings::default()
    }
}

/// Opens the CA. If that fails the lease is given up: whoever starts next need not wait for its end.
async fn open_ca(
    storage: Storage,
    settings: ca::Settings,
    election: Option<Election>,
) -> anyhow::Result<(Ca, ca::Now, Option<Election>)> {
    match Ca::open(storage, settings).await.context("the CA") {
        Ok((ca, now)) => Ok((ca, now, election)),
        Err(error) => {
            if let Some(election) = election {
                election.stop().await;
            }
            Err(error)
        }
    }
}

fn storage(arguments: &Arguments, cluster: Option<&Client>, election: Option<&Election>) -> anyhow::Result<Storage> {
    match (&arguments.ca_dir, cluster, election) {
        (Some(dir), _, _) => Ok(Storage::Folder(dir.clone())),
        (None, Some(client), Some(election)) => {
            Ok(Storage::Secrets(client.clone(), arguments.namespace.clone(), election.leadership()))
        }
        (None, _, _) => bail!("without a cluster the CA needs --ca-dir"),
    }
}

/// Discovery is for agents and waypoints: what the whole mesh looks like is nobody else's business.
fn discovery(arguments: &Arguments, mesh: &Mesh, metrics: &Metrics) -> Discovery {
    let agents: NodeAgents = arguments.trusted_node_accounts.clone();
    let waypoints = mesh.waypoints.clone();
    let admit = move |extensions: &http::Extensions, _: &weir_xds::Node| {
        let caller =
            extensions.get::<Caller>().ok_or_else(|| Refused::Unauthenticated("nobody proved who calls".to_owned()))?;
        let (namespace, account) = (caller.namespace(), caller.service_account());
        let node = match agents.include(namespace, account) {
            true => caller.node.clone(),
            // The pods of its node are no matter of a waypoint's.
            false if waypoints.include(namespace, account) => None,
            false => {
                let who = &caller.identity;
                let why = format!("{who} is neither among --trusted-node-accounts nor the account of a waypoint");
                return Err(Refused::Denied(why));
            }
        };
        Ok(Subscriber { label: caller.identity.to_string(), node })
    };
    let pushes = measure::Pushes::new(metrics);
    Discovery::new(mesh.store.clone(), weir_xds::Limits::default(), admit, move |push| pushes.saw(push))
}

/// Tokens of the file first, and then the cluster's.
struct Either(Option<StaticTokens>, Option<TokenReviewer>);

impl Verify for Either {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            if let Some(tokens) = &self.0 {
                match (tokens.verify(token).await, &self.1) {
                    (Err(Unproven::Refused(_)), Some(_)) => {}
                    (answer, _) => return answer,
                }
            }
            match &self.1 {
                Some(reviewer) => reviewer.verify(token).await,
                None => Err(Unproven::Refused("tokens are not accepted here".to_owned())),
            }
        })
    }
}

fn verify(arguments: &Arguments, cluster: Option<&Client>) -> anyhow::Result<Arc<dyn Verify>> {
    let tokens = match &arguments.static_tokens {
        Some(path) => Some(StaticTokens::open(path, &arguments.trust_domain).context("--static-tokens")?),
        None => None,
    };
    let reviewer = cluster.map(|client| {
        TokenReviewer::new(client.clone(), arguments.trust_domain.clone(), arguments.token_audience.clone())
    });
    Ok(Arc::new(Either(tokens, reviewer)))
}

/// Serves agents as soon as the mesh is read: who is served before would be told that what it knows is gone, and that nobody is
/// entitled to anything.
async fn serve_agents(
    server: Server,
    address: SocketAddr,
    mesh_is_read: oneshot::Receiver<()>,
    serving: Unready,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        () = &mut ended => return Ok(()),
        // An error says that the source has ended, and with it everything does.
        _ = mesh_is_read => {}
    }
    let listener = bind(address, "--grpc-addr").await?;
    tracing::info!(address = %listener.local_addr()?, "agents are served here");
    serving.done();
    server.serve(listener, ended).await;
    Ok(())
}

async fn bind(address: SocketAddr, flag: &'static str) -> anyhow::Result<TcpListener> {
    weir_telemetry::bind(address).await.context(flag)
}

async fn serve_people(
    arguments: &Arguments,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    logging: LogHandle,
    pages: Vec<(&'static str, weir_telemetry::Page)>,
    stop: &Stop,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let quit = stop.clone();
    let profiler = Profiler::new(arguments.profiling).context("--profiling")?;
    let admin = Routes::Admin(Arc::new(Admin {
        pages,
        questions: vec![("/debug/profile", Box::new(move |_| profiler.take()))],
        inquiries: Vec::new(),
        logging,
        filtered: Box::new(|_| {}),
        readiness: readiness.clone(),
        quit: Box::new(move || {
            quit.send_replace(true);
        }),
    }));
    let mut servers = vec![
        (bind(arguments.stats_addr, "--stats-addr").await?, Routes::Stats(metrics)),
        (bind(arguments.ready_addr, "--ready-addr").await?, Routes::Ready(readiness)),
    ];
    for listener in weir_telemetry::bind_loopback(arguments.admin_addr).await.context("--admin-addr")? {
        servers.push((listener, admin.clone()));
    }
    for (listener, routes) in servers {
        let ending = stopped(stop);
        tasks.spawn(async move { Ok(weir_telemetry::serve(listener, routes, ending).await?) });
    }
    Ok(())
}

/// A time as people and programs read it. RFC 3339.
pub(crate) fn timestamp(at: SystemTime) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from(at).format(format).unwrap_or_default()
}
