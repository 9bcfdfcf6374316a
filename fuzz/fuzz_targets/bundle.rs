//! A bundle of roots, as text and as DER in a PEM block, and the state of a rotation: read or refused, and a bundle that was read is written so
//! that it is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_authority::{Bundle, CaSecret, MAX_CERTIFICATES};

fuzz_target!(|bytes: &[u8]| {
    let block = pem::encode(&pem::Pem::new("CERTIFICATE", bytes));
    for text in [bytes, block.as_bytes()] {
        let Ok(bundle) = Bundle::parse("roots", text) else { continue };
        assert!((1..=MAX_CERTIFICATES).contains(&bundle.roots().len()));
        assert!(Bundle::parse("roots", bundle.pem().as_bytes()).is_ok_and(|again| again == bundle));
    }
    let files = [("weir-rotation", bytes), ("ca-cert.pem", block.as_bytes()), ("ca-key.pem", b"key")];
    let data = files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into();
    if let Ok(secret) = CaSecret::read(&data) {
        let data = secret.data().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        assert!(CaSecret::read(&data).is_ok_and(|again| again.data() == secret.data()));
    }
});
