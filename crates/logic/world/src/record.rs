//! Workloads as the world keeps them: what many share is kept once. A mesh of a hundred thousand is known to every node.

use std::{
    cmp::Ordering,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use weir_model::{
    ClusterId, Health, Locality, Membership, Namespace, Network, NetworkMode, NodeName, PolicyName, SpiffeId,
    Termination, TrustDomain, Tunnel, WaypointAddress, Workload, WorkloadKind, WorkloadUid, canonical_ip,
};

/// What stands in the uid of a pod between its cluster and its namespace.
const POD: &str = "//v1/Pod/";
/// Most the name of a pod may have after what it has in common with its deployment's, in bytes. A ReplicaSet and a random part are 17.
const SUFFIX: usize = 18;

/// What tells a workload from its like.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) shape: Arc<Shape>,
    pub(crate) place: Arc<Place>,
    own: Own,
}

/// What the pods of one deployment have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) cluster: ClusterId,
    pub(crate) namespace: Namespace,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) network: Network,
    pub(crate) tunnel: Tunnel,
    pub(crate) network_mode: NetworkMode,
    pub(crate) health: Health,
    kind: WorkloadKind,
    workload_name: Arc<str>,
    canonical_name: Arc<str>,
    canonical_revision: Arc<str>,
    pub(crate) services: Box<[Membership]>,
    pub(crate) policies: Box<[PolicyName]>,
    pub(crate) termination: Termination,
    pub(crate) waypoint: Option<WaypointAddress>,
    pub(crate) unsupported: Option<Arc<str>>,
    /// The identity its peers shall expect.
    pub(crate) expect: Arc<[SpiffeId]>,
}

/// What the pods of one node have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) node: Option<NodeName>,
    pub(crate) locality: Locality,
}

/// What it has for itself: as little as possible, or what it came with.
#[derive(Debug, Clone)]
enum Own {
    Usual(Usual),
    Odd(Arc<Odd>),
}

/// A pod of Kubernetes with at most one address of each family.
#[derive(Debug, Clone)]
struct Usual {
    /// `metadata.uid`, which is a UUID. All zeroes if its source says nothing.
    incarnation: [u8; 16],
    addresses: Addresses,
    /// How much of its name is the beginning of its deployment's, in bytes.
    common: u8,
    /// What comes then; zeroes when it is shorter.
    suffix: [u8; SUFFIX],
}

#[derive(Debug, Clone)]
enum Addresses {
    None,
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Both(Ipv4Addr, Ipv6Addr),
}

/// Any other workload.
#[derive(Debug)]
struct Odd {
    uid: WorkloadUid,
    name: Arc<str>,
    incarnation: Arc<str>,
    addresses: Box<[IpAddr]>,
}

impl Record {
    /// Takes a workload apart. `shared` keeps what it may have in common with others.
    pub(crate) fn new(workload: Workload, shared: impl FnOnce(Shape, Place) -> (Arc<Shape>, Arc<Place>)) -> Self {
        let expect = Arc::from([workload.identity()]);
        let addresses: Vec<IpAddr> = workload.addresses.iter().copied().map(canonical_ip).collect();
        let usual = Usual::new(&workload, &addresses);
        let shape = Shape {
            cluster: workload.cluster,
            namespace: workload.namespace,
            trust_domain: workload.trust_domain,
            network: workload.network,
            tunnel: workload.tunnel,
            network_mode: workload.network_mode,
            health: workload.health,
            kind: workload.kind,
            workload_name: workload.workload_name,
            canonical_name: workload.canonical_name,
            canonical_revision: workload.canonical_revision,
            services: workload.services.into(),
            policies: workload.policies.into(),
            termination: workload.termination,
            waypoint: workload.waypoint,
            unsupported: workload.unsupported,
            expect,
        };
        let (shape, place) = shared(shape, Place { node: workload.node, locality: workload.locality });
        let (uid, name, incarnation) = (workload.uid, workload.name, workload.incarnation);
        let odd = || Own::Odd(Arc::new(Odd { uid, name, incarnation, addresses: addresses.into() }));
        Self { own: usual.map_or_else(odd, Own::Usual), shape, place }
    }

