//! ZDS: any bytes are a request that names its pod, or refused with a reason that fits an acknowledgement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::zds::{MESSAGE_BOUND, Request, ack};

fuzz_target!(|message: &[u8]| {
    match Request::parse(message) {
        Ok(Request::Add(pod)) => {
            assert!(!pod.uid.is_empty() && !pod.name.is_empty() && !pod.namespace.is_empty(), "{pod:?}");
            assert!(pod.uid.len() + pod.name.len() + pod.namespace.len() <= MESSAGE_BOUND, "{pod:?}");
        }
        Ok(Request::Keep { uid } | Request::Del { uid }) => assert!(!uid.is_empty()),
        Ok(Request::SnapshotSent) => {}
        Err(error) => assert!(ack(Some(&error.to_string())).len() <= 1_024, "{error}"),
    }
    if let Ok(text) = std::str::from_utf8(message) {
        assert!(ack(Some(text)).len() <= 1_024);
    }
});
