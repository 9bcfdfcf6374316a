//! One object of an API server's JSON to a tree, in one pass, without what nobody here reads.
//!
//! In: any serde deserializer, so that a list of objects never stands in memory as text and as trees at once. Out: a tree whose
//! lines are all 0. Bounds cut the tree and are told; they fail neither the list the object stands in nor its other objects.
//! Of two fields of one name the first counts; an API server sends no two.

use std::{fmt, sync::Arc};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MAX_NODES, Node, Value, extent};
use crate::error::Cause;

/// Nesting of one object. Below the 128 levels `serde_json` reads, so that lists and events may stand around it.
const MAX_DEPTH: u16 = 120;

/// What was kept of one object.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Node,
    /// The bound that cut the tree, if one did.
    pub(crate) cut: Option<Cause>,
    /// Fields of `spec` that were there and not kept.
    pub(crate) left_out: Vec<String>,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bounds = Bounds { nodes: 0, cut: None, left_out: Vec::new() };
        let root = Growing { bounds: &mut bounds, place: Place::Object, depth: 1 }.deserialize(deserializer)?;
        Ok(Self { root, cut: bounds.cut, left_out: bounds.left_out })
    }
}

struct Bounds {
    nodes: u64,
    cut: Option<Cause>,
    left_out: Vec<String>,
}

/// Where in an object a value stands, as far as that decides what of it is kept. Items of a list stand where the list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Object,
    Metadata,
    Annotations,
    Spec,
    Container,
    Status,
    Deeper,
}

impl Place {
    /// The place of a field's value; none for one that is big and never read.
    fn of_field(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Object, "metadata") => Some(Self::Metadata),
            (Self::Object, "spec") => Some(Self::Spec),
            (Self::Object, "status") => Some(Self::Status),
            (Self::Metadata, "annotations") => Some(Self::Annotations),
            (Self::Spec, "containers" | "initContainers") => Some(Self::Container),
            (Self::Metadata, "managedFields")
            | (Self::Annotations, "kubectl.kubernetes.io/last-applied-configuration")
            | (
                Self::Spec,
                "affinity"
                | "ephemeralContainers"
                | "hostAliases"
                | "tolerations"
                | "topologySpreadConstraints"
                | "volumes",
            )
            | (
                Self::Container,
                "args" | "command" | "env" | "envFrom" | "lifecycle" | "livenessProbe" | "readinessProbe" | "resources"
                | "securityContext" | "startupProbe" | "volumeDevices" | "volumeMounts",
            )
            | (
                Self::Status,
                "allocatable"
                | "capacity"
                | "containerStatuses"
                | "ephemeralContainerStatuses"
                | "images"
                | "initContainerStatuses"
                | "nodeInfo"
                | "resourceClaimStatuses"
                | "volumesAttached"
                | "volumesInUse",
            ) => None,
            (
                Self::Object
                | Self::Metadata
                | Self::Annotations
                | Self::Spec
                | Self::Container
                | Self::Status
                | Self::Deeper,
                _,
            ) => Some(Self::Deeper),
        }
    }
}

/// One value on its way to a node.
struct Growing<'b> {
    bounds: &'b mut Bounds,
    place: Place,
    depth: u16,
}

impl Growing<'_> {
    /// The value one level deeper.
    fn deeper(&mut self, place: Place) -> Growing<'_> {
        Growing { bounds: self.bounds, place, depth: self.depth.saturating_add(1) }
    }

    fn scalar<E>(self, value: Value) -> Result<Node, E> {
        Ok(Node::scalar(0, value))
    }
}

impl<'de> DeserializeSeed<'de> for Growing<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.bounds.nodes += 1;
        if self.bounds.nodes > MAX_NODES {
            self.bounds.cut.get_or_insert(Cause::TooManyNodes { max: MAX_NODES });
        } else if self.depth > MAX_DEPTH {
            self.bounds.cut.get_or_insert(Cause::TooDeep { max: MAX_DEPTH.into() });
        } else {
            return deserializer.deserialize_any(self);
        }
        IgnoredAny::deserialize(deserializer)?;
        Ok(Node::scalar(0, Value::Null))
    }
}

impl<'de> Visitor<'de> for Growing<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(i64::try_from(value).map_or_else(|_| Value::Number(value.to_string()), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.scalar(Value::Number(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.scalar(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.deeper(self.place))? {
            items.push(Arc::new(item));
        }
        let (size, depth) = extent(items.iter());
        Ok(Node { line: 0, value: Value::List(items), size, depth })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(kept) = map.next_key_seed(Field(self.place))? {
            match kept {
                (key, Some(place)) => fields.push((key, Arc::new(map.next_value_seed(self.deeper(place))?))),
                (key, None) => {
                    map.next_value::<IgnoredAny>()?;
                    if self.place == Place::Spec && !self.bounds.left_out.contains(&key) {
                        self.bounds.left_out.push(key);
                    }
                }
            }
        }
        let (size, depth) = extent(fields.iter().map(|(_, node)| node));
        Ok(Node { line: 0, value: Value::Map(fields), size, depth })
    }
}

/// The name of a field at a place, and the place of its value, unless that is not kept.
struct Field(Place);

impl<'de> DeserializeSeed<'de> for Field {
    type Value = (String, Option<Place>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Field {
    type Value = (String, Option<Place>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok((key.to_owned(), self.0.of_field(key)))
    }
}
