//! HTTP/2 frames: a stream of bytes means the same however it is cut into pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::parser::{Event, ParseError, Parser};

const MAX_FRAME: u32 = 16_384;
const MAX_BLOCK: usize = 4_096;

/// What a stream of bytes means: what was said, and the error that ended it.
#[derive(Debug, PartialEq)]
struct Meaning {
    said: Vec<(Event, Vec<u8>)>,
    error: Option<ParseError>,
}

/// Reads `pieces` one after the other. DATA and padding may be reported in parts: parts of one run are added up.
fn read(pieces: &[&[u8]]) -> Meaning {
    let mut parser = Parser::new(MAX_FRAME, MAX_BLOCK);
    let mut said: Vec<(Event, Vec<u8>)> = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match parser.next(rest) {
                Err(error) => return Meaning { said, error: Some(error) },
                Ok((used, event)) => {
                    assert!(used <= rest.len(), "took more than there is");
                    rest = &rest[used..];
                    match event {
                        Some(event) => add(&mut said, event, &parser),
                        None if used == 0 => break,
                        None => {}
                    }
                }
            }
        }
        assert!(rest.is_empty(), "left {} bytes behind", rest.len());
    }
    Meaning { said, error: None }
}

fn add(said: &mut Vec<(Event, Vec<u8>)>, event: Event, parser: &Parser) {
    match (said.last_mut().map(|(last, _)| last), event) {
        (
            Some(Event::Data { stream: before, length: sum, end: ended @ false }),
            Event::Data { stream, length, end },
        ) if *before == stream => {
            *sum += length;
            *ended = end;
        }
        (
            Some(Event::Padding { stream: before, length: sum, end: ended @ false }),
            Event::Padding { stream, length, end },
        ) if *before == stream => {
            *sum += length;
            *ended = end;
        }
        (_, Event::Headers { .. }) => said.push((event, parser.block().to_vec())),
        (_, Event::GoAway { .. }) => said.push((event, parser.reason().to_vec())),
        (_, Event::Settings) => {
            let text = parser.settings().flat_map(|(id, value)| [u32::from(id), value]);
            said.push((event, text.flat_map(u32::to_be_bytes).collect()));
        }
        _ => said.push((event, Vec::new())),
    }
}

fuzz_target!(|input: (usize, usize, &[u8])| {
    let (first, second, bytes) = input;
    let first = first % (bytes.len() + 1);
    let second = first + second % (bytes.len() - first + 1);
    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
    assert_eq!(read(&[bytes]), read(&pieces), "cut at {first} and {second}");
});
