//! Services, and who stands behind them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use weir_manifest::{
    Backing, EndpointHealth, EndpointSliceObject, PodObject, ServiceObject, ServicePortObject, SliceEndpoint,
    TargetPort,
};
use weir_model::{
    AppProtocol, HealthPolicy, Membership, Namespace, NetworkMode, Port, Service, ServiceName, ServicePort, Workload,
    WorkloadUid,
};

use crate::{Settings, workload};

/// Ports whose servers speak first or otherwise are no HTTP, when nothing is said: SMTP, DNS, MySQL, MongoDB. As Istio has them.
const TCP_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// What stands behind services.
pub(crate) struct Backends<'o> {
    /// Pods the mesh knows, by namespace.
    pods: HashMap<&'o Namespace, Vec<&'o PodObject>>,
    slices: HashMap<(&'o Namespace, &'o str), Vec<&'o EndpointSliceObject>>,
    /// Pods with an address of their own, by it. In the default network, for only there a slice's addresses mean something.
    by_address: HashMap<IpAddr, &'o PodObject>,
}

impl<'o> Backends<'o> {
    pub(crate) fn new(settings: &Settings, pods: &'o [PodObject], slices: &'o [EndpointSliceObject]) -> Self {
        let mut backends = Self { pods: HashMap::new(), slices: HashMap::new(), by_address: HashMap::new() };
        for pod in pods.iter().filter(|pod| workload::exists(pod)) {
            backends.pods.entry(&pod.namespace).or_default().push(pod);
            let here = pod.network.as_ref().is_none_or(|network| *network == settings.network);
            if here && pod.network_mode == NetworkMode::Standard {
                backends.by_address.extend(pod.addresses.iter().map(|ip| (*ip, pod)));
            }
        }
        for slice in slices {
            if let Some(service) = &slice.service {
                backends.slices.entry((&slice.namespace, service)).or_default().push(slice);
            }
        }
        backends
    }

    /// Puts workloads behind a service: those of its slices when it has any, else the pods its selector selects.
    /// Endpoints that are no pods become workloads of their own.
    pub(crate) fn place(
        &self,
        settings: &Settings,
        service: &ServiceObject,
        workloads: &mut BTreeMap<WorkloadUid, Workload>,
    ) {
        if service.backing == Backing::ExternalName {
            return;
        }
        match self.slices.get(&(&service.namespace, &*service.name)) {
            Some(slices) => self.sliced(settings, service, slices, workloads),
            None => self.selected(settings, service, workloads),
        }
    }

    fn selected(&self, settings: &Settings, service: &ServiceObject, workloads: &mut BTreeMap<WorkloadUid, Workload>) {
        if service.selector.is_empty() {
            return;
        }
        let pods = self.pods.get(&service.namespace).into_iter().flatten();
        let selects =
            |pod: &&&PodObject| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        for pod in pods.filter(selects) {
            if let Some(workload) = workloads.get_mut(&workload::uid(settings, &pod.namespace, &pod.name)) {
                join(workload, name(settings, service), selected_ports(service, pod));
            }
        }
    }

    fn sliced(
        &self,
        settings: &Settings,
        service: &ServiceObject,
        slices: &[&EndpointSliceObject],
        workloads: &mut BTreeMap<WorkloadUid, Workload>,
    ) {
        for slice in slices {
            let ports = slice_ports(service, slice);
            for endpoint in &slice.endpoints {
                let (Some(ip), Ok(pod)) = (endpoint.addresses.first(), self.pod_of(endpoint)) else { continue };
                let workload = match pod {
                    Some(pod) => workloads.get_mut(&workload::uid(settings, &pod.namespace, &pod.name)),
                    None => {
                        let made = workload::of_slice(settings, slice, service, endpoint, *ip);
                        Some(workloads.entry(made.uid.clone()).or_insert(made))
                    }
                };
                let wanted = endpoint.health == EndpointHealth::Ready || service.health_policy == HealthPolicy::All;
                if let Some(workload) = workload.filter(|_| wanted) {
                    join(workload, name(settings, service), ports.clone());
                }
            }
        }
    }

