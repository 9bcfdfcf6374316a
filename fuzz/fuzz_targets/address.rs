//! An `Address` of a control plane: whatever the bytes, they are read or refused, and what is read is sent as what is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_xds::{Address, ConvertError};

fuzz_target!(|bytes: &[u8]| {
    let name = "Kubernetes//v1/Pod/default/web";
    let read = match Address::decode(name, bytes) {
        // It calls itself something else: by that name it may be one.
        Err(ConvertError::Field { why, .. }) => match why.split('"').nth(1) {
            Some(own) => Address::decode(own, bytes),
            None => return,
        },
        read => read,
    };
    let Ok(read) = read else { return };
    let again = Address::decode(&read.name(), &read.encode());
    assert_eq!(again.as_ref(), Ok(&read));
});
