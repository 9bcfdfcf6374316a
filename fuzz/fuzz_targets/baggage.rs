//! What peers say of themselves: any bytes give a value, no larger than they are; a trace prints as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::{baggage::Baggage, trace::Traceparent};

fuzz_target!(|header: &[u8]| {
    let read = Baggage::parse(header);
    let fields = [read.cluster, read.namespace, read.workload, read.service, read.version, read.region, read.zone];
    // A byte that is not UTF-8 may become a replacement character of three.
    let size: usize = fields.iter().flatten().map(String::len).sum();
    assert!(size <= header.len() * 3, "{size} bytes out of {}", header.len());
    if let Some(trace) = Traceparent::parse(header) {
        assert_eq!(Traceparent::parse(trace.to_string().as_bytes()), Some(trace));
    }
});
