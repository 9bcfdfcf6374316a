//! The name that a client of TLS asks for: any bytes have one, or none, or are not enough; what was told once stays true whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::client_hello::{Asked, asked};

fuzz_target!(|bytes: &[u8]| {
    let whole = asked(bytes);
    match &whole {
        Some(Asked::Host(host)) => assert!(!host.is_empty() && host.len() <= 253 && host.is_ascii()),
        Some(Asked::Nothing) => {}
        None => assert!(bytes.len() < 20 << 10),
    }
    if let Some(told) = asked(&bytes[..bytes.len() / 2]) {
        assert_eq!(whole, Some(told));
    }
});
