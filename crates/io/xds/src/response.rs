//! Responses: what goes into one, and how it is sent.

use bytes::Bytes;

use crate::{kind::Kind, proto, table::Encoded};

/// What ends the `system_version_info` of a response that others of the same answer follow.
pub(crate) const MORE: char = '+';

/// A response, not sent yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) kind: Kind,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) resources: Vec<Bytes>,
    pub(crate) removed: Vec<String>,
    /// Their bytes, about.
    pub(crate) size: usize,
}

impl Response {
    /// As it is sent.
    pub(crate) fn into_wire(self) -> proto::DeltaDiscoveryResponse {
        proto::DeltaDiscoveryResponse {
            system_version_info: self.version,
            resources: self.resources,
            type_url: self.kind.type_url().to_owned(),
            nonce: self.nonce,
            removed_resources: self.removed,
            control_plane: Some(proto::ControlPlane { identifier: "weir-control".to_owned() }),
        }
    }
}

/// A response in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Bytes there is room for, about.
    pub(crate) most: usize,
    pub(crate) size: usize,
    pub(crate) resources: Vec<Bytes>,
    pub(crate) removed: Vec<String>,
}

impl Draft {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    /// Room for so many bytes, and for anything if there is nothing yet.
    fn room(&mut self, len: usize) -> bool {
        let fits = self.is_empty() || self.size + len <= self.most;
        if fits {
            self.size += len;
        }
        fits
    }

    /// Whether the resource found room.
    pub(crate) fn resource(&mut self, resource: &Encoded) -> bool {
        let fits = self.room(resource.bytes.len());
        if fits {
            self.resources.push(resource.bytes.clone());
        }
        fits
    }

    /// Whether the removal found room.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let fits = self.room(name.len());
        if fits {
            self.removed.push(name.to_owned());
        }
        fits
    }
}
