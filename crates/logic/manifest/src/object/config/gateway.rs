//! gateway.networking.k8s.io/v1 Gateway, as its author wrote it.

use std::sync::Arc;

use weir_model::{Hostname, Port};

use super::{ExtensionRef, GatewayScope};
use crate::object::Labels;

/// `spec`, and what labels and annotations add to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySpec {
    /// `gatewayClassName`.
    pub class: Arc<str>,
    /// `listeners`, each of another name.
    pub listeners: Vec<Listener>,
    /// `addresses`: what it should be reached at.
    pub addresses: Vec<GatewayAddress>,
    /// `infrastructure`.
    pub infrastructure: Infrastructure,
    /// `allowedListeners.namespaces`: whose ListenerSets it takes.
    pub allowed_listeners: ListenerNamespaces,
    /// `defaultScope`.
    pub default_scope: Option<GatewayScope>,
    /// Label `istio.io/waypoint-for`.
    pub waypoint_for: Option<WaypointFor>,
    /// Annotation `ambient.istio.io/waypoint-inbound-binding`.
    pub inbound_binding: Option<InboundBinding>,
}

/// What a waypoint is for. Istio, label `istio.io/waypoint-for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaypointFor {
    /// `service`: what is addressed to services.
    Service,
    /// `workload`: what is addressed to pods.
    Workload,
    /// `all`: both.
    All,
    /// `none`: nothing.
    None,
}

/// How connections are handed to a waypoint that does not terminate HBONE itself. Istio, annotation
/// `ambient.istio.io/waypoint-inbound-binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundBinding {
    /// `NONE`: they are not, it terminates HBONE.
    None,
    /// `PROXY/15088`: behind a header of the PROXY protocol, version 2, at this port.
    Proxy(Port),
}

/// `Listener`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `name`.
    pub name: Arc<str>,
    /// `port`.
    pub port: Port,
    /// `protocol`, such as `HTTP`, or `HBONE` of a waypoint.
    pub protocol: Arc<str>,
    /// `hostname`.
    pub hostname: Option<Hostname>,
    /// `allowedRoutes.namespaces`.
    pub namespaces: RouteNamespaces,
    /// `allowedRoutes.kinds`: group and kind. Empty: those of the protocol.
    pub kinds: Vec<(Arc<str>, Arc<str>)>,
    /// `tls`.
    pub tls: Option<TlsMode>,
}

/// `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// `Terminate`.
    Terminate,
    /// `Passthrough`.
    Passthrough,
}

/// `allowedRoutes.namespaces`: routes of which namespaces may attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteNamespaces {
    /// `All`.
    All,
    /// `Same`: the Gateway's.
    Same,
    /// `Selector`: those with such labels.
    Selector(LabelSelector),
}

/// `allowedListeners.namespaces`: ListenerSets of which namespaces may attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerNamespaces {
    /// `All`.
    All,
    /// `Same`: the Gateway's.
    Same,
    /// `None`.
    None,
    /// `Selector`: those with such labels.
    Selector(LabelSelector),
}

/// A selector of labels, of which all must hold. meta/v1 `LabelSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub expressions: Vec<LabelExpression>,
}

/// meta/v1 `LabelSelectorRequirement`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelExpression {
    /// `key`.
    pub key: Arc<str>,
    /// `operator`, and `values` if it has any.
    pub operator: LabelOperator,
}

/// `operator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOperator {
    /// `In`: the label has one of these values.
    In(Vec<Arc<str>>),
    /// `NotIn`: it has none of these values, or is not there.
    NotIn(Vec<Arc<str>>),
    /// `Exists`: it is there.
    Exists,
    /// `DoesNotExist`: it is not.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether labels are as asked.
    pub fn matches(&self, labels: &Labels) -> bool {
        let holds = |asked: &LabelExpression| {
            let value = labels.get(&asked.key);
            match &asked.operator {
                LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value)) && self.expressions.iter().all(holds)
    }
}

/// `GatewaySpecAddress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayAddress {
    /// `type`.
    pub kind: Arc<str>,
    /// `value`; any when nothing is said.
    pub value: Option<Arc<str>>,
}

/// `GatewayInfrastructure`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// `labels`.
    pub labels: Labels,
    /// `annotations`.
    pub annotations: Labels,
    /// `parametersRef`.
    pub parameters: Option<ExtensionRef>,
}
