//! The objects a folder of manifests declares, as far as the mesh reads them. Every value is legal.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, sync::Arc};

use weir_model::{Health, HealthPolicy, Namespace, Network, NetworkMode, NodeName, Port, ServiceAccount};

use crate::error::{ObjectRef, Origin};

mod config;
mod policy;
mod token;

pub use config::{
    BackendRef, ConfigKind, ConfigObject, ConfigSpec, ConnectionPool, CookieLifetime, DestinationRuleSpec,
    EntryAddress, EntryEndpoint, EntryPort, EntryResolution, ExportTo, ExtensionRef, GatewayAddress, GatewayRouteRule,
    GatewayRouteSpec, GatewayScope, GatewaySpec, GrantFrom, GrantTo, HttpVersion, InboundBinding, Infrastructure,
    LabelExpression, LabelOperator, LabelSelector, Listener, ListenerNamespaces, LoadBalancer, Location, ParentRef,
    PortPolicy, ProxyVersion, ReferenceGrantSpec, Remark, RemarkKind, RequestMirror, RouteBackend, RouteFilters,
    RouteNamespaces, ServiceEntrySpec, SessionCarrier, SessionPersistence, SubsetSpec, TcpKeepalive, TelemetrySpec,
    TlsMode, TlsSettings, TrafficPolicy, TunnelProtocol, TunnelSettings, VirtualAct, VirtualDelegate,
    VirtualDestination, VirtualHeaders, VirtualHost, VirtualHttp, VirtualMatch, VirtualMirror, VirtualRetries,
    VirtualRoute, VirtualServiceSpec, VirtualTcp, VirtualTcpMatch, VirtualTls, VirtualTlsMatch, VirtualUri,
    WaypointFor,
};
// What a Telemetry is made of.
pub use config::{
    AccessLoggingEntry, CustomTag, MetricSelector, MetricsEntry, MetricsOverride, TagOverride, TracingEntry,
    WorkloadMode,
};
pub use policy::{
    AuthorizationAction, AuthorizationRule, AuthorizationSpec, Condition, MtlsMode, Operation, PathMatch,
    PeerAuthenticationSpec, PolicyObject, PolicySpec, PolicyTarget, Source, TargetRef, WaypointLabels, WaypointUse,
};
pub use token::{
    ClaimToHeader, HeaderName, KeySource, KeysUrl, Presence, RequestAuthenticationSpec, Scheme, TokenHeader, TokenRule,
};

/// Labels of an object.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Everything the manifests declare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Namespaces. A namespace need not be declared to hold objects.
    pub namespaces: Vec<NamespaceObject>,
    /// Pods of every phase.
    pub pods: Vec<PodObject>,
    /// Services of every type.
    pub services: Vec<ServiceObject>,
    /// Endpoint slices of services.
    pub endpoint_slices: Vec<EndpointSliceObject>,
    /// Nodes.
    pub nodes: Vec<NodeObject>,
    /// Policies.
    pub policies: Vec<PolicyObject>,
    /// What shapes requests.
    pub configs: Vec<ConfigObject>,
    /// What waypoints are told, JSON: each as [`Sent::document`](crate::Sent::document) has it.
    pub documents: Vec<(ObjectKey, Arc<str>)>,
    /// What was accepted though it has no effect here.
    pub ignored: Vec<Ignored>,
}

impl Objects {
    /// All of them, those first that others depend on.
    pub fn into_objects(self) -> impl Iterator<Item = Object> {
        let Self { namespaces, pods, services, endpoint_slices, nodes, policies, configs, documents: _, ignored: _ } =
            self;
        let around = namespaces.into_iter().map(Object::Namespace).chain(nodes.into_iter().map(Object::Node));
        let services = services.into_iter().map(Object::Service);
        let slices = endpoint_slices.into_iter().map(Object::EndpointSlice);
        let pods = pods.into_iter().map(Object::Pod);
        let above = policies.into_iter().map(Object::Policy).chain(configs.into_iter().map(Object::Config));
        around.chain(services).chain(slices).chain(above).chain(pods)
    }
}

