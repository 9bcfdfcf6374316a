//! Kubernetes, Istio and Gateway API YAML, parsed whole or refused with every error at once.
//!
//! In: the texts of files, or single objects as an API server sends them. Out: the objects the mesh reads, a note of those that
//! have no effect, or all errors with file, line, object and field; and a policy as text again. It never does I/O, and never
//! drops a part of a policy: that is read whole, or it says why not.

mod error;
mod kind;
mod known;
mod object;
mod parse;
mod print;
mod read;
mod reader;
mod sent;
mod tree;

pub use error::{Cause, FileName, Found, ManifestError, ObjectRef, Origin};
pub use object::{
    AccessLoggingEntry, AuthorizationAction, AuthorizationRule, AuthorizationSpec, Backing, Condition, ConfigKind,
    ConfigObject, ConfigSpec, ContainerPort, CustomTag, DataplaneMode, DestinationRuleSpec, EndpointSliceObject,
    GatewayRouteSpec, GatewaySpec, Ignored, Labels, MetricSelector, MetricsEntry, MetricsOverride, MtlsMode,
    NamespaceObject, NodeObject, Object, ObjectKey, Objects, Operation, Owner, PathMatch, PeerAuthenticationSpec,
    Phase, PodObject, PolicyObject, PolicySpec, PolicyTarget, ReferenceGrantSpec, ServiceEntrySpec, ServiceObject,
    ServicePortObject, Sidecar, SliceEndpoint, SlicePort, Source, TagOverride, TargetPort, TargetRef, TelemetrySpec,
    TracingEntry, VirtualServiceSpec, WaypointLabels, WaypointUse, WhyIgnored, WorkloadMode,
};
pub use parse::{MAX_DOCUMENTS, MAX_FILE_BYTES, parse};
pub use sent::{Kind, Sent};
