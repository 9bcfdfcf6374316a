//! Kubernetes objects to the mesh model.
//!
//! In: parsed objects, all at once or as they come and go, and what none of them says (`Settings`). Out: a `Mesh` of
//! workloads, services, policies and local pods, or the `Delta` to it, what became of each policy (`PolicyStatus`), and of each label that names a waypoint (`BindingStatus`). It never fails: what could be wrong was refused by
//! the parser. It never does I/O.

mod compile;
mod compiler;
mod concerns;
mod gateway;
mod labels;
mod policy;
mod routes;
mod service;
mod service_entry;
mod settings;
mod telemetry;
mod trimmed;
mod workload;

pub use compile::{compile, compile_with_status};
pub use compiler::Compiler;
pub use concerns::{concerns, refers};
pub use gateway::{BindingOutcome, BindingStatus};
pub use policy::attached::{Served, TokenPolicy, WaypointName, is_of_waypoints};
pub use policy::status::{ConditionKind, ConditionReason, Enforcer, Placement, PolicyCondition, PolicyStatus};
pub use routes::{
    Compiled, Configs, Finding, FindingReason, GatewayCondition, GatewayConditionKind, GatewayReason, GatewayStatus,
    Ground, HostRoutes, ListenerStatus, ParentStatus, RouteCondition, RouteConditionKind, RouteReason, RouteStatus,
    Routes, routes,
};
pub use settings::{ClusterDomain, Settings, default_root_namespace};
pub use telemetry::{Telemetries, WaypointRef};
pub use weir_model::TelemetrySettings;
pub use weir_world::{Delta, Mesh};
