//! The decoder against RFC 7541 Appendix C, against another implementation, and against noise.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn list(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<Vec<(String, String)>, HpackError> {
    let mut fields = Vec::new();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    decoder.decode(block, limit, |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

#[test]
fn the_request_examples_decode_with_one_table() {
    let mut decoder = Decoder::default();
    for (hex, want) in [
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")][..],
        ),
        (
            "8286 84be 5886 a8eb 1064 9cbf",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
                ("cache-control", "no-cache"),
            ][..],
        ),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ][..],
        ),
    ] {
        let want: Vec<_> = want.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(list(&mut decoder, &bytes(hex), 4096), Ok(want));
    }
}

#[test]
fn illegal_blocks_are_refused_by_what_is_wrong() {
    for (hex, want) in [
        ("80", HpackError::Index(0)),
        ("be", HpackError::Index(62)),
        ("ff ff ff ff ff 7f", HpackError::Integer),
        ("41", HpackError::Truncated),
        ("00 05 61", HpackError::Truncated),
        ("3f e2 1f", HpackError::Resize), // 4097: one beyond what was allowed
        ("82 20", HpackError::Resize),    // behind a field
    ] {
        assert_eq!(list(&mut Decoder::default(), &bytes(hex), 4096), Err(want), "{hex}");
    }
}

#[test]
fn a_list_larger_than_the_limit_is_refused() {
    let mut block = Vec::new();
    write_literal(&mut block, b"baggage", &[b'x'; 100]);
    assert!(list(&mut Decoder::default(), &block, 139).is_ok());
    assert_eq!(list(&mut Decoder::default(), &block, 138), Err(HpackError::TooLarge { limit: 138 }));
}

#[test]
fn one_small_block_cannot_name_a_large_entry_for_ever() {
    let mut block = Vec::new();
    block.push(0x40);
    write_string(&mut block, b"x");
    write_string(&mut block, &[b'y'; 1000]);
    block.extend([0xbe; 100]);
    assert_eq!(list(&mut Decoder::default(), &block, 16_384), Err(HpackError::TooLarge { limit: 16_384 }));
}

proptest! {
    #[test]
    fn what_we_write_another_decoder_reads(fields in proptest::collection::vec(("[a-z-]{1,40}", "[ -~]{0,300}"), 0..20)) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            write_literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        let theirs = loona_hpack::Decoder::new().decode(&block).unwrap();
        let want: Vec<_> = fields.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();
        prop_assert_eq!(theirs, want);
        prop_assert_eq!(list(&mut Decoder::default(), &block, 1 << 20).unwrap(), fields);
    }

    #[test]
    fn what_another_encoder_writes_we_read(lists in proptest::collection::vec(
        proptest::collection::vec(("[a-d]{1,2}", "[e-h]{0,3}"), 0..8), 1..6,
    )) {
        let (mut encoder, mut decoder) = (loona_hpack::Encoder::new(), Decoder::default());
        for fields in lists {
            let block = encoder.encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
            prop_assert_eq!(list(&mut decoder, &block, 1 << 20).unwrap(), fields);
        }
    }

    #[test]
    fn noise_gives_the_same_answer_as_another_decoder(block in proptest::collection::vec(any::<u8>(), 0..60)) {
        let theirs = loona_hpack::Decoder::new().decode(&block);
        let ours = list(&mut Decoder::default(), &block, 1 << 20);
        // Theirs may be laxer (it takes size updates anywhere but last); ours must never take what it refuses, except a block
        // of size updates alone, which are at the beginning as RFC 7541 §4.2 wants them.
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.len(), theirs.len()),
            (Ok(ours), Err(error)) => {
                prop_assert!(ours.is_empty() && error == loona_hpack::decoder::DecoderError::SizeUpdateAtEnd, "{:?}", error);
            }
            (Err(_), _) => {}
        }
    }
}
