//! Identities, networks of addresses and names out of foreign text: what is read prints as what is read again.
#![no_main]

use std::{fmt::Display, str::FromStr};

use libfuzzer_sys::fuzz_target;
use weir_model::{Hostname, SpiffeId, TrustDomain};

fn law<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(read) = text.parse::<T>() else { return };
    let again = read.to_string().parse::<T>();
    assert!(again.is_ok_and(|again| again == read), "{text:?} is read as {read}, and that is not");
}

fuzz_target!(|text: &str| {
    law::<SpiffeId>(text);
    law::<TrustDomain>(text);
    law::<Hostname>(text);
    if let Ok(identity) = text.parse::<SpiffeId>() {
        assert!(text.starts_with("spiffe://"), "{text:?}");
        assert_eq!(text.matches('/').count(), 6, "{text:?} became {identity}");
    }
});
