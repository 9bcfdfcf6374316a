//! Objects as a control plane tells them: read, compiled in the mesh as it is, and what else must be asked for so that they mean all they say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use weir_compile::{Compiler, Settings, WaypointName, concerns, refers};
use weir_manifest::{FileName, Kind, Object, ObjectKey, Sent};
use weir_model::{Hostname, Namespace, ServiceName, WaypointAddress, WaypointDestination, WorkloadUid};
use weir_world::World;

use crate::compiled::{Labels, State};

/// What changed, by the names of the wire: JSON, or nothing of one that is gone.
pub(crate) type Changes = BTreeMap<String, Option<String>>;

/// For whom objects are told.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) settings: Settings,
    pub(crate) gateway: WaypointName,
    /// Services that are served though they need not be bound: those of plain listeners.
    pub(crate) hosts: BTreeSet<Hostname>,
}

impl Subject {
    /// The service that leads to the waypoint has its name.
    fn service(&self) -> Option<ServiceName> {
        let WaypointName { namespace, name } = &self.gateway;
        let hostname = format!("{name}.{namespace}.svc.{}", self.settings.cluster_domain).parse().ok()?;
        Some(ServiceName { namespace: namespace.clone(), hostname })
    }

    /// Namespaces whose objects it needs whatever is bound to it.
    pub(crate) fn always(&self) -> BTreeSet<Namespace> {
        BTreeSet::from([self.gateway.namespace.clone(), self.settings.root_namespace.clone()])
    }
}

/// The workloads that are led through some waypoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Led(HashMap<WorkloadUid, (Namespace, WaypointAddress)>);

impl Led {
    /// Takes over what a workload says now.
    pub(crate) fn set(&mut self, uid: &WorkloadUid, now: Option<(&Namespace, &WaypointAddress)>) {
        match now {
            Some((namespace, waypoint)) => drop(self.0.insert(uid.clone(), (namespace.clone(), waypoint.clone()))),
            None => drop(self.0.remove(uid)),
        }
    }

    /// Whether nothing is known of it, or the same.
    pub(crate) fn is(&self, uid: &WorkloadUid, now: Option<&WaypointAddress>) -> bool {
        self.0.get(uid).map(|(_, waypoint)| waypoint) == now
    }
}

/// What came of objects.
pub(crate) struct Outcome {
    pub(crate) state: State,
    /// The namespaces whose objects must be known for it to be whole.
    pub(crate) wants: BTreeSet<Namespace>,
    /// What could not be read, and why.
    pub(crate) rejected: Vec<String>,
    /// Whether a policy could not be read of which nothing was known before: who serves without it might admit what it denies.
    pub(crate) blind: bool,
}

/// The objects that were told.
pub(crate) struct Told {
    subject: Subject,
    compiler: Compiler,
    /// Of pods: more of them is not told.
    labels: HashMap<WorkloadUid, Labels>,
    /// Which namespaces an object shapes requests of, and which it needs others of.
    reach: BTreeMap<String, Reach>,
    /// Policies that cannot be read and never could be.
    unread: BTreeSet<String>,
}

struct Reach {
    concerns: BTreeSet<Namespace>,
    refers: BTreeSet<Namespace>,
}

impl Told {
    /// Nothing yet.
    pub(crate) fn new(subject: Subject) -> Self {
        let compiler = Compiler::new(subject.settings.clone());
        let (labels, reach, unread) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { subject, compiler, labels, reach, unread }
    }

    /// Takes over changes, and says what everything means now.
    pub(crate) fn take(&mut self, changes: Changes, world: World, led: &Led) -> Outcome {
        let mut rejected = Vec::new();
        for (name, json) in changes {
            if let Err(why) = self.change(&name, json.as_deref()) {
                rejected.push(format!("{name}: {why}"));
            }
        }
        // Services and workloads are the control plane's to say, statuses too; only what is kept for them is let go of.
        self.compiler.take();
        drop((self.compiler.take_statuses(), self.compiler.take_bindings()));
        let wants = self.wants(&world, led);
        let state = State::serving(&self.compiler, world, &self.subject.gateway, self.labels.clone());
        Outcome { state, wants, rejected, blind: !self.unread.is_empty() }
    }

