//! The model to messages and back.
//!
//! A field that breaks its own rules (an address of five bytes, port 0, a name no name can be) makes the whole resource an
//! error. What is well formed and beyond this version makes it `unsupported`, with the fields named: then its addresses are
//! known, and connections to them are refused instead of passed by. That is so for a waypoint by anything but a host name or an address, several
//! waypoints by weight, a network gateway, an application tunnel other than `PROXY` to a port, the legacy tunnel, a workload known by host name, load balancing that is `STRICT` or `PASSTHROUGH`,
//! visibility within a namespace, any extension that is not ours, and any value of an enumeration that is not known and decides something.
//!
//! Not read, since they only order endpoints, label or inform: `routing_preference`, `capacity`, `canonical`, `subject_alt_names`,
//! `ip_families`, `ingress_use_waypoint`, and unknown values of `workload_type` and `app_protocol`.
//!
//! Our own extensions: `weir.dev/incarnation`, the pod's uid, and `weir.dev/unsupported`, the reason the model has; and `weir.dev/seen-in`, a namespace that a service is seen in; all
//! hold a `google.protobuf.StringValue`. Whatever has such a reason is sent with a waypoint that does not exist and read without one, so that an agent which
//! does not know the extension refuses it too, by its address and by its services'.

mod policy;
mod service;
#[cfg(test)]
mod tests;
mod waypoint;
mod workload;

use std::{fmt::Display, net::IpAddr, sync::Arc};

use prost::Message;
use weir_model::{Port, Service, Workload, canonical_ip};

use crate::{proto, request::cut, texts::Texts};

pub use policy::{Authorization, MAX_POLICY_BYTES};
pub(crate) use service::{alias, service_to};
pub(crate) use workload::workload_to;

/// Most a workload or service may have, in bytes.
pub const MAX_RESOURCE_BYTES: usize = 1 << 20;

/// The extension that carries which pod of a name it is.
const INCARNATION: &str = "weir.dev/incarnation";
/// The extension that carries why something is not reached.
const UNSUPPORTED: &str = "weir.dev/unsupported";
/// The extensions that carry, one each, the namespaces that a service is seen in.
const SEEN: &str = "weir.dev/seen-in";
/// The type of all.
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";
/// Most a text may have that is a label and nothing else, in bytes.
const MAX_LABEL: usize = 1024;

/// What an `Address` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A workload.
    Workload(Box<Workload>),
    /// A service.
    Service(Box<Service>),
}

/// Why a resource is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The bytes are no message of its type.
    #[error("{name:?} is no {what}: {why}")]
    Malformed {
        /// The resource's name as it was sent.
        name: String,
        /// The message expected.
        what: &'static str,
        /// Where decoding ended.
        why: String,
    },
    /// More bytes than any resource has.
    #[error("{name:?} has {len} bytes, at most {most} are read")]
    TooLong {
        /// The resource's name as it was sent.
        name: String,
        /// Its length.
        len: usize,
        /// The most it may have.
        most: usize,
    },
    /// A field breaks its own rules.
    #[error("{name:?}: {field}: {why}")]
    Field {
        /// The resource's name as it was sent.
        name: String,
        /// The field, as the wire calls it.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Address {
    /// Reads the `istio.workload.Address` of a resource called `name`.
    ///
    /// # Errors
    /// When it is not one, or one of its fields breaks its rules.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, ConvertError> {
        Self::decode_sharing(name, bytes, &mut Texts::default())
    }

    /// The same, with the texts that others have too.
    pub(crate) fn decode_sharing(name: &str, bytes: &[u8], texts: &mut Texts) -> Result<Self, ConvertError> {
        let message: proto::Address = read(name, "istio.workload.Address", bytes)?;
        let resource = Named(name);
        match message.r#type {
            Some(proto::AddressType::Workload(wire)) => {
                let workload = workload::workload_from(resource, texts, *wire)?;
                resource.is(workload.uid.as_str(), "uid")?;
                Ok(Self::Workload(Box::new(workload)))
            }
            Some(proto::AddressType::Service(wire)) => {
                let service = service::service_from(resource, texts, *wire)?;
                resource.is(&service.name.to_string(), "hostname")?;
                Ok(Self::Service(Box::new(service)))
            }
            None => Err(resource.bad("type")("neither a workload nor a service")),
        }
    }

    /// The bytes [`Address::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let inner = match self {
            Self::Workload(workload) => proto::AddressType::Workload(Box::new(workload_to(workload))),
            Self::Service(service) => proto::AddressType::Service(Box::new(service_to(service))),
        };
        proto::Address { r#type: Some(inner) }.encode_to_vec()
    }

    /// How its resource is called.
    pub fn name(&self) -> String {
        match self {
            Self::Workload(workload) => workload.uid.to_string(),
            Self::Service(service) => service.name.to_string(),
        }
    }
}

/// The message in the bytes of a resource.
fn read<M: Message + Default>(name: &str, what: &'static str, bytes: &[u8]) -> Result<M, ConvertError> {
    if bytes.len() > MAX_RESOURCE_BYTES {
        return Err(ConvertError::TooLong { name: name.to_owned(), len: bytes.len(), most: MAX_RESOURCE_BYTES });
    }
    M::decode(bytes).map_err(|error| ConvertError::Malformed { name: name.to_owned(), what, why: error.to_string() })
}

