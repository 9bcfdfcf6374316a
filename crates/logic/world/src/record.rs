//! Workloads as the world keeps them: what many share is kept once. A mesh of a hundred thousand is known to every node.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, OnceLock},
};

use weir_model::{
    ClusterId, Health, Locality, Membership, Namespace, Network, NetworkMode, NodeName, PolicyName, ServiceAccount,
    SpiffeId, TrustDomain, Tunnel, Workload, WorkloadKind, WorkloadUid, canonical_ip,
};

/// What tells a workload from its like.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its name in the mesh. Who brought the workload has the text too, so that it is here for nothing.
    uid: WorkloadUid,
    /// What it is called, unless its uid ends in that.
    name: Option<Arc<str>>,
    incarnation: Incarnation,
    addresses: Addresses,
    pub(crate) shape: Arc<Shape>,
    pub(crate) place: Arc<Place>,
    /// Put together for the first connection that needed it: all share it, and compare it by where it is.
    whole: OnceLock<Arc<Workload>>,
}

/// What the pods of one deployment have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) cluster: ClusterId,
    pub(crate) namespace: Namespace,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) service_account: ServiceAccount,
    pub(crate) network: Network,
    pub(crate) tunnel: Tunnel,
    pub(crate) network_mode: NetworkMode,
    pub(crate) health: Health,
    kind: WorkloadKind,
    workload_name: Arc<str>,
    canonical_name: Arc<str>,
    canonical_revision: Arc<str>,
    pub(crate) services: Vec<Membership>,
    pub(crate) policies: Vec<PolicyName>,
    pub(crate) unsupported: Option<Arc<str>>,
    /// The identity its peers shall expect.
    pub(crate) expect: Arc<[SpiffeId]>,
}

/// What the pods of one node have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) node: Option<NodeName>,
    locality: Locality,
}

/// `metadata.uid`, in half the room when it is a UUID as Kubernetes writes them.
#[derive(Debug)]
enum Incarnation {
    Uuid([u8; 16]),
    Text(Arc<str>),
}

/// The usual cases without an allocation of their own.
#[derive(Debug)]
enum Addresses {
    One(IpAddr),
    Both(Ipv4Addr, Ipv6Addr),
    Many(Box<[IpAddr]>),
}

impl Record {
    /// Takes a workload apart. `shared` keeps what it may have in common with others.
    pub(crate) fn new(workload: Workload, shared: impl FnOnce(Shape, Place) -> (Arc<Shape>, Arc<Place>)) -> Self {
        let expect = Arc::from([workload.identity()]);
        let name = (last(&workload.uid) != &*workload.name).then_some(workload.name);
        let shape = Shape {
            cluster: workload.cluster,
            namespace: workload.namespace,
            trust_domain: workload.trust_domain,
            service_account: workload.service_account,
            network: workload.network,
            tunnel: workload.tunnel,
            network_mode: workload.network_mode,
            health: workload.health,
            kind: workload.kind,
            workload_name: workload.workload_name,
            canonical_name: workload.canonical_name,
            canonical_revision: workload.canonical_revision,
            services: workload.services,
            policies: workload.policies,
            unsupported: workload.unsupported,
            expect,
        };
        let place = Place { node: workload.node, locality: workload.locality };
        let (shape, place) = shared(shape, place);
        Self {
            uid: workload.uid,
            name,
            incarnation: Incarnation::new(workload.incarnation),
            addresses: Addresses::new(&workload.addresses),
            shape,
            place,
            whole: OnceLock::new(),
        }
    }

    /// The workload for a connection, which keeps it.
    pub(crate) fn whole(&self) -> Arc<Workload> {
        self.whole.get_or_init(|| Arc::new(self.workload())).clone()
    }

    /// The workload put together again, for who looks at it once.
    pub(crate) fn workload(&self) -> Workload {
        let (shape, place) = (&self.shape, &self.place);
        Workload {
            uid: self.uid(),
            incarnation: self.incarnation.text(),
            name: self.name.clone().unwrap_or_else(|| last(&self.uid).into()),
            namespace: shape.namespace.clone(),
            trust_domain: shape.trust_domain.clone(),
            service_account: shape.service_account.clone(),
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
            services: shape.services.clone(),
            policies: shape.policies.clone(),
            unsupported: shape.unsupported.clone(),
        }
    }

    /// Its name in the mesh.
    pub(crate) fn uid(&self) -> WorkloadUid {
        self.uid.clone()
    }

    /// Whether that is its name in the mesh.
    pub(crate) fn is(&self, uid: &WorkloadUid) -> bool {
        self.uid == *uid
    }

    /// Its addresses, canonical, the primary one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (both, many) = match &self.addresses {
            Addresses::One(one) => ([Some(*one), None], [].as_slice()),
            Addresses::Both(v4, v6) => ([Some(IpAddr::V4(*v4)), Some(IpAddr::V6(*v6))], [].as_slice()),
            Addresses::Many(all) => ([None, None], &**all),
        };
        both.into_iter().flatten().chain(many.iter().copied())
    }

    /// Its first address of a family.
    pub(crate) fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses().find(|ip| ip.is_ipv4() == v4)
    }
}

/// What a uid ends in: of a pod, its name.
fn last(uid: &WorkloadUid) -> &str {
    uid.as_str().rsplit('/').next().unwrap_or_default()
}

impl Addresses {
    fn new(all: &[IpAddr]) -> Self {
        let all: Vec<IpAddr> = all.iter().copied().map(canonical_ip).collect();
        match all.as_slice() {
            [one] => Self::One(*one),
            [IpAddr::V4(v4), IpAddr::V6(v6)] => Self::Both(*v4, *v6),
            _ => Self::Many(all.into()),
        }
    }
}

impl Incarnation {
    fn new(text: Arc<str>) -> Self {
        match uuid(&text) {
            Some(uuid) => Self::Uuid(uuid),
            None => Self::Text(text),
        }
    }

    fn text(&self) -> Arc<str> {
        let bytes = match self {
            Self::Text(text) => return text.clone(),
            Self::Uuid(bytes) => bytes,
        };
        let mut text = String::with_capacity(36);
        for (i, byte) in bytes.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).expect("four bits are a digit"));
            }
        }
        text.into()
    }
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
    use super::*;

    #[test]
    fn an_incarnation_comes_out_as_it_went_in() {
        for text in [
            "",
            "1",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "0F8FAD5B-d9cb-469f-a165-70867728950e",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "0f8fad5bxd9cb-469f-a165-70867728950e",
            "0f8fad5b-d9cb-469f-a165-7086772895zz",
        ] {
            assert_eq!(&*Incarnation::new(text.into()).text(), text);
        }
        assert!(matches!(Incarnation::new("0f8fad5b-d9cb-469f-a165-70867728950e".into()), Incarnation::Uuid(_)));
    }
}
