//! Waypoints are deployed: for each Gateway of a waypoint's class a Deployment, a Service and a ServiceAccount are made in its namespace, kept
//! as they should be, and taken away. By who leads, and by server-side apply, so that fields that others set stay theirs.
//!
//! They are owned by their Gateway: what becomes of them when that is deleted is the cluster's own matter. What is there and is not
//! the Gateway's is left alone, and the Gateway's status says so.

mod parameters;
mod plan;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use weir_kube::{
    AnyKind, AnyName, Applying, Client, Error, FIELD_MANAGER, Labelled, Leadership, Others, Run, Touched,
    gateway_class_accept, object_apply, object_delete, object_get,
};
use weir_manifest::{ConfigKind, ConfigSpec, ExtensionRef, FileName, GatewaySpec, InboundBinding, Kind, Object, Sent};
use weir_model::Namespace;

use crate::{
    documents::{GatewayKey, Waypoints},
    source::chain,
    status::Statuses,
};
use parameters::Parameters;
pub(crate) use plan::Settings;
use plan::{GATEWAY_NAME, MANAGED, Waypoint};

/// Classes whose Gateways are deployed, and the controllers that their GatewayClasses name. Gateway API `GatewayClassSpec.controllerName`.
const CLASSES: [(&str, &str); 2] =
    [("weir-waypoint", "weir.dev/waypoint-controller"), ("istio-waypoint", "istio.io/mesh-controller")];
/// How often one is looked at, whatever was heard of it; and how often if it names a ConfigMap, of which nothing is heard.
const AUDIT: Duration = Duration::from_secs(600);
const AUDIT_OF_PARAMETERS: Duration = Duration::from_secs(30);
/// After a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How soon what somebody else changed is looked at: changes come in groups.
const SOON: Duration = Duration::from_millis(500);
/// Most keys of a ConfigMap that are looked at.
const CONFIG_MAP_KEYS: usize = 16;

/// What is to be said of a Gateway beside what its objects say themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deployed {
    /// Where its Service is reached; nothing if that is not known.
    pub(crate) addresses: Option<Vec<IpAddr>>,
    /// Why it is not as it should be.
    pub(crate) problem: Option<Problem>,
}

/// Why a Gateway is not deployed as it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It asks for something that is not done. Gateway API `Accepted`, `InvalidParameters`.
    Parameters(String),
    /// Its objects cannot be made. Gateway API `Programmed`, `NoResources`.
    Resources(String),
}

/// What a look at a Gateway came to.
enum Outcome {
    /// It is deployed, and reached there.
    Deployed(Vec<IpAddr>),
    /// It is not, and why.
    Refused(Problem),
    /// It is somebody else's to run.
    Left,
    /// There is no such Gateway, or it is no waypoint.
    Gone,
}

/// Deploys as long as we lead, until `ended`.
pub(crate) async fn deploy(
    client: Client,
    mut leadership: Leadership,
    waypoints: Arc<Waypoints>,
    statuses: Arc<Statuses>,
    settings: Settings,
    ended: impl Future<Output = ()>,
) {
    let deploying = async {
        loop {
            leadership.gained().await;
            let deployer = Deployer {
                client: client.clone(),
                waypoints: waypoints.clone(),
                statuses: statuses.clone(),
                settings: settings.clone(),
                known: BTreeMap::new(),
                queue: BTreeMap::new(),
                generations: BTreeMap::new(),
            };
            deployer.run(&mut leadership).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = deploying => {}
    }
}

/// When a Gateway is to be looked at, and how long was waited after the last failure.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    pause: Option<Duration>,
}

struct Deployer {
    client: Client,
    waypoints: Arc<Waypoints>,
    statuses: Arc<Statuses>,
    settings: Settings,
    /// Gateways as they were when they were last put into the queue.
    known: BTreeMap<GatewayKey, Arc<weir_manifest::ConfigObject>>,
    queue: BTreeMap<GatewayKey, Due>,
    /// Generations of Deployments as they were heard of: a change of their status is no reason to look.
    generations: BTreeMap<GatewayKey, Option<i64>>,
}

impl Deployer {
    async fn run(mut self, leadership: &mut Leadership) {
        self.accept_classes().await;
        let labels = format!("{}={}", MANAGED.0, MANAGED.1);
        let mut deployments = Labelled::start(&self.client, &AnyKind::new("apps/v1", "Deployment"), &labels);
        while leadership.is_leader() {
            self.hear_of_gateways();
            let next = self.queue.iter().map(|(key, due)| (due.at, key.clone())).min();
            if let Some((at, key)) = next.clone()
                && at <= Instant::now()
            {
                self.look(&key).await;
                continue;
            }
            let wake = next.map_or_else(Instant::now, |(at, _)| at);
            tokio::select! {
                () = leadership.lost() => {}
                () = self.waypoints.changed() => {}
                touched = deployments.next() => self.hear_of_deployment(touched),
                () = sleep_until(wake), if !self.queue.is_empty() => {}
            }
        }
    }

