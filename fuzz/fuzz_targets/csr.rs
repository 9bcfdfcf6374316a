//! A signing request: whatever DER stands in the PEM block, it is read or refused, and one that is signed is within the bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_authority::{MAX_REQUEST_BYTES, SigningRequest};

fuzz_target!(|der: &[u8]| {
    let asked = "spiffe://cluster.local/ns/shop/sa/till".parse().expect("an identity");
    let block = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    if SigningRequest::parse(block.as_bytes(), &asked).is_ok() {
        assert!(block.len() <= MAX_REQUEST_BYTES);
    }
    drop(SigningRequest::name(block.as_bytes()));
    // As it came, too: most often no PEM at all.
    drop(SigningRequest::parse(der, &asked));
});