/// Label `istio.io/dataplane-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataplaneMode {
    /// `ambient`: in the mesh.
    Ambient,
    /// `none`: not in the mesh.
    None,
}

/// A Namespace, core/v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceObject {
    /// Where it is declared.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: Namespace,
    /// Whether its pods are in the mesh, if it says.
    pub mode: Option<DataplaneMode>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Which waypoint its labels bind all in it to.
    pub waypoint: WaypointLabels,
}

/// `status.phase` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not all containers have started; also when nothing is said.
    Pending,
    /// At least one container runs.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, one badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The controller in `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, such as `ReplicaSet`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Whether an Istio sidecar is in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sidecar {
    /// Annotation `sidecar.istio.io/status`, or a container named `istio-proxy`.
    Present,
    /// Neither.
    Absent,
}

/// A named TCP port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub port: Port,
}

/// A Pod, core/v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodObject {
    /// Where it is declared.
    pub origin: Origin,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`: a DNS subdomain.
    pub name: Arc<str>,
    /// `metadata.uid`, empty when it has none: a pod that is made anew under the same name has another.
    pub incarnation: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Its own label `istio.io/dataplane-mode`.
    pub mode: Option<DataplaneMode>,
    /// Which waypoint its own labels bind it to.
    pub waypoint: WaypointLabels,
    /// Its own label `topology.istio.io/network`.
    pub network: Option<Network>,
    /// Annotation `weir.dev/netns`: an absolute path.
    pub netns: Option<PathBuf>,
    /// Its controller.
    pub owner: Option<Owner>,
    /// `spec.serviceAccountName`, `default` when nothing is said.
    pub service_account: ServiceAccount,
    /// `spec.nodeName`.
    pub node: Option<NodeName>,
    /// `spec.hostNetwork`.
    pub network_mode: NetworkMode,
    /// Whether it has an Istio sidecar.
    pub sidecar: Sidecar,
    /// Named TCP ports of its containers, in their order.
    pub ports: Vec<ContainerPort>,
    /// `status.phase`.
    pub phase: Phase,
    /// `status.podIPs`, canonical, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Condition `Ready`, unless `metadata.deletionTimestamp` is set.
    pub health: Health,
}

impl PodObject {
    /// Whether all its containers have ended for good: its address may belong to another pod by now.
    pub fn is_over(&self) -> bool {
        match self.phase {
            Phase::Succeeded | Phase::Failed => true,
            Phase::Pending | Phase::Running | Phase::Unknown => false,
        }
    }

    /// Its kind, namespace and name.
    pub fn object(&self) -> ObjectRef {
        object("Pod", &self.namespace, &self.name)
    }
}

/// Where a service port leads on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(Port),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// A TCP port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortObject {
    /// Its name, empty if it has none.
    pub name: Arc<str>,
    /// The port clients connect to.
    pub port: Port,
    /// The port on the pods.
    pub target: TargetPort,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// A Service, core/v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    /// Where it is declared.
    pub origin: Origin,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`: a DNS label.
    pub name: Arc<str>,
    /// Which waypoint its own labels bind it to.
    pub waypoint: WaypointLabels,
    /// `spec.clusterIPs`, canonical. Empty for headless and external ones.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs` and addresses of its load balancer that lead to it as they are.
    pub external_ips: Vec<IpAddr>,
    /// `spec.selector`, empty when it has none.
    pub selector: Labels,
    /// Its TCP ports.
    pub ports: Vec<ServicePortObject>,
    /// `spec.publishNotReadyAddresses`.
    pub health_policy: HealthPolicy,
    /// Whether `spec.type` is `ExternalName`: a name elsewhere, with nothing behind it here.
    pub backing: Backing,
}

/// What stands behind a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Endpoints.
    Endpoints,
    /// A DNS name elsewhere: `type: ExternalName`.
    ExternalName,
}

