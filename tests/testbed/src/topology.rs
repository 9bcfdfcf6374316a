//! Nodes and pods: network namespaces, and what is between them.
//!
//! Each node has a bridge with its pods on it (10.244.N.0/24, fd00:10:244:N::/64) and one link, [`WIRE`], to the others (192.168.77.N,
//! fd00:77::N). Two nodes share one veth pair; more are joined by a switch. Nodes route; nothing translates addresses.

mod links;
mod place;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use weir_netlink::{NetNs, Rtnl};

use self::links::{connect_nodes, connect_pod, new_node};
pub use self::place::{Node, Pod};
use crate::manifests::{self, Allotment, NamespaceSpec, PodSpec, ServiceSpec, Stack, write_atomically};
use crate::process::Process;
use crate::sweep::Run;

/// The link of every node to the others: the place to listen.
pub const WIRE: &str = "eth0";
/// The manifests file that a topology writes.
const FILE: &str = "topology.yaml";

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct TopologySpec {
    /// How many nodes, 1 to 200.
    pub nodes: usize,
    /// Largest packet on wire and pods, in bytes.
    pub mtu: u32,
}

impl Default for TopologySpec {
    fn default() -> Self {
        Self { nodes: 2, mtu: 1500 }
    }
}

/// Nodes, pods, services, and the folder that describes them. Dropping it removes all of it, and so does the end of the process.
#[derive(Debug)]
pub struct Topology {
    spec: TopologySpec,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    namespaces: Vec<NamespaceSpec>,
    services: Vec<(ServiceSpec, [IpAddr; 2])>,
    allotments: Vec<Allotment>,
    next_service: u8,
    made: u16,
    _switch: Option<NetNs>,
    // Last: namespaces are let go of before they are unmounted.
    run: Run,
}

