//! Delta discovery as a subscriber needs it that only takes notes: what is not looked at is not read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// `istio.workload.Address`.
pub(crate) const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// `istio.security.Authorization`.
pub(crate) const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
/// The call. Envoy `discovery.v3`.
pub(crate) const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(message, optional, tag = "1")]
    pub(crate) node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(crate) type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) subscribe: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) versions: Vec<Version>,
    #[prost(string, tag = "6")]
    pub(crate) nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// An entry of `initial_resource_versions`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Version {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
}

impl Response {
    /// Whether no other response belongs to the same answer: of several, all but the last say `+`.
    pub(crate) fn is_last(&self) -> bool {
        !self.version.ends_with('+')
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The first whole message of the bytes, taken out of them.
pub(crate) fn unframe(bytes: &mut BytesMut) -> Option<Bytes> {
    let head: [u8; 4] = bytes.get(1..5)?.try_into().ok()?;
    let len = usize::try_from(u32::from_be_bytes(head)).ok()?;
    if bytes.len() - 5 < len {
        return None;
    }
    bytes.advance(5);
    Some(bytes.split_to(len).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_out_when_it_is_whole() {
        let message = Response { nonce: "7".to_owned(), ..Response::default() };
        let framed = frame(&message);
        let mut bytes = BytesMut::new();
        for byte in &framed[..framed.len() - 1] {
            bytes.put_u8(*byte);
            assert_eq!(unframe(&mut bytes), None);
        }
        bytes.extend_from_slice(&framed[framed.len() - 1..]);
        bytes.extend_from_slice(&framed);
        for left in [framed.len(), 0] {
            let taken = unframe(&mut bytes).unwrap();
            assert_eq!((Response::decode(taken).unwrap(), bytes.len()), (message.clone(), left));
        }
    }
}
