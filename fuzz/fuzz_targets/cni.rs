//! CNI configurations: any bytes are a configuration or refused with a code of the specification; the same bytes mean the same twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_cni::Config;

fuzz_target!(|text: &[u8]| {
    let read =
        || Config::parse(text).map(|config| format!("{config:?}")).map_err(|error| (error.code(), error.to_string()));
    let first = read();
    assert_eq!(first, read());
    if let Err((code, reason)) = first {
        assert!([1, 6, 7].contains(&code), "{code}: {reason}");
    }
});