/// The resource that is read, for what is said of it.
#[derive(Clone, Copy)]
struct Named<'a>(&'a str);

impl Named<'_> {
    /// An error of one field.
    fn bad<E: Display>(self, field: &'static str) -> impl Fn(E) -> ConvertError {
        move |why| ConvertError::Field { name: self.0.to_owned(), field, why: why.to_string() }
    }

    /// What the resource says of itself is what it is called.
    fn is(self, own: &str, field: &'static str) -> Result<(), ConvertError> {
        if own == self.0 { Ok(()) } else { Err(self.bad(field)(format!("it is {own:?} by its own words"))) }
    }

    /// A text that is a label, unlike any other.
    fn label(self, field: &'static str, text: &str) -> Result<Arc<str>, ConvertError> {
        self.short(field, text).map(Arc::from)
    }

    /// A text that is a label, and likely one that others have.
    fn shared(self, texts: &mut Texts, field: &'static str, text: &str) -> Result<Arc<str>, ConvertError> {
        self.short(field, text).map(|text| texts.text(text))
    }

    fn short<'t>(self, field: &'static str, text: &'t str) -> Result<&'t str, ConvertError> {
        let len = text.len();
        let bad = || self.bad(field)(format!("{len} bytes, at most {MAX_LABEL} are allowed"));
        (len <= MAX_LABEL).then_some(text).ok_or_else(bad)
    }

    /// Four or sixteen bytes.
    fn address(self, field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
        let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let ip = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
        let len = bytes.len();
        ip.map_err(|_| self.bad(field)(format!("an address of {len} bytes, expected 4 or 16")))
    }

    /// A port that can be connected to.
    fn port(self, field: &'static str, port: u32) -> Result<Port, ConvertError> {
        Port::try_from(i64::from(port)).map_err(self.bad(field))
    }
}

/// All of them, in no more room than they need: they are kept.
fn all<T, E>(read: impl ExactSizeIterator<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let mut all = Vec::with_capacity(read.len());
    for one in read {
        all.push(one?);
    }
    Ok(all)
}

/// The bytes of an address: four for IPv4.
fn octets(ip: IpAddr) -> Vec<u8> {
    match canonical_ip(ip) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// What this version cannot do of a resource, collected.
#[derive(Default)]
struct Beyond(Vec<String>);

impl Beyond {
    /// Notes the field if it asks for something.
    fn note(&mut self, asks: bool, field: impl Into<String>) {
        if asks {
            self.0.push(field.into());
        }
    }

    /// A value of an enumeration, or its first when it is not known and therefore noted.
    fn known<E: TryFrom<i32> + Default>(&mut self, value: i32, field: &str) -> E {
        E::try_from(value).unwrap_or_else(|_| {
            self.note(true, format!("{field} {value}"));
            E::default()
        })
    }

    /// The reason in words: what the sender already said, then what we found.
    fn reason(self, said: Option<Arc<str>>) -> Option<Arc<str>> {
        if self.0.is_empty() {
            return said;
        }
        let found = format!("this version does not know {}", self.0.join(", "));
        let reason = said.map_or(found.clone(), |said| format!("{said}; {found}"));
        Some(cut(reason, MAX_LABEL).into())
    }
}

/// What our own extensions say.
#[derive(Default)]
struct Ours {
    incarnation: Option<Arc<str>>,
    unsupported: Option<Arc<str>>,
    seen: Vec<Arc<str>>,
}

/// Reads our extensions and notes all others.
fn extensions(
    resource: Named<'_>,
    extensions: Vec<proto::Extension>,
    beyond: &mut Beyond,
) -> Result<Ours, ConvertError> {
    let mut ours = Ours::default();
    for extension in extensions {
        let name = extension.name.as_str();
        if ![INCARNATION, UNSUPPORTED, SEEN].contains(&name) {
            beyond.note(true, format!("the extension {name:?}"));
            continue;
        }
        let bad = resource.bad("extensions");
        let config = extension.config.filter(|config| config.type_url == STRING_VALUE);
        let config = config.ok_or_else(|| bad(format!("{:?} holds no StringValue", extension.name)))?;
        let text = String::decode(config.value.as_slice()).map_err(|error| bad(error.to_string()))?;
        let text = resource.label("extensions", &text)?;
        match name {
            INCARNATION => ours.incarnation = Some(text),
            UNSUPPORTED => ours.unsupported = Some(text),
            _ => ours.seen.push(text),
        }
    }
    Ok(ours)
}

/// One of our extensions.
fn extension(name: &str, text: &str) -> proto::Extension {
    // What is longer than its reader takes is cut: a reason stays one, and no pod's uid is as long.
    let value = cut(text.to_owned(), MAX_LABEL).encode_to_vec();
    let config = prost_types::Any { type_url: STRING_VALUE.to_owned(), value };
    proto::Extension { name: name.to_owned(), config: Some(config) }
}