    fn change(&mut self, name: &str, json: Option<&str>) -> Result<(), String> {
        let (kind, key) = named(name).ok_or("expected KIND/NAMESPACE/NAME of a kind that shapes requests")?;
        let (Some(namespace), Some(json)) = (&key.namespace, json) else {
            self.remove(name, kind, &key);
            return Ok(());
        };
        if kind == Kind::Pod {
            let pod: RawPod = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let labels = pod.metadata.labels.unwrap_or_default().into_iter();
            let labels = labels.map(|(key, value)| (key.into(), value.into()));
            if let Some(uid) = self.uid(namespace, &key.name) {
                self.labels.insert(uid, labels.collect());
            }
            return Ok(());
        }
        let read = read(kind, &key, json);
        let is_policy = matches!(kind, Kind::AuthorizationPolicy | Kind::RequestAuthentication);
        match read {
            Ok(object) => {
                let refers = match &object {
                    Object::Config(config) => refers(config),
                    Object::Namespace(_)
                    | Object::Node(_)
                    | Object::Pod(_)
                    | Object::Service(_)
                    | Object::EndpointSlice(_)
                    | Object::Policy(_) => BTreeSet::new(),
                };
                self.unread.remove(name);
                self.reach.insert(name.to_owned(), Reach { concerns: concerns(&object), refers });
                self.compiler.set(object);
                Ok(())
            }
            Err(why) => {
                if is_policy && !self.reach.contains_key(name) {
                    self.unread.insert(name.to_owned());
                }
                Err(why)
            }
        }
    }

    fn remove(&mut self, name: &str, kind: Kind, key: &ObjectKey) {
        self.unread.remove(name);
        self.reach.remove(name);
        match (kind, &key.namespace) {
            (Kind::Pod, Some(namespace)) => {
                if let Some(uid) = self.uid(namespace, &key.name) {
                    self.labels.remove(&uid);
                }
            }
            (_, _) => self.compiler.remove(key),
        }
    }

    fn uid(&self, namespace: &Namespace, pod: &str) -> Option<WorkloadUid> {
        WorkloadUid::of_pod(&self.subject.settings.cluster, namespace, pod).ok()
    }

    /// The namespaces whose objects must be known: those of what is served, and what objects that concern these refer to, and so on.
    fn wants(&self, world: &World, led: &Led) -> BTreeSet<Namespace> {
        let mut further: BTreeMap<&Namespace, BTreeSet<&Namespace>> = BTreeMap::new();
        for reach in self.reach.values().filter(|reach| !reach.refers.is_empty()) {
            for concerned in &reach.concerns {
                further.entry(concerned).or_default().extend(&reach.refers);
            }
        }
        let mut wants = self.served(world, led);
        let mut open: Vec<Namespace> = wants.iter().cloned().collect();
        while let Some(next) = open.pop() {
            for namespace in further.get(&next).into_iter().flatten() {
                if wants.insert(Namespace::clone(namespace)) {
                    open.push(Namespace::clone(namespace));
                }
            }
        }
        wants
    }

    /// The namespaces of what is bound to the waypoint, its own, and that of what counts everywhere.
    fn served(&self, world: &World, led: &Led) -> BTreeSet<Namespace> {
        let mut all = self.subject.always();
        let Some(own) = self.subject.service() else { return all };
        let leads_here = |waypoint: &WaypointAddress| match &waypoint.destination {
            WaypointDestination::Service(name) => *name == own,
            WaypointDestination::Address(network, ip) => {
                world.service_at(network, *ip).is_some_and(|service| service.name == own)
            }
        };
        let services = world.services().filter(|service| {
            service.waypoint.as_ref().is_some_and(leads_here) || self.subject.hosts.contains(&service.name.hostname)
        });
        all.extend(services.map(|service| service.name.namespace.clone()));
        let workloads = led.0.values().filter(|(_, waypoint)| leads_here(waypoint));
        all.extend(workloads.map(|(namespace, _)| namespace.clone()));
        all
    }
}

