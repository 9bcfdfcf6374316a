//! Manifests: any text is accepted whole or refused with reasons that name a place in it; the same text means the same twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_manifest::{FileName, parse};

fuzz_target!(|text: &str| {
    let file = FileName::new("fuzz.yaml");
    let read = || parse(&[(file.clone(), text)]);
    match read() {
        Ok(objects) => assert_eq!(format!("{objects:?}"), format!("{:?}", read().expect("it was accepted before"))),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            for error in errors {
                assert!(error.to_string().contains("fuzz.yaml"), "{error} does not say where");
            }
        }
    }
});
