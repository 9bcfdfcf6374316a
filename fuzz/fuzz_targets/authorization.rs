//! An `Authorization` of a control plane: whatever the bytes, they are read or refused, what cannot be read denies, and what is read is sent as
//! what is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_xds::Authorization;

fuzz_target!(|bytes: &[u8]| {
    let name = "default/web";
    let Ok(read) = Authorization::decode(name, bytes.to_vec()) else { return };
    assert!(read.unread.is_none() || read.policy.rejected.is_some());
    let again = Authorization::decode(name, Authorization::encode(&read.policy));
    assert_eq!(again, Ok(Authorization { policy: read.policy, unread: None }));
});
