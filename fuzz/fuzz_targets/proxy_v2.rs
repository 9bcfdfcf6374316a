//! The PROXY protocol: any bytes are a header, the beginning of one, or refused; and what is read is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::proxy_v2::{HEADER_BOUND, Preface, parse};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(Some((preface, len))) => {
            assert!(len <= bytes.len() && len <= HEADER_BOUND);
            if let Preface::Handed(header) = preface {
                let again = header.encode();
                let len = again.len();
                assert_eq!(parse(&again), Ok(Some((Preface::Handed(header), len))));
            }
        }
        Ok(None) => assert!(bytes.len() < HEADER_BOUND),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