impl Topology {
    /// Builds the nodes, with no pods yet, and a namespace `default` that is in the mesh.
    ///
    /// # Errors
    /// Without root, or when the kernel lacks veth or bridges.
    pub fn new(spec: TopologySpec) -> anyhow::Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run it with sudo, or through `cargo xtask`"
        );
        ensure!((1..=200).contains(&spec.nodes), "1 to 200 nodes, not {}", spec.nodes);
        let run = Run::begin()?;
        let mut nodes = Vec::new();
        for number in 1..=u8::try_from(spec.nodes)? {
            nodes.push(new_node(&run, number)?);
        }
        let switch = connect_nodes(&run, &nodes, spec.mtu)?;
        let labels = [("istio.io/dataplane-mode".to_owned(), "ambient".to_owned())].into();
        let namespaces = vec![NamespaceSpec { name: "default".into(), labels }];
        let topology = Self {
            spec,
            nodes,
            pods: Vec::new(),
            namespaces,
            services: Vec::new(),
            allotments: Vec::new(),
            next_service: 1,
            made: 0,
            _switch: switch,
            run,
        };
        std::fs::create_dir_all(topology.manifests_dir())?;
        topology.write_manifests()?;
        Ok(topology)
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The pods.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The pod of this name; in several namespaces: the first that was made.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.spec.name == name).unwrap_or_else(|| panic!("no pod {name} in this topology"))
    }

    /// First part of the names of everything that belongs to this topology.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.run.prefix()
    }

    /// The manifests folder, for agents.
    #[must_use]
    pub fn manifests_dir(&self) -> PathBuf {
        self.run.work_dir().join("manifests")
    }

    /// A folder for logs, keys and the like.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.run.work_dir()
    }

    /// Where a node's agent shall pin.
    #[must_use]
    pub fn bpf_dir(&self, node: usize) -> PathBuf {
        self.run.bpf_path(self.nodes[node].name())
    }

    /// Cluster IPs of a service, IPv4 first.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn cluster_ips(&self, service: &str) -> [IpAddr; 2] {
        let own = self.services.iter().map(|(spec, ips)| (&spec.name, *ips));
        let others = self.allotments.iter().map(|allotment| (&allotment.service, allotment.ips));
        let found = own.chain(others).find(|(name, _)| *name == service);
        found.unwrap_or_else(|| panic!("no service {service} in this topology")).1
    }

    /// Adds a namespace or replaces its labels.
    ///
    /// # Errors
    /// When the manifests cannot be written.
    pub fn set_namespace(&mut self, namespace: NamespaceSpec) -> anyhow::Result<()> {
        self.namespaces.retain(|other| other.name != namespace.name);
        self.namespaces.push(namespace);
        self.write_manifests()
    }

    /// Adds a service; its cluster IPs are 10.96.0.N and fd00:10:96::N.
    ///
    /// # Errors
    /// When the manifests cannot be written.
    pub fn add_service(&mut self, service: ServiceSpec) -> anyhow::Result<[IpAddr; 2]> {
        let ips = self.next_cluster_ips()?;
        self.services.push((service, ips));
        self.write_manifests()?;
        Ok(ips)
    }

    /// Gives cluster IPs to a service that another file of the folder defines without, as Kubernetes does: by IPAddress objects.
    ///
    /// # Errors
    /// When the manifests cannot be written.
    pub fn allot_cluster_ips(&mut self, namespace: &str, service: &str) -> anyhow::Result<[IpAddr; 2]> {
        let ips = self.next_cluster_ips()?;
        let (namespace, service) = (namespace.to_owned(), service.to_owned());
        self.allotments.push(Allotment { namespace, service, ips });
        self.write_manifests()?;
        Ok(ips)
    }

    fn next_cluster_ips(&mut self) -> anyhow::Result<[IpAddr; 2]> {
        let number = self.next_service;
        self.next_service = number.checked_add(1).context("255 services are the most")?;
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into());
        Ok([Ipv4Addr::new(10, 96, 0, number).into(), v6.into()])
    }

    /// Adds a pod with addresses that no other had.
    ///
    /// # Errors
    /// When the node is full or the kernel refuses.
    pub fn add_pod(&mut self, spec: PodSpec) -> anyhow::Result<&Pod> {
        let node = self.nodes.get_mut(spec.node).with_context(|| format!("no node {}", spec.node))?;
        let mut addresses = Vec::new();
        if spec.host_network {
            addresses.extend(node.addresses());
        } else {
            for _ in 0..spec.addresses.max(1) {
                ensure!(node.next_pod < 254, "{} is full", node.name);
                addresses.extend(node.pod_addresses(node.next_pod));
                node.next_pod += 1;
            }
        }
        self.add_pod_at(spec, addresses)
    }

    /// Adds a pod with the addresses of one that was there before, as after a restart.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_pod_at(&mut self, spec: PodSpec, mut addresses: Vec<IpAddr>) -> anyhow::Result<&Pod> {
        addresses.retain(|ip| match spec.stack {
            Stack::Dual => true,
            Stack::V4 => ip.is_ipv4(),
            Stack::V6 => ip.is_ipv6(),
        });
        addresses.sort_unstable();
        let node = &self.nodes[spec.node];
        self.made += 1;
        // Unlike that of any pod of another topology, whose processes are to be seen as well.
        let digits: String = self.prefix().chars().filter(char::is_ascii_digit).collect();
        let (last, rest) = (digits.get(digits.len().saturating_sub(8)..).unwrap_or_default(), self.made);
        let more = digits.get(..digits.len().saturating_sub(8)).unwrap_or_default();
        let more = more.get(more.len().saturating_sub(4)..).unwrap_or_default();
        let uid = format!("{last:0>8}-{more:0>4}-4000-8000-{rest:012}");
        let (netns_path, link) = if spec.host_network {
            (node.netns_path.clone(), None)
        } else {
            (
                self.run.netns_path(&format!("pod{}-{}-{}", self.made, spec.namespace, spec.name)),
                Some(format!("veth{}", self.made)),
            )
        };
        if let Some(link) = &link {
            connect_pod(&NetNs::create(&netns_path)?, node, link, &addresses, self.spec.mtu, spec.stack)?;
        }
        let netns = NetNs::open(&netns_path)?;
        self.pods.push(Pod { spec, netns, netns_path, addresses, uid, link });
        self.write_manifests()?;
        Ok(self.pods.last().expect("just pushed"))
    }

    /// Takes a pod away, in either order: a machine may be quicker than its API server.
    ///
    /// # Errors
    /// When there is no such pod or the kernel refuses.
    pub fn remove_pod(&mut self, name: &str, order: Removal) -> anyhow::Result<()> {
        let Some(index) = self.pods.iter().position(|pod| pod.spec.name == name) else { bail!("no pod {name}") };
        let pod = self.pods.remove(index);
        if order == Removal::ObjectFirst {
            self.write_manifests()?;
        }
        if let Some(link) = &pod.link {
            Rtnl::open_in(&self.nodes[pod.spec.node].netns)?.delete_link(link)?;
            let path = pod.netns_path.clone();
            drop(pod);
            NetNs::delete(&path)?;
        }
        self.write_manifests()
    }

    /// Changes a pod's object (labels, readiness), not its network.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn change_pod(&mut self, name: &str, change: impl FnOnce(&mut PodSpec)) -> anyhow::Result<()> {
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.spec.name == name) else { bail!("no pod {name}") };
        change(&mut pod.spec);
        self.write_manifests()
    }

    /// Writes the folder anew, in one atomic step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifests(&self) -> anyhow::Result<()> {
        let mut documents: Vec<String> = self.namespaces.iter().map(manifests::namespace_yaml).collect();
        documents.extend(self.nodes.iter().map(manifests::node_yaml));
        documents.extend(self.pods.iter().map(|pod| manifests::pod_yaml(pod, &self.nodes[pod.spec.node])));
        documents.extend(self.services.iter().map(|(service, ips)| manifests::service_yaml(service, ips)));
        documents.extend(self.allotments.iter().map(manifests::allotment_yaml));
        write_atomically(&self.manifests_dir().join(FILE), &documents.join("---\n"))
    }

    /// Adds another file to the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_manifest(&self, name: &str, content: &str) -> anyhow::Result<()> {
        write_atomically(&self.manifests_dir().join(name), content)
    }

    /// Starts a program in a pod.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start_in_pod(&self, pod: &str, command: Command) -> anyhow::Result<Process> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Process::start(&self.pod(pod).netns, &format!("{pod}-{program}"), command, &self.work_dir().join("logs"))
    }

    /// Starts a program on a node.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start_on_node(&self, node: usize, command: Command) -> anyhow::Result<Process> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let node = &self.nodes[node];
        Process::start(&node.netns, &format!("{}-{program}", node.name), command, &self.work_dir().join("logs"))
    }

    /// The command that starts a node's agent as it runs in a cluster, for [`Self::start_on_node`]. Add flags as needed.
    #[must_use]
    pub fn agent_command(&self, agent: &Path, node: usize) -> Command {
        let mut command = Command::new(agent);
        command.arg("--manifests").arg(self.manifests_dir());
        command.args(["--node-name", self.nodes[node].name()]);
        command.arg("--ca-dir").arg(self.work_dir().join("ca"));
        command.arg("--bpf-dir").arg(self.bpf_dir(node));
        command
    }
}

/// Which of a pod's two halves goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The object in the manifests, then the network namespace.
    ObjectFirst,
    /// The network namespace, then the object.
    NetnsFirst,
}

/// Labels from pairs.
#[must_use]
pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