    /// The workload put together again, for who looks at it once.
    pub(crate) fn workload(&self) -> Workload {
        let (shape, place) = (&self.shape, &self.place);
        let (name, incarnation) = match &self.own {
            Own::Usual(usual) => (usual.name(shape).concat().into(), incarnation(usual.incarnation)),
            Own::Odd(odd) => (odd.name.clone(), odd.incarnation.clone()),
        };
        Workload {
            uid: self.uid(),
            incarnation,
            name,
            namespace: shape.namespace.clone(),
            trust_domain: shape.trust_domain.clone(),
            service_account: shape.expect[0].service_account().clone(),
            addresses: self.addresses().collect(),
            network: shape.network.clone(),
            tunnel: shape.tunnel,
            network_mode: shape.network_mode,
            node: place.node.clone(),
            locality: place.locality.clone(),
            health: shape.health,
            cluster: shape.cluster.clone(),
            kind: shape.kind,
            workload_name: shape.workload_name.clone(),
            canonical_name: shape.canonical_name.clone(),
            canonical_revision: shape.canonical_revision.clone(),
            services: shape.services.to_vec(),
            policies: shape.policies.to_vec(),
            termination: shape.termination,
            waypoint: shape.waypoint.clone(),
            unsupported: shape.unsupported.clone(),
        }
    }

    /// Its name in the mesh.
    pub(crate) fn uid(&self) -> WorkloadUid {
        match &self.own {
            Own::Usual(_) => self.uid_parts().concat().parse().expect("it came with this uid"),
            Own::Odd(odd) => odd.uid.clone(),
        }
    }

    /// Whether that is its name in the mesh.
    pub(crate) fn is(&self, uid: &WorkloadUid) -> bool {
        is_made_of(uid.as_str(), self.uid_parts())
    }

    /// Their order by uid.
    pub(crate) fn cmp_uid(&self, other: &Self) -> Ordering {
        let (own, others) = (self.uid_parts(), other.uid_parts());
        own.iter().flat_map(|part| part.bytes()).cmp(others.iter().flat_map(|part| part.bytes()))
    }

    /// The parts of its uid.
    fn uid_parts(&self) -> [&str; 6] {
        match &self.own {
            Own::Usual(usual) => {
                let [common, suffix] = usual.name(&self.shape);
                [self.shape.cluster.as_str(), POD, self.shape.namespace.as_str(), "/", common, suffix]
            }
            Own::Odd(odd) => [odd.uid.as_str(), "", "", "", "", ""],
        }
    }

    /// Its addresses, canonical, the primary one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (few, many) = match &self.own {
            Own::Usual(usual) => (usual.addresses.all(), [].as_slice()),
            Own::Odd(odd) => ([None, None], &*odd.addresses),
        };
        few.into_iter().flatten().chain(many.iter().copied())
    }

    /// Its first address of a family.
    pub(crate) fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses().find(|ip| ip.is_ipv4() == v4)
    }
}

/// Whether the text is the parts, one after the other.
fn is_made_of<const N: usize>(text: &str, parts: [&str; N]) -> bool {
    parts.iter().try_fold(text, |rest, part| rest.strip_prefix(part)) == Some("")
}

impl Usual {
    /// None if the workload does not come out as it went in.
    fn new(workload: &Workload, addresses: &[IpAddr]) -> Option<Self> {
        let (name, deployment) = (&*workload.name, &*workload.workload_name);
        let parts = [workload.cluster.as_str(), POD, workload.namespace.as_str(), "/", name];
        // A uid is ASCII, and with it the name: it can be cut anywhere, and has no zero in it.
        if !is_made_of(workload.uid.as_str(), parts) {
            return None;
        }
        let common =
            name.bytes().zip(deployment.bytes()).take(usize::from(u8::MAX)).take_while(|(a, b)| a == b).count();
        let rest = name.get(common..)?.as_bytes();
        let mut suffix = [0; SUFFIX];
        suffix.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(Self {
            incarnation: match &*workload.incarnation {
                "" => [0; 16],
                text => uuid(text).filter(|uuid| *uuid != [0; 16])?,
            },
            addresses: Addresses::new(addresses)?,
            common: u8::try_from(common).ok()?,
            suffix,
        })
    }

    /// Its name, in two parts.
    fn name<'a>(&'a self, shape: &'a Shape) -> [&'a str; 2] {
        let common = shape.workload_name.get(..usize::from(self.common)).expect("the beginning of this very text");
        let len = self.suffix.iter().position(|byte| *byte == 0).unwrap_or(SUFFIX);
        [common, str::from_utf8(&self.suffix[..len]).expect("ASCII")]
    }
}

impl Addresses {
    fn new(all: &[IpAddr]) -> Option<Self> {
        match *all {
            [] => Some(Self::None),
            [IpAddr::V4(v4)] => Some(Self::V4(v4)),
            [IpAddr::V6(v6)] => Some(Self::V6(v6)),
            [IpAddr::V4(v4), IpAddr::V6(v6)] => Some(Self::Both(v4, v6)),
            _ => None,
        }
    }

    fn all(&self) -> [Option<IpAddr>; 2] {
        match *self {
            Self::None => [None, None],
            Self::V4(v4) => [Some(v4.into()), None],
            Self::V6(v6) => [Some(v6.into()), None],
            Self::Both(v4, v6) => [Some(v4.into()), Some(v6.into())],
        }
    }
}

