//! HPACK: a block that is read stays within its limit, and what was read is read again when written plainly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::hpack::{Decoder, write_literal};

const LIMIT: usize = 4_096;

/// Names and values, in order.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    decoder.decode(block, LIMIT, |name, value| fields.push((name.to_vec(), value.to_vec()))).ok()?;
    Some(fields)
}

fuzz_target!(|blocks: Vec<&[u8]>| {
    let mut decoder = Decoder::default();
    for block in blocks {
        let Some(fields) = read(&mut decoder, block) else { return };
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(size <= LIMIT, "a list of {size} bytes passed");
        let mut plain = Vec::new();
        for (name, value) in &fields {
            write_literal(&mut plain, name, value);
        }
        assert_eq!(read(&mut Decoder::default(), &plain), Some(fields));
    }
});
