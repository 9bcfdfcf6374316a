//! Kubernetes as the source of the mesh's state, and what is written back to it.
//!
//! In: an API server. Out: objects as they change ([`Source`]), who holds a token ([`TokenReviewer`]), who leads ([`Election`]), and
//! small writes with deadlines, and what becomes of them ([`ConfigMaps`]); for people who look at it, objects as they are ([`Look`]). It never decides anything about the mesh.

mod conditions;
mod connect;
mod election;
mod error;
mod fetch;
mod follow;
mod gateway;
mod labelled;
mod look;
mod maps;
mod object;
mod review;
mod secret;
mod source;
mod webhook;
mod write;

pub use conditions::{Condition, conditions_set};
pub use connect::connect;
pub use election::{Election, ElectionOptions, Leadership};
pub use error::Error;
pub use gateway::{
    ListenerEntry, ParentConditions, RouteParents, gateway_class_accept, gateway_status_set, route_status_set,
};
pub use kube::Client;
pub use labelled::{Labelled, Touched};
pub use look::{Deed, Force, Listed, Look};
pub use maps::{ConfigMaps, MapChange};
pub use object::{
    AnyKind, AnyName, Applying, Deleted, Others, Run, object_apply, object_delete, object_get, objects_list,
};
pub use review::TokenReviewer;
pub use secret::{Versioned, secret_make, secret_read, secret_replace};
pub use source::{Event, Options, Source};
pub use webhook::webhook_trust;
pub use write::{Applied, FIELD_MANAGER, Made, config_map_apply, pod_annotate, secret_create_or_get, secret_get};