/// The UUID as Kubernetes writes it; nothing if it is all zeroes.
fn incarnation(uuid: [u8; 16]) -> Arc<str> {
    let mut text = String::with_capacity(36);
    for (i, byte) in uuid.iter().enumerate().take_while(|_| uuid != [0; 16]) {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).expect("four bits are a digit"));
        }
    }
    text.into()
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in lower case, and nothing else: it must come out as it went in.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ip, stranger, workload};

    fn record(workload: Workload) -> Record {
        Record::new(workload, |shape, place| (Arc::new(shape), Arc::new(place)))
    }

    fn pod(name: &str, deployment: &str) -> Workload {
        let uid = WorkloadUid::of_pod(&"c".parse().unwrap(), &"ns".parse().unwrap(), name).unwrap();
        let (cluster, incarnation) = ("c".parse().unwrap(), "".into());
        let (name, workload_name) = (name.into(), deployment.into());
        Workload { uid, cluster, incarnation, name, workload_name, ..workload("w", 1, Tunnel::Hbone) }
    }

    #[test]
    fn what_most_pods_are_takes_no_room_of_its_own() {
        let cut = "a-deployment-whose-name-is-longer-than-a-pod-s-may-begin-wi";
        let usual = |change: fn(&mut Workload)| {
            let mut one = pod("app-7d4b9c6f5d-x2k9p", "app");
            change(&mut one);
            one
        };
        for (one, want) in [
            (usual(|_| {}), true),
            (pod("app", "app"), true),
            (pod("app-7d4b9c6f5d-000123", "app"), true),
            (pod("app-7d4b9c6f5d-0001234", "app"), false),
            (pod("ap", "app"), true),
            (pod("unlike", "app"), true),
            (pod(&format!("{}x2k9p", &cut[..58]), cut), true),
            (pod("caf", "café"), true),
            (usual(|one| one.incarnation = "0f8fad5b-d9cb-469f-a165-70867728950e".into()), true),
            (usual(|one| one.incarnation = "".into()), true),
            (usual(|one| one.incarnation = "1".into()), false),
            (usual(|one| one.incarnation = "0F8FAD5B-d9cb-469f-a165-70867728950e".into()), false),
            (usual(|one| one.incarnation = "0f8fad5b-d9cb-469f-a165-70867728950".into()), false),
            (usual(|one| one.incarnation = "0f8fad5bxd9cb-469f-a165-70867728950e".into()), false),
            (usual(|one| one.incarnation = "0f8fad5b-d9cb-469f-a165-7086772895zz".into()), false),
            (usual(|one| one.incarnation = "00000000-0000-0000-0000-000000000000".into()), false),
            (usual(|one| one.addresses = Vec::new()), true),
            (usual(|one| one.addresses = vec![ip("10.0.0.1")]), true),
            (usual(|one| one.addresses = vec![ip("fd00::1")]), true),
            (usual(|one| one.addresses = vec![ip("fd00::1"), ip("10.0.0.1")]), false),
            (usual(|one| one.addresses.push(ip("10.0.0.2"))), false),
            (usual(|one| one.name = "another".into()), false),
            (usual(|one| one.cluster = "d".parse().unwrap()), false),
            (stranger("x", &["192.0.2.1"]), false),
        ] {
            let record = record(one.clone());
            assert_eq!(matches!(record.own, Own::Usual(_)), want, "{one:?}");
            assert_eq!(record.workload(), one);
            assert!(record.is(&one.uid) && !record.is(&stranger("y", &[]).uid));
        }
    }

    proptest! {
        #[test]
        fn a_name_comes_out_as_it_went_in(
            name in "[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", deployment in "[a-zé0-9-]{0,20}", same in any::<bool>(),
        ) {
            let name = if same { format!("{}-{name}", deployment.replace(|c: char| !c.is_ascii_alphanumeric(), "x")) } else { name };
            let name = name.trim_start_matches('-').replace("..", ".x").replace(".-", ".x").replace("-.", "x.");
            prop_assume!(WorkloadUid::of_pod(&"c".parse().unwrap(), &"ns".parse().unwrap(), &name).is_ok());
            let one = pod(&name, &deployment);
            prop_assert_eq!(record(one.clone()).workload(), one);
        }

        #[test]
        fn their_order_is_that_of_their_uids(names in prop::array::uniform2("[a-z0-9]{1,3}"), odd in any::<bool>()) {
            let [one, other] = names.map(|name| pod(&name, "a"));
            let other = if odd { Workload { incarnation: "1".into(), ..other } } else { other };
            prop_assert_eq!(record(one.clone()).cmp_uid(&record(other.clone())), one.uid.cmp(&other.uid));
        }
    }
}
