//! The head of a tunnel: any block is a request, a response, or an error; none brings the reader down.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::{
    head::{request, response},
    hpack::Decoder,
};

const LIMIT: usize = 16_384;

fuzz_target!(|block: &[u8]| {
    if let Ok(request) = request(&mut Decoder::default(), block, LIMIT) {
        let text = request.authority.to_string();
        assert_eq!(text.parse(), Ok(request.authority), "{text:?} is not read as it was written");
    }
    if let Ok(response) = response(&mut Decoder::default(), block, LIMIT) {
        assert!((100..1000).contains(&response.status), "status {}", response.status);
    }
});