    /// The classes are ours: said to whoever waits for it. Where they are not installed nobody does.
    async fn accept_classes(&self) {
        for (name, controller) in CLASSES {
            let message = "run by weir-control";
            match gateway_class_accept(&self.client, name, controller, message).await {
                Ok(_) => {}
                Err(error) if error.status() == Some(404) => {}
                Err(error) => tracing::warn!(name, %error, "the status of a GatewayClass cannot be written"),
            }
        }
    }

    fn hear_of_gateways(&mut self) {
        let now = self.waypoints.all();
        let due = Due { at: Instant::now(), pause: None };
        for (key, gateway) in &now {
            if self.known.get(key) != Some(gateway) {
                self.queue.insert(key.clone(), due);
            }
        }
        // They may be of another class now.
        for key in self.known.keys().filter(|key| !now.contains_key(*key)) {
            self.queue.insert(key.clone(), due);
        }
        self.known = now;
    }

    fn hear_of_deployment(&mut self, touched: Touched) {
        let Ok(namespace) = touched.namespace.parse::<Namespace>() else { return };
        let name = touched.labels.get(GATEWAY_NAME).unwrap_or(&touched.name).as_str();
        let key: GatewayKey = (namespace, name.into());
        let before = self.generations.insert(key.clone(), touched.generation);
        if before == Some(touched.generation) {
            return;
        }
        let at = Instant::now() + SOON;
        let due = self.queue.entry(key).or_insert(Due { at, pause: None });
        due.at = due.at.min(at);
    }

    /// Looks at one Gateway and does what there is to do.
    async fn look(&mut self, key: &GatewayKey) {
        let (namespace, name) = (key.0.as_str(), &*key.1);
        let pause = self.queue.get(key).and_then(|due| due.pause);
        let (said, next) = match self.reconcile(key).await {
            Ok(Outcome::Gone) => {
                self.queue.remove(key);
                self.generations.remove(key);
                self.statuses.deployed(key, None);
                return;
            }
            Ok(Outcome::Left) => (Deployed::default(), self.audit(key)),
            Ok(Outcome::Deployed(addresses)) => {
                (Deployed { addresses: Some(addresses), problem: None }, self.audit(key))
            }
            Ok(Outcome::Refused(problem)) => {
                (Deployed { addresses: None, problem: Some(problem) }, AUDIT_OF_PARAMETERS)
            }
            Err(error) => {
                let pause = pause.map_or(RETRY.0, |pause| (pause * 2).min(RETRY.1));
                tracing::warn!(namespace, name, error = chain(&error), "a waypoint cannot be deployed; trying again");
                self.queue.insert(key.clone(), Due { at: Instant::now() + pause, pause: Some(pause) });
                let problem = Problem::Resources(chain(&error));
                self.statuses.deployed(key, Some(Deployed { addresses: None, problem: Some(problem) }));
                return;
            }
        };
        if let Some(Problem::Parameters(why) | Problem::Resources(why)) = &said.problem {
            tracing::warn!(namespace, name, "a waypoint is not deployed: {why}");
        }
        self.statuses.deployed(key, Some(said));
        self.queue.insert(key.clone(), Due { at: Instant::now() + next, pause: None });
    }

    fn audit(&self, key: &GatewayKey) -> Duration {
        let names_parameters = self.known.get(key).is_some_and(
            |gateway| matches!(&gateway.spec, ConfigSpec::Gateway(spec) if spec.infrastructure.parameters.is_some()),
        );
        if names_parameters { AUDIT_OF_PARAMETERS } else { AUDIT }
    }

    async fn reconcile(&self, (namespace, name): &GatewayKey) -> Result<Outcome, Error> {
        let gateway = AnyKind::new("gateway.networking.k8s.io/v1", "Gateway").named(Some(namespace.as_str()), name);
        let Some(live) = object_get(&self.client, &gateway).await? else { return Ok(Outcome::Gone) };
        let Some(uid) = live.pointer("/metadata/uid").and_then(Value::as_str) else { return Ok(Outcome::Gone) };
        if !live["metadata"]["deletionTimestamp"].is_null() {
            return Ok(Outcome::Gone);
        }
        // One that cannot be read leaves what it was; its status says why.
        let Some(spec) = read(&live) else { return Ok(Outcome::Left) };
        if !CLASSES.iter().any(|(class, _)| *class == &*spec.class) {
            let own = plan::kinds().map(|kind| kind.named(Some(namespace.as_str()), name));
            self.remove(&own, uid).await?;
            return Ok(Outcome::Gone);
        }
        if let Some(why) = run_by_others(&spec) {
            tracing::debug!(%namespace, name = &**name, "a waypoint is not deployed: {why}");
            return Ok(Outcome::Left);
        }
        let parameters = match &spec.infrastructure.parameters {
            None => Parameters::default(),
            Some(named) => match self.parameters(namespace, named).await? {
                Ok(parameters) => parameters,
                Err(why) => return Ok(Outcome::Refused(Problem::Parameters(why))),
            },
        };
        let waypoint = Waypoint { namespace, name, uid, class: &spec.class, infrastructure: &spec.infrastructure };
        let objects = match plan::objects(&waypoint, &self.settings, &parameters) {
            Ok(objects) => objects,
            Err(why) => return Ok(Outcome::Refused(Problem::Parameters(why))),
        };
        self.bring_about(&waypoint, &objects).await
    }

