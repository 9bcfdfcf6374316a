//! A stream without a stream: requests in, the responses they would get out. For fuzzing, and for requests that were recorded.

use bytes::Bytes;
use prost::Message;
use weir_model::NodeName;

use crate::{
    kind::Kind,
    proto::DeltaDiscoveryRequest,
    request::{Request, RequestError},
    store::Store,
    subscription::Subscription,
};

/// The responses, encoded, that a subscriber on that node would get for these encoded requests, each cut at about `most` bytes.
///
/// # Errors
/// With what its stream would end with.
pub fn rehearse(
    store: &Store,
    node: Option<&NodeName>,
    requests: &[&[u8]],
    most: usize,
) -> Result<Vec<Bytes>, RequestError> {
    let mut subscriptions = Kind::ALL.map(|kind| Subscription::new(kind, node.cloned()));
    let mut responses = Vec::new();
    for bytes in requests {
        let wire = DeltaDiscoveryRequest::decode(*bytes).map_err(|error| RequestError::Malformed(error.to_string()))?;
        let request = Request::read(wire)?;
        let subscription = &mut subscriptions[request.kind.index()];
        let timed = store.read(request.kind);
        subscription.request(&timed.table, request)?;
        // One: the next waits for its answer. While the table is read it forgets nothing.
        if let Ok(Some(response)) = subscription.next(&timed.table, most) {
            responses.push(response.into_wire().encode_to_vec().into());
        }
    }
    Ok(responses)
}
