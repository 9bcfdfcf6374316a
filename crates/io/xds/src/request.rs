//! What a subscriber says, read and bounded.

use std::collections::BTreeMap;

use crate::{
    kind::{Kind, Version},
    proto,
    table::Asked,
};

/// Names one request may subscribe to and unsubscribe from.
pub const MAX_NAMES_PER_REQUEST: usize = 10_000;
/// Names a subscriber may have subscribed to, for each kind.
pub const MAX_NAMES: usize = 100_000;
/// Resources a subscriber may say it has.
pub const MAX_VERSIONS: usize = 200_000;
/// Length of a name, in bytes: that of a workload uid, the longest of the three forms.
pub const MAX_NAME_BYTES: usize = 1024;
/// Length of what a node says of itself, each in bytes.
const MAX_NODE_BYTES: usize = 1024;
/// Metadata of a node that is kept.
const MAX_METADATA: usize = 64;
/// Why a response was not taken, in bytes. The rest is cut off.
const MAX_REASON_BYTES: usize = 1024;
/// The name that means all.
pub(crate) const ALL: &str = "*";

/// Who a subscriber says it is. Nothing of it is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `Node.id`.
    pub id: String,
    /// `Node.cluster`.
    pub cluster: String,
    /// The texts among `Node.metadata`, for example `NODE_NAME`.
    pub metadata: BTreeMap<String, String>,
}

impl Node {
    /// As it is sent.
    pub(crate) fn to_wire(&self) -> proto::Node {
        let text =
            |text: &String| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.clone())) };
        let fields = self.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        let metadata = Some(prost_types::Struct { fields });
        proto::Node { id: self.id.clone(), cluster: self.cluster.clone(), metadata }
    }

    fn from_wire(wire: proto::Node) -> Result<Self, RequestError> {
        let bounded = |text: &str| text.len() <= MAX_NODE_BYTES;
        if !bounded(&wire.id) || !bounded(&wire.cluster) {
            return Err(RequestError::Node { len: wire.id.len().max(wire.cluster.len()) });
        }
        let text = |(key, value): (String, prost_types::Value)| match value.kind {
            Some(prost_types::value::Kind::StringValue(text)) if bounded(&text) && bounded(&key) => Some((key, text)),
            Some(_) | None => None,
        };
        let fields = wire.metadata.unwrap_or_default().fields;
        let metadata = fields.into_iter().filter_map(text).take(MAX_METADATA).collect();
        Ok(Self { id: wire.id, cluster: wire.cluster, metadata })
    }
}

/// Why a request ends its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no request.
    #[error("no DeltaDiscoveryRequest: {0}")]
    Malformed(String),
    /// Nothing of that type is served.
    #[error("{0:?} is not served here: expected one of {served}", served = served())]
    Type(String),
    /// What it says of itself is too long.
    #[error("the node says {len} bytes of itself, at most {MAX_NODE_BYTES} are read")]
    Node {
        /// Its length.
        len: usize,
    },
    /// A name too long for any resource, or none.
    #[error("a name of {len} bytes, expected 1 to {MAX_NAME_BYTES}")]
    Name {
        /// Its length.
        len: usize,
    },
    /// Too many names at once.
    #[error("{count} names in one request, at most {MAX_NAMES_PER_REQUEST} are taken")]
    Names {
        /// How many there were.
        count: usize,
    },
    /// Too many names in all.
    #[error("more than {MAX_NAMES} names of the type {0} are subscribed to")]
    TotalNames(Kind),
    /// Too many resources it says it has.
    #[error("{count} initial_resource_versions, at most {MAX_VERSIONS} are taken")]
    Versions {
        /// How many there were.
        count: usize,
    },
}

impl RequestError {
    /// Whether it asks for too much, and not for something wrong.
    pub fn is_too_much(&self) -> bool {
        match self {
            Self::Names { .. } | Self::TotalNames(_) | Self::Versions { .. } => true,
            Self::Malformed(_) | Self::Type(_) | Self::Node { .. } | Self::Name { .. } => false,
        }
    }
}

/// A request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) node: Option<Node>,
    pub(crate) subscribe: Vec<Asked>,
    pub(crate) unsubscribe: Vec<Asked>,
    /// What it has, each with its version if it is one of ours.
    pub(crate) versions: Vec<(String, Option<Version>)>,
    /// The sum of all it has, as text.
    pub(crate) sum: Option<String>,
    pub(crate) answer: Option<Answer>,
}

/// What became of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) nonce: String,
    /// Why it was not taken.
    pub(crate) error: Option<String>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is beyond a bound, or asks for something else.
    pub(crate) fn read(wire: proto::DeltaDiscoveryRequest) -> Result<Self, RequestError> {
        let kind =
            Kind::of(&wire.type_url).ok_or_else(|| RequestError::Type(cut(wire.type_url.clone(), MAX_REASON_BYTES)))?;
        let count = wire.resource_names_subscribe.len() + wire.resource_names_unsubscribe.len();
        if count > MAX_NAMES_PER_REQUEST {
            return Err(RequestError::Names { count });
        }
        let count = wire.initial_resource_versions.len();
        if count > MAX_VERSIONS {
            return Err(RequestError::Versions { count });
        }
        let mut versions = Vec::with_capacity(count);
        let mut sum = None;
        for entry in wire.initial_resource_versions {
            let name = bounded(entry.name)?;
            if name == ALL {
                sum = Some(entry.version);
            } else {
                versions.push((name, entry.version.parse().ok()));
            }
        }
        let error = wire.error_detail.map(|status| cut(status.message, MAX_REASON_BYTES));
        Ok(Self {
            kind,
            node: wire.node.map(Node::from_wire).transpose()?,
            subscribe: asked(wire.resource_names_subscribe)?,
            unsubscribe: asked(wire.resource_names_unsubscribe)?,
            versions,
            sum,
            answer: (!wire.response_nonce.is_empty()).then_some(Answer { nonce: wire.response_nonce, error }),
        })
    }
}

/// The types that are served, for people.
fn served() -> String {
    Kind::ALL.map(Kind::type_url).join(", ")
}

fn asked(names: Vec<String>) -> Result<Vec<Asked>, RequestError> {
    names.into_iter().map(|name| bounded(name).map(|name| Asked::new(&name))).collect()
}

fn bounded(name: String) -> Result<String, RequestError> {
    let len = name.len();
    if (1..=MAX_NAME_BYTES).contains(&len) { Ok(name) } else { Err(RequestError::Name { len }) }
}

/// The beginning of a text, of so many bytes at most.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}