    /// Makes the objects so, if none of them is somebody else's, and takes away those that are no longer asked for.
    async fn bring_about(&self, waypoint: &Waypoint<'_>, objects: &[Value]) -> Result<Outcome, Error> {
        let wanted: Vec<AnyName> = objects.iter().filter_map(AnyName::of).collect();
        for name in &wanted {
            let there = object_get(&self.client, name).await?;
            if there.is_some_and(|there| !plan::is_owned(&there, waypoint.uid)) {
                let why =
                    format!("{name} is there and is not this Gateway's: it is left as it is, and nothing is deployed");
                return Ok(Outcome::Refused(Problem::Resources(why)));
            }
        }
        let mut addresses = Vec::new();
        for object in objects {
            let how = Applying { manager: FIELD_MANAGER, others: Others::Taken, run: Run::Real };
            let made = object_apply(&self.client, object, how).await?;
            if made["kind"] == "Service" {
                addresses = plan::addresses(&made);
            }
        }
        let namespace = Some(waypoint.namespace.as_str());
        let all = plan::kinds().map(|kind| kind.named(namespace, waypoint.name));
        let surplus: Vec<AnyName> = all.into_iter().filter(|name| !wanted.contains(name)).collect();
        self.remove(&surplus, waypoint.uid).await?;
        Ok(Outcome::Deployed(addresses))
    }

    /// Takes away those of these objects that are the Gateway's.
    async fn remove(&self, objects: &[AnyName], gateway: &str) -> Result<(), Error> {
        for name in objects {
            let Some(there) = object_get(&self.client, name).await? else { continue };
            if !plan::is_owned(&there, gateway) {
                continue;
            }
            object_delete(&self.client, name, there.pointer("/metadata/uid").and_then(Value::as_str)).await?;
            tracing::info!(%name, "deleted: its Gateway does not ask for it any more");
        }
        Ok(())
    }

    /// What the ConfigMap of `infrastructure.parametersRef` says, or why it cannot be used.
    async fn parameters(
        &self,
        namespace: &Namespace,
        named: &ExtensionRef,
    ) -> Result<Result<Parameters, String>, Error> {
        let field = "infrastructure.parametersRef";
        if !(named.group.is_empty() && &*named.kind == "ConfigMap") {
            return Ok(Err(format!("{field}: {named}: expected a ConfigMap of the core group")));
        }
        let name = AnyKind::new("v1", "ConfigMap").named(Some(namespace.as_str()), &named.name);
        let Some(map) = object_get(&self.client, &name).await? else {
            return Ok(Err(format!("{field}: there is no {name}")));
        };
        let texts: BTreeMap<String, String> = match map["data"].as_object() {
            None => BTreeMap::new(),
            Some(data) => data
                .iter()
                .take(CONFIG_MAP_KEYS)
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        };
        Ok(Parameters::read(&texts).map_err(|why| format!("{field}: {name}: {why}")))
    }
}

/// A Gateway as the API server has it.
fn read(live: &Value) -> Option<GatewaySpec> {
    let sent: Sent = serde_json::from_value(live.clone()).ok()?;
    let read = sent.read(Kind::Config(ConfigKind::Gateway), &FileName::new("the API server")).ok()?;
    if let Object::Config(object) = read
        && let ConfigSpec::Gateway(spec) = object.spec
    {
        return Some(*spec);
    }
    None
}

/// Why somebody else runs the proxy of a Gateway, if so.
fn run_by_others(spec: &GatewaySpec) -> Option<&'static str> {
    let proxy = matches!(spec.inbound_binding, Some(InboundBinding::Proxy(_)))
        || spec.listeners.iter().any(|listener| &*listener.protocol == "istio.io/PROXY");
    if proxy {
        return Some(
            "it takes connections behind a PROXY header, which is for a proxy that somebody runs beside the mesh",
        );
    }
    (!spec.addresses.is_empty()).then_some("it has addresses of its own")
}
