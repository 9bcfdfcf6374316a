//! Frames in every cut, and each thing a peer can do wrong.

use proptest::prelude::*;

use super::*;
use crate::frame;

/// Feeds `pieces` one after another and collects what was said, joining DATA that only the cuts parted.
fn events(pieces: &[&[u8]]) -> Result<Vec<Event>, ParseError> {
    let mut parser = Parser::new(frame::DEFAULT_MAX_FRAME, 1_000);
    let mut said: Vec<Event> = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let (used, event) = parser.next(rest)?;
            rest = &rest[used..];
            match (event, said.last_mut()) {
                (Some(Event::Data { stream, length, end }), Some(Event::Data { stream: s, length: l, end: e }))
                    if stream == *s && !*e =>
                {
                    *l += length;
                    *e = end;
                }
                (
                    Some(Event::Padding { stream, length, end }),
                    Some(Event::Padding { stream: s, length: l, end: e }),
                ) if stream == *s && !*e => {
                    *l += length;
                    *e = end;
                }
                (Some(event), _) => said.push(event),
                (None, _) if rest.is_empty() => break,
                (None, _) => assert_ne!(used, 0, "no progress"),
            }
        }
    }
    Ok(said)
}

fn sample() -> (Vec<u8>, Vec<Event>) {
    let mut out = Vec::new();
    frame::write_settings(&mut out, &[(frame::setting::MAX_FRAME_SIZE, 1 << 20)]);
    frame::write(&mut out, kind::SETTINGS, flag::ACK, 0, &[]);
    frame::write(&mut out, kind::HEADERS, 0, 1, b"abc");
    frame::write(&mut out, kind::CONTINUATION, flag::END_HEADERS, 1, b"def");
    frame::write(&mut out, kind::DATA, 0, 1, b"hello");
    frame::write(&mut out, 0xfa, 0, 7, b"unknown");
    frame::write(&mut out, kind::DATA, flag::PADDED, 1, b"\x02hi\0\0");
    frame::write(&mut out, kind::PING, 0, 0, b"12345678");
    frame::write(&mut out, kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x00");
    frame::write_window_update(&mut out, 0, 77);
    frame::write_reset(&mut out, 3, Code::Cancel);
    frame::write(&mut out, kind::DATA, flag::END_STREAM, 5, b"");
    frame::write_goaway(&mut out, 5, Code::NoError, "bye");
    let want = vec![
        Event::Settings,
        Event::SettingsAck,
        Event::Headers { stream: 1, end: false },
        Event::Data { stream: 1, length: 5, end: false },
        Event::Ignored,
        Event::Data { stream: 1, length: 2, end: false },
        Event::Padding { stream: 1, length: 3, end: false },
        Event::Ping(*b"12345678"),
        Event::Padding { stream: 1, length: 1, end: true },
        Event::WindowUpdate { stream: 0, increment: 77 },
        Event::Reset { stream: 3, code: Code::Cancel },
        Event::Data { stream: 5, length: 0, end: true },
        Event::GoAway { last_stream: 5, code: Code::NoError },
    ];
    (out, want)
}

#[test]
fn every_frame_is_reported_once_and_in_order() {
    let (bytes, want) = sample();
    assert_eq!(events(&[&bytes]), Ok(want));
}

#[test]
fn a_block_over_several_frames_is_joined() {
    let mut parser = Parser::new(frame::DEFAULT_MAX_FRAME, 1_000);
    let mut out = Vec::new();
    frame::write(&mut out, kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, b"\x01-----abc\0");
    frame::write(&mut out, kind::CONTINUATION, flag::END_HEADERS, 1, b"def");
    assert_eq!(parser.next(&out), Ok((out.len(), Some(Event::Headers { stream: 1, end: false }))));
    assert_eq!(parser.block(), b"abcdef");
}

#[test]
fn a_client_must_begin_with_the_preface() {
    let mut whole = PREFACE.to_vec();
    frame::write(&mut whole, kind::PING, 0, 0, b"12345678");
    for cut in 0..whole.len() {
        let mut parser = Parser::after_preface(frame::DEFAULT_MAX_FRAME, 1_000);
        let (used, early) = parser.next(&whole[..cut]).unwrap();
        assert_eq!((used, early), (cut, None));
        let (used, event) = parser.next(&whole[cut..]).unwrap();
        assert_eq!((used, event), (whole.len() - cut, Some(Event::Ping(*b"12345678"))));
    }
    let mut parser = Parser::after_preface(frame::DEFAULT_MAX_FRAME, 1_000);
    assert_eq!(parser.next(b"PRI * HTTP/1.1").map_err(|e| e.code), Err(Code::Protocol));
}

#[test]
fn each_breach_ends_the_connection_with_its_code() {
    let one = |kind, flags, stream, payload: &[u8]| {
        let mut out = Vec::new();
        frame::write(&mut out, kind, flags, stream, payload);
        out
    };
    let mut pieces = one(kind::HEADERS, 0, 1, b"");
    for _ in 0..33 {
        pieces.extend(one(kind::CONTINUATION, 0, 1, b""));
    }
    for (bytes, code) in [
        (one(kind::DATA, 0, 0, b"x"), Code::Protocol),
        (one(kind::DATA, 0, 1, &vec![0; 16_385]), Code::FrameSize),
        (one(kind::DATA, flag::PADDED, 1, b"\x09x"), Code::Protocol),
        (one(kind::DATA, flag::PADDED, 1, b""), Code::FrameSize),
        (one(kind::HEADERS, flag::END_HEADERS, 0, b"x"), Code::Protocol),
        (one(kind::HEADERS, flag::END_HEADERS, 1, &[0; 2_000]), Code::Calm),
        (one(kind::CONTINUATION, flag::END_HEADERS, 1, b"x"), Code::Protocol),
        (one(kind::SETTINGS, 0, 1, b""), Code::Protocol),
        (one(kind::SETTINGS, 0, 0, b"12345"), Code::FrameSize),
        (one(kind::SETTINGS, flag::ACK, 0, b"123456"), Code::FrameSize),
        (one(kind::SETTINGS, 0, 0, &[0; 6 * 65]), Code::Calm),
        (one(kind::PUSH_PROMISE, 0, 1, b"1234"), Code::Protocol),
        (one(kind::PING, 0, 0, b"1234567"), Code::FrameSize),
        (one(kind::RST_STREAM, 0, 1, b"123"), Code::FrameSize),
        (one(kind::RST_STREAM, 0, 0, b"1234"), Code::Protocol),
        (one(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), Code::Protocol),
        (one(kind::GOAWAY, 0, 0, &[0; 5_000]), Code::Calm),
        ([one(kind::HEADERS, 0, 1, b"x"), one(kind::PING, 0, 0, &[0; 8])].concat(), Code::Protocol),
        ([one(kind::HEADERS, 0, 1, b"x"), one(kind::CONTINUATION, 0, 3, b"")].concat(), Code::Protocol),
        (pieces, Code::Calm),
    ] {
        assert_eq!(events(&[&bytes]).map_err(|e| e.code), Err(code), "{:x?}", &bytes[..bytes.len().min(20)]);
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(cuts in proptest::collection::vec(0usize..200, 0..12)) {
        let (bytes, want) = sample();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let got: Vec<Event> = events(&pieces).unwrap();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn noise_never_panics_and_never_holds_more_than_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut parser = Parser::new(frame::DEFAULT_MAX_FRAME, 1_000);
        let mut rest = &bytes[..];
        while let Ok((used, event)) = parser.next(rest) {
            rest = &rest[used..];
            if event.is_none() && (used == 0 || rest.is_empty()) {
                break;
            }
        }
        prop_assert!(parser.payload.len() + parser.block.len() < 32_768);
    }
}
