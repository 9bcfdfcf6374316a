//! Which kinds are read, which are accepted without effect, and which nobody knows.

use crate::{
    object::{ConfigKind, WhyIgnored},
    read::policy::Which,
};

/// What is done with a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Read whole, in these versions, the newest first.
    Read(ReadKind, &'static [&'static str]),
    /// A list of other objects.
    List,
    /// Accepted unread.
    Ignore(Scope, WhyIgnored),
}

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Namespaced,
    Cluster,
}

/// A kind that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadKind {
    Namespace,
    Pod,
    Service,
    EndpointSlice,
    Node,
    IpAddress,
    Policy(Which),
    Config(ConfigKind),
}

/// Istio's versions of policies, which have one schema.
pub(crate) const POLICY_VERSIONS: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];

impl ReadKind {
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::Pod | Self::Service | Self::EndpointSlice | Self::Policy(_) | Self::Config(_) => Scope::Namespaced,
            Self::Namespace | Self::Node | Self::IpAddress => Scope::Cluster,
        }
    }
}

/// What is done with a kind of a group; nothing for one that is not known.
pub(crate) fn treatment(group: &str, kind: &str) -> Option<Treatment> {
    let read = match (group, kind) {
        ("", "Namespace") => Some(Treatment::Read(ReadKind::Namespace, &["v1"])),
        ("", "Pod") => Some(Treatment::Read(ReadKind::Pod, &["v1"])),
        ("", "Service") => Some(Treatment::Read(ReadKind::Service, &["v1"])),
        ("", "Node") => Some(Treatment::Read(ReadKind::Node, &["v1"])),
        ("", "List") => Some(Treatment::List),
        ("discovery.k8s.io", "EndpointSlice") => {
            Some(Treatment::Read(ReadKind::EndpointSlice, &["discovery.k8s.io/v1"]))
        }
        ("networking.k8s.io", "IPAddress") => Some(Treatment::Read(ReadKind::IpAddress, &["networking.k8s.io/v1"])),
        ("security.istio.io", kind) => {
            Which::named(kind).map(|which| Treatment::Read(ReadKind::Policy(which), POLICY_VERSIONS))
        }
        (group, kind) => {
            let config = ConfigKind::ALL.into_iter().find(|config| config.group() == group && config.name() == kind);
            config.map(|config| Treatment::Read(ReadKind::Config(config), config.versions()))
        }
    };
    read.or_else(|| {
        let row = IGNORED.iter().find(|row| row.0 == group && row.2.contains(&kind))?;
        Some(Treatment::Ignore(row.1, row.3))
    })
}

type Row = (&'static str, Scope, &'static [&'static str], WhyIgnored);

/// Group, scope, kinds, and why they have no effect here.
const IGNORED: &[Row] = &[
    ("", Scope::Namespaced, &["ReplicationController", "PodTemplate"], WhyIgnored::PodsOnly),
    (
        "apps",
        Scope::Namespaced,
        &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ControllerRevision"],
        WhyIgnored::PodsOnly,
    ),
    ("batch", Scope::Namespaced, &["Job", "CronJob"], WhyIgnored::PodsOnly),
    ("autoscaling", Scope::Namespaced, &["HorizontalPodAutoscaler"], WhyIgnored::PodsOnly),
    ("policy", Scope::Namespaced, &["PodDisruptionBudget"], WhyIgnored::PodsOnly),
    // The older twin of EndpointSlice, which Kubernetes mirrors into slices.
    ("", Scope::Namespaced, &["Endpoints"], WhyIgnored::NotTraffic),
    (
        "",
        Scope::Namespaced,
        &["ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "LimitRange", "ResourceQuota", "Event"],
        WhyIgnored::NotTraffic,
    ),
    ("events.k8s.io", Scope::Namespaced, &["Event"], WhyIgnored::NotTraffic),
    ("", Scope::Cluster, &["PersistentVolume"], WhyIgnored::NotTraffic),
    (
        "storage.k8s.io",
        Scope::Cluster,
        &["StorageClass", "CSIDriver", "CSINode", "VolumeAttachment"],
        WhyIgnored::NotTraffic,
    ),
    ("rbac.authorization.k8s.io", Scope::Namespaced, &["Role", "RoleBinding"], WhyIgnored::NotTraffic),
    ("rbac.authorization.k8s.io", Scope::Cluster, &["ClusterRole", "ClusterRoleBinding"], WhyIgnored::NotTraffic),
    ("scheduling.k8s.io", Scope::Cluster, &["PriorityClass"], WhyIgnored::NotTraffic),
    ("node.k8s.io", Scope::Cluster, &["RuntimeClass"], WhyIgnored::NotTraffic),
    ("coordination.k8s.io", Scope::Namespaced, &["Lease"], WhyIgnored::NotTraffic),
    ("apiregistration.k8s.io", Scope::Cluster, &["APIService"], WhyIgnored::NotTraffic),
    ("apiextensions.k8s.io", Scope::Cluster, &["CustomResourceDefinition"], WhyIgnored::NotTraffic),
    (
        "admissionregistration.k8s.io",
        Scope::Cluster,
        &[
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ],
        WhyIgnored::NotTraffic,
    ),
    ("networking.k8s.io", Scope::Cluster, &["ServiceCIDR"], WhyIgnored::NotTraffic),
    ("networking.k8s.io", Scope::Namespaced, &["NetworkPolicy"], WhyIgnored::NetworkPlugin),
    (
        "policy.networking.k8s.io",
        Scope::Cluster,
        &["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
        WhyIgnored::NetworkPlugin,
    ),
    ("networking.k8s.io", Scope::Namespaced, &["Ingress"], WhyIgnored::NeedsWaypoint),
    ("networking.k8s.io", Scope::Cluster, &["IngressClass"], WhyIgnored::NeedsWaypoint),
    (
        "networking.istio.io",
        Scope::Namespaced,
        &["Gateway", "WorkloadEntry", "WorkloadGroup"],
        WhyIgnored::NeedsWaypoint,
    ),
    ("networking.istio.io", Scope::Namespaced, &["Sidecar", "EnvoyFilter", "ProxyConfig"], WhyIgnored::OtherProxy),
    ("extensions.istio.io", Scope::Namespaced, &["WasmPlugin"], WhyIgnored::OtherProxy),
    ("gateway.networking.k8s.io", Scope::Cluster, &["GatewayClass"], WhyIgnored::NeedsWaypoint),
    (
        "gateway.networking.k8s.io",
        Scope::Namespaced,
        &["TLSRoute", "UDPRoute", "BackendTLSPolicy", "ListenerSet"],
        WhyIgnored::NeedsWaypoint,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_policy_of_istio_is_ever_ignored() {
        assert!(IGNORED.iter().all(|row| row.0 != "security.istio.io"));
        for kind in ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"] {
            let treatment = treatment("security.istio.io", kind);
            assert!(matches!(treatment, Some(Treatment::Read(ReadKind::Policy(_), POLICY_VERSIONS))), "{treatment:?}");
        }
        assert_eq!(treatment("security.istio.io", "NewPolicy"), None);
    }

    #[test]
    fn a_kind_is_known_by_its_group_and_not_by_its_name_alone() {
        assert_eq!(treatment("example.com", "Pod"), None);
        assert_eq!(treatment("", "Deployment"), None);
        assert!(treatment("networking.istio.io", "Gateway").is_some());
        assert!(treatment("gateway.networking.k8s.io", "Gateway").is_some());
    }
}
