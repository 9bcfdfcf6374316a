//! The authority of a CONNECT: what is read prints as what is read again, and never has port 0.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::head::Authority;

fuzz_target!(|text: &str| {
    let Ok(authority) = text.parse::<Authority>() else { return };
    if let Authority::Address(address) = &authority {
        assert_ne!(address.port(), 0, "{text:?} has port 0");
        assert_eq!(address.ip(), address.ip().to_canonical(), "{text:?} is not canonical");
    }
    assert_eq!(authority.to_string().parse(), Ok(authority), "{text:?}");
});