impl ServiceObject {
    /// Its kind, namespace and name.
    pub fn object(&self) -> ObjectRef {
        object("Service", &self.namespace, &self.name)
    }
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses: of one endpoint, so any of them will do.
    pub addresses: Vec<IpAddr>,
    /// Condition `ready`, true when nothing is said.
    pub health: Health,
    /// `targetRef`, if it is a pod.
    pub pod: Option<(Namespace, Arc<str>)>,
}

/// One TCP port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service's port it stands for, empty if that has none.
    pub name: Arc<str>,
    /// The port on the endpoints; absent for the service's own.
    pub port: Option<Port>,
}

/// An EndpointSlice, discovery.k8s.io/v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSliceObject {
    /// Where it is declared.
    pub origin: Origin,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Label `kubernetes.io/service-name`, absent for a slice of nobody.
    pub service: Option<Arc<str>>,
    /// Its endpoints; none for `addressType: FQDN`.
    pub endpoints: Vec<SliceEndpoint>,
    /// Its TCP ports.
    pub ports: Vec<SlicePort>,
}

impl EndpointSliceObject {
    /// Its kind, namespace and name.
    pub fn object(&self) -> ObjectRef {
        object("EndpointSlice", &self.namespace, &self.name)
    }
}

/// A Node, core/v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeObject {
    /// Where it is declared.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: NodeName,
    /// `metadata.labels`.
    pub labels: Labels,
}

/// One object of those the mesh reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A Namespace.
    Namespace(NamespaceObject),
    /// A Node.
    Node(NodeObject),
    /// A Pod.
    Pod(PodObject),
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    EndpointSlice(EndpointSliceObject),
    /// A policy.
    Policy(PolicyObject),
    /// An object that shapes requests.
    Config(ConfigObject),
}

/// Which object, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind, such as `Pod`.
    pub kind: Arc<str>,
    /// Its namespace, if its kind has one.
    pub namespace: Option<Namespace>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

impl Object {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        let key = |kind: &str, namespace: Option<&Namespace>, name: &str| ObjectKey {
            kind: kind.into(),
            namespace: namespace.cloned(),
            name: name.into(),
        };
        match self {
            Self::Namespace(one) => key("Namespace", None, one.name.as_str()),
            Self::Node(one) => key("Node", None, one.name.as_str()),
            Self::Pod(one) => key("Pod", Some(&one.namespace), &one.name),
            Self::Service(one) => key("Service", Some(&one.namespace), &one.name),
            Self::EndpointSlice(one) => key("EndpointSlice", Some(&one.namespace), &one.name),
            Self::Policy(one) => key(&one.kind.to_string(), Some(&one.namespace), &one.name),
            Self::Config(one) => key(one.kind.name(), Some(&one.namespace), &one.name),
        }
    }
}

/// Why an accepted object or label has no effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WhyIgnored {
    /// It makes pods or is used by them; the mesh reads the pods.
    #[error("the mesh reads the pods it leads to")]
    PodsOnly,
    /// It has nothing to do with connections between pods.
    #[error("not about connections between pods")]
    NotTraffic,
    /// It routes or shapes requests, which needs a waypoint or a gateway.
    #[error("L7 needs a waypoint or a gateway, which this version does not have")]
    NeedsWaypoint,
    /// It configures telemetry or extensions of Envoy.
    #[error("configures a proxy this mesh does not run")]
    OtherProxy,
    /// The network plugin enforces it, if anyone does.
    #[error("enforced by the network plugin, if at all, and never by the mesh")]
    NetworkPlugin,
}

/// Something accepted that has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Where it is declared.
    pub origin: Origin,
    /// What it is.
    pub object: ObjectRef,
    /// The field that has no effect; empty for the whole object.
    pub field: &'static str,
    /// Why.
    pub why: WhyIgnored,
}

fn object(kind: &str, namespace: &Namespace, name: &Arc<str>) -> ObjectRef {
    ObjectRef { kind: kind.into(), namespace: Some(namespace.as_str().into()), name: name.clone() }
}