    /// The pod an endpoint is, if it is one. An endpoint that names a pod which is gone, or has another address by now,
    /// is nobody's: whoever has its address is someone else.
    fn pod_of(&self, endpoint: &SliceEndpoint) -> Result<Option<&'o PodObject>, Gone> {
        let has_all = |pod: &PodObject| endpoint.addresses.iter().all(|ip| pod.addresses.contains(ip));
        match &endpoint.pod {
            Some((namespace, name)) => {
                let mut pods = self.pods.get(namespace).into_iter().flatten();
                let pod = pods.find(|pod| pod.name == *name).copied().filter(|pod| has_all(pod));
                pod.map(Some).ok_or(Gone)
            }
            None => Ok(endpoint
                .addresses
                .first()
                .and_then(|ip| self.by_address.get(ip).copied())
                .filter(|pod| has_all(pod))),
        }
    }
}

/// The pod of an endpoint is not there any more.
struct Gone;

/// The service as the mesh knows it.
pub(crate) fn service(settings: &Settings, object: &ServiceObject) -> Service {
    let mut vips: Vec<_> = Vec::new();
    for ip in object.cluster_ips.iter().chain(&object.external_ips) {
        let vip = (settings.network.clone(), IpNet::from(*ip));
        if object.backing == Backing::Endpoints && !vips.contains(&vip) {
            vips.push(vip);
        }
    }
    Service {
        name: name(settings, object),
        short_name: object.name.clone(),
        vips,
        ports: object.ports.iter().map(service_port).collect(),
        health_policy: object.health_policy,
        unsupported: None,
    }
}

fn name(settings: &Settings, object: &ServiceObject) -> ServiceName {
    let hostname = format!("{}.{}.svc.{}", object.name, object.namespace, settings.cluster_domain);
    let hostname = hostname.parse().expect("two labels and a cluster domain that leaves room for them");
    ServiceName { namespace: object.namespace.clone(), hostname }
}

/// Behind the service, with these ports besides those it has there already.
fn join(workload: &mut Workload, service: ServiceName, ports: Vec<(Port, Port)>) {
    let at = match workload.services.binary_search_by(|own| own.service.cmp(&service)) {
        Ok(at) => at,
        Err(at) => {
            workload.services.insert(at, Membership { service, ports: Vec::new() });
            at
        }
    };
    let own = &mut workload.services[at].ports;
    for (port, target) in ports {
        if !own.iter().any(|(known, _)| *known == port) {
            own.push((port, target));
        }
    }
    own.sort();
}

fn service_port(port: &ServicePortObject) -> ServicePort {
    ServicePort { name: port.name.clone(), port: port.port, protocol: protocol(port), target: None }
}

/// What a port speaks: `appProtocol`, or else the port's name up to its first dash.
fn protocol(port: &ServicePortObject) -> AppProtocol {
    let said = port.app_protocol.as_ref().unwrap_or(&port.name).to_ascii_lowercase();
    let word = match &*said {
        "kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss" => &said,
        _ => said.split('-').next().unwrap_or_default(),
    };
    match word {
        "http" | "kubernetes.io/ws" => AppProtocol::Http11,
        "http2" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "https" | "tls" | "kubernetes.io/wss" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        _ if TCP_PORTS.contains(&port.port.number()) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

fn selected_ports(service: &ServiceObject, pod: &PodObject) -> Vec<(Port, Port)> {
    let target = |port: &ServicePortObject| match &port.target {
        TargetPort::Number(number) => Some((port.port, *number)),
        // Each pod has its own port of that name, or none.
        TargetPort::Name(name) => pod.ports.iter().find(|own| own.name == *name).map(|own| (port.port, own.port)),
    };
    service.ports.iter().filter_map(target).collect()
}

/// A slice's ports stand for the service's ports of the same name.
fn slice_ports(service: &ServiceObject, slice: &EndpointSliceObject) -> Vec<(Port, Port)> {
    let target = |port: &ServicePortObject| {
        let own = slice.ports.iter().find(|own| own.name == port.name)?;
        Some((port.port, own.port.unwrap_or(port.port)))
    };
    service.ports.iter().filter_map(target).collect()
}