/// Reads an object, which must be the one that the wire calls it.
fn read(kind: Kind, key: &ObjectKey, json: &str) -> Result<Object, String> {
    let sent: Sent = serde_json::from_str(json).map_err(|error| error.to_string())?;
    match sent.key(kind) {
        Some(own) if own == *key => {}
        Some(other) => return Err(format!("it says it is {other}")),
        None => return Err("it has no name".to_owned()),
    }
    sent.read(kind, &FileName::new("control plane")).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| weir_identity::causes(error)).collect();
        lines.join("; ")
    })
}

/// Which object the wire calls so.
fn named(name: &str) -> Option<(Kind, ObjectKey)> {
    let mut parts = name.splitn(3, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let of = Kind::ALL.into_iter().find(|own| own.name() == kind)?;
    let told = match of {
        Kind::Pod | Kind::AuthorizationPolicy | Kind::RequestAuthentication | Kind::Config(_) => true,
        Kind::Namespace | Kind::Node | Kind::Service | Kind::EndpointSlice | Kind::PeerAuthentication => false,
    };
    let key = ObjectKey { kind: kind.into(), namespace: Some(namespace.parse().ok()?), name: name.into() };
    told.then_some((of, key))
}

/// What is told of a pod.
#[derive(Deserialize)]
struct RawPod {
    metadata: RawMetadata,
}

#[derive(Deserialize)]
struct RawMetadata {
    labels: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use weir_compile::{ClusterDomain, default_root_namespace};
    use weir_manifest::parse;
    use weir_model::{Network, TrustDomain};

    use super::*;

    fn subject() -> Subject {
        let settings = Settings {
            trust_domain: TrustDomain::default(),
            cluster: "Kubernetes".parse().unwrap(),
            network: Network::default(),
            node: None,
            cluster_domain: ClusterDomain::default(),
            root_namespace: default_root_namespace(),
        };
        let gateway = WaypointName { namespace: "shop".parse().unwrap(), name: "gate".into() };
        Subject { settings, gateway, hosts: BTreeSet::new() }
    }

    /// The mesh that a control plane would tell of, with a service `web` of the namespace `till` that is bound to `shop/gate`.
    fn world() -> World {
        let gateway = |namespace: &str| {
            format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: gate, namespace: {namespace}}}, spec: \
                 {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: \
                 {{from: All}}}}}}]}}}}"
            )
        };
        let service = |name: &str, namespace: &str, ip: &str, labels: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}, spec: \
                 {{clusterIP: {ip}, clusterIPs: [{ip}], selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}}}"
            )
        };
        let bound = "istio.io/use-waypoint: gate, istio.io/use-waypoint-namespace: shop";
        let text = [
            gateway("shop"),
            service("gate", "shop", "10.96.0.1", ""),
            service("web", "till", "10.96.0.2", bound),
            service("free", "park", "10.96.0.3", ""),
        ]
        .join("\n---\n");
        let mut compiler = Compiler::new(subject().settings);
        for object in parse(&[(FileName::new("mesh.yaml"), &text)]).unwrap().into_objects() {
            compiler.set(object);
        }
        compiler.take();
        compiler.world().clone()
    }

    fn virtual_service(namespace: &str, name: &str, to: &str) -> (String, Option<String>) {
        let json = format!(
            r#"{{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{{"name":"{name}","namespace":"{namespace}"}},"spec":{{"hosts":["web.{namespace}.svc.cluster.local"],"http":[{{"route":[{{"destination":{{"host":"{to}"}}}}]}}]}}}}"#
        );
        (format!("VirtualService/{namespace}/{name}"), Some(json))
    }

    fn take(told: &mut Told, changes: impl IntoIterator<Item = (String, Option<String>)>) -> Outcome {
        told.take(changes.into_iter().collect(), world(), &Led::default())
    }

    fn wants(outcome: &Outcome) -> Vec<&str> {
        outcome.wants.iter().map(Namespace::as_str).collect()
    }

    #[test]
    fn it_wants_what_is_bound_and_what_that_leads_to_and_no_more() {
        let mut told = Told::new(subject());
        assert_eq!(wants(&take(&mut told, [])), ["istio-system", "shop", "till"]);
        let first = virtual_service("till", "a", "b.far.svc.cluster.local");
        let outcome = take(&mut told, [first, virtual_service("lone", "c", "d.nobody.svc.cluster.local")]);
        assert_eq!(wants(&outcome), ["far", "istio-system", "shop", "till"]);
        // And back again: that is no circle without an end, and nothing is left of it when what led there is gone.
        let further = [
            virtual_service("far", "e", "f.deep.svc.cluster.local"),
            virtual_service("deep", "g", "web.far.svc.cluster.local"),
        ];
        assert_eq!(wants(&take(&mut told, further)), ["deep", "far", "istio-system", "shop", "till"]);
        let gone = ("VirtualService/till/a".to_owned(), None);
        assert_eq!(wants(&take(&mut told, [gone])), ["istio-system", "shop", "till"]);
        let outcome =
            Told::new(Subject { hosts: ["free.park.svc.cluster.local".parse().unwrap()].into(), ..subject() }).take(
                Changes::new(),
                world(),
                &Led::default(),
            );
        assert_eq!(wants(&outcome), ["istio-system", "park", "shop", "till"], "a plain listener's service");
    }

    #[test]
    fn a_workload_that_is_led_here_counts_as_long_as_it_is() {
        let uid: WorkloadUid = "Kubernetes//v1/Pod/cave/p".parse().unwrap();
        let to = |text: &str| WaypointAddress { destination: destination(text), port: 15_008.try_into().unwrap() };
        fn destination(text: &str) -> WaypointDestination {
            match text.parse() {
                Ok(ip) => WaypointDestination::Address(Network::default(), ip),
                Err(_) => WaypointDestination::Service(text.parse().unwrap()),
            }
        }
        let (mut told, mut led) = (Told::new(subject()), Led::default());
        let cave: Namespace = "cave".parse().unwrap();
        for (waypoint, here) in [
            (Some("shop/gate.shop.svc.cluster.local"), true),
            (Some("10.96.0.1"), true),
            (Some("shop/other.shop.svc.cluster.local"), false),
            (Some("10.96.0.2"), false),
            (None, false),
        ] {
            let waypoint = waypoint.map(to);
            led.set(&uid, waypoint.as_ref().map(|waypoint| (&cave, waypoint)));
            assert!(led.is(&uid, waypoint.as_ref()));
            let outcome = told.take(Changes::new(), world(), &led);
            assert_eq!(outcome.wants.contains(&cave), here, "{waypoint:?}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_makes_blind_unless_it_was_known_before() {
        let name = "AuthorizationPolicy/shop/p".to_owned();
        let legal = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"shop"},"spec":{"action":"DENY","rules":[{}],"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"gate"}]}}"#;
        let mut told = Told::new(subject());
        for (json, blind, rejected) in [
            (Some("{"), true, true),
            (None, false, false),
            (Some("{"), true, true),
            (Some(legal), false, false),
            // It is not the one it is called; it stays as it was.
            (Some(r#"{"metadata":{"name":"q","namespace":"shop"}}"#), false, true),
            // Not legal is something else: then it denies.
            (Some(r#"{"metadata":{"name":"p","namespace":"shop"},"spec":{"rules":7}}"#), false, false),
        ] {
            let outcome = take(&mut told, [(name.clone(), json.map(ToOwned::to_owned))]);
            assert_eq!((outcome.blind, !outcome.rejected.is_empty()), (blind, rejected), "{json:?}");
        }
    }

    #[test]
    fn what_is_no_matter_of_waypoints_is_refused_and_labels_of_pods_are_kept() {
        let mut told = Told::new(subject());
        for name in ["Pod", "Service/shop/web", "Secret/shop/s", "VirtualService/Shop/a", "PeerAuthentication/shop/p"] {
            let outcome = take(&mut told, [(name.to_owned(), Some("{}".to_owned()))]);
            assert_eq!(outcome.rejected.len(), 1, "{name}");
        }
        let name = "Pod/shop/web-1".to_owned();
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","labels":{"version":"v1","app":"web"},"namespace":"shop"}}"#;
        let uid = "Kubernetes//v1/Pod/shop/web-1".parse().unwrap();
        let outcome = take(&mut told, [(name.clone(), Some(json.to_owned()))]);
        let labels = outcome.state.labels(&uid).unwrap();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(labels, [("app", "web"), ("version", "v1")]);
        let outcome = take(&mut told, [(name, None)]);
        assert!(outcome.state.labels(&uid).is_none() && outcome.rejected.is_empty());
    }
}
