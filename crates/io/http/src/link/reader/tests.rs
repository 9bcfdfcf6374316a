//! Answers, whole and in pieces: where they end, what is none, and that it does not matter how they are cut.

use proptest::prelude::*;

use super::*;

/// What was read: status, body, trailers, and whether another request may follow.
type Read = (u16, Vec<u8>, Option<HeaderMap>, bool);

/// Reads one answer that comes in these pieces, and then the end of the connection. None if it breaks off.
fn read<'p>(is_head: bool, limit: usize, pieces: impl Iterator<Item = &'p [u8]>) -> Result<Option<Read>, Malformed> {
    let mut reader = Reader::new(limit);
    reader.begin(is_head);
    let (mut head, mut body, mut trailers) = (None, Vec::new(), None);
    let mut is_over = false;
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        if head.is_none() {
            head = reader.head(&mut input)?;
        }
        while head.is_some() && !is_over {
            match reader.body(&mut input)? {
                Part::More => break,
                Part::Data(data) => body.extend_from_slice(&data),
                Part::Trailers(fields) => trailers = Some(fields),
                Part::End => is_over = true,
            }
        }
    }
    is_over |= head.is_some() && reader.ends_with_connection();
    Ok(head.filter(|_| is_over).map(|head| (head.status().as_u16(), body, trailers, reader.keeps_alive())))
}

fn whole(is_head: bool, text: &str) -> Result<Option<(u16, String, bool)>, Malformed> {
    let read = read(is_head, 1_000, [text.as_bytes()].into_iter())?;
    Ok(read.map(|(status, body, _, stays)| (status, String::from_utf8(body).unwrap(), stays)))
}

#[test]
fn an_answer_ends_where_it_says() {
    for (is_head, text, want) in [
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Some((200, "ok", true))),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", Some((200, "ok", true))),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", None),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", Some((200, "ok", true))),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: x, Close\r\n\r\nok", Some((200, "ok", false))),
        (true, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Some((200, "", true))),
        (true, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Some((200, "", true))),
        (false, "HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n", Some((204, "", true))),
        (false, "HTTP/1.1 304 No\r\ncontent-length: 2\r\n\r\n", Some((304, "", true))),
        (false, "HTTP/1.1 101 Go\r\nupgrade: a\r\n\r\n", Some((101, "", false))),
        (false, "HTTP/1.1 200 OK\r\n\r\nuntil the end", Some((200, "until the end", false))),
        (false, "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Some((200, "ok", false))),
        (false, "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", Some((200, "ok", true))),
        (
            false,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
            Some((200, "", true)),
        ),
        (
            false,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;a=\"b\"\r\nok\r\n0\r\n\r\n",
            Some((200, "ok", true)),
        ),
        (
            false,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0a \r\n0123456789\r\n00\r\n\r\n",
            Some((200, "0123456789", true)),
        ),
        (false, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", None),
        (false, "HTTP/1.1 200 OK\r\ncontent-len", None),
        (false, "", None),
    ] {
        let want = want.map(|(status, body, stays)| (status, body.to_owned(), stays));
        assert_eq!(whole(is_head, text), Ok(want), "{text:?}");
    }
}

#[test]
fn what_is_no_answer_is_none() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(40);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1_000));
    let many: String = (0..101).map(|n| format!("a{n}:\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    let chunks: Vec<String> = [
        "zz\r\n",
        "\r\n",
        "-1\r\n",
        "0x2\r\nok\r\n",
        "2\nok\r\n",
        "2\r\nokk\r\n",
        "2\r\nok\n",
        "2;a\nb\r\nok\r\n",
        "2 2\r\nok\r\n",
        "10000000000000000\r\n",
    ]
    .iter()
    .map(|chunks| format!("{chunked}{chunks}"))
    .collect();
    let trailers = format!("{chunked}0\r\nno field\r\n\r\n");
    let torn = format!("{chunked}0\r\na: b\n\nc: d\r\n\r\n");
    let extended = format!("{chunked}1;{}\r\n", "x".repeat(20 << 10));
    let trailed = format!("{chunked}0\r\na: {}\r\n\r\n", "x".repeat(20 << 10));
    let framing = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: cow\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 OK\r\ntransfer-encoding: cow\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
    ];
    let head = |error| Malformed::Head(error);
    let mut table: Vec<(&str, Malformed)> = vec![
        ("HTTP/2 200 OK\r\n\r\n", head(httparse::Error::Version)),
        ("HTTP/1.1 what\r\n\r\n", head(httparse::Error::Status)),
        ("HTTP/1.1 099 Low\r\n\r\n", head(httparse::Error::Status)),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", head(httparse::Error::HeaderName)),
        ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", head(httparse::Error::HeaderName)),
        ("HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n", head(httparse::Error::HeaderValue)),
        (&many, head(httparse::Error::TooManyHeaders)),
        (&long, Malformed::TooLong(1_000)),
        (&long[..1_010], Malformed::TooLong(1_000)),
        (&endless, Malformed::Interim),
        (&extended, Malformed::Chunk),
        (&trailers, Malformed::Trailers),
        (&torn, Malformed::Trailers),
        (&trailed, Malformed::Trailers),
    ];
    table.extend(framing.iter().map(|text| (*text, Malformed::Framing)));
    table.extend(chunks.iter().map(|text| (&**text, Malformed::Chunk)));
    for (text, want) in table {
        assert_eq!(whole(false, text), Err(want), "{text:?}");
    }
}

#[test]
fn a_head_that_comes_in_pieces_is_bounded() {
    let pieces = std::iter::once(&b"HTTP/1.1 200 OK\r\n"[..]).chain(std::iter::repeat_n(&b"a: b\r\n"[..], 1_000));
    assert_eq!(read(false, 500, pieces), Err(Malformed::TooLong(500)));
}

#[test]
fn trailers_say_nothing_of_framing() {
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\ncontent-length: 9\r\n\r\n";
    let (_, body, trailers, _) = read(false, 1_000, [text.as_bytes()].into_iter()).unwrap().unwrap();
    let want = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    assert_eq!((&*body, trailers), (&b"ok"[..], Some(want)));
}

#[test]
fn a_reason_of_ones_own_is_kept() {
    for (line, want) in [("200 OK", None), ("200 Fine", Some("Fine")), ("299 Odd", Some("Odd")), ("200 ", None)] {
        let mut input = Bytes::from(format!("HTTP/1.1 {line}\r\n\r\n"));
        let answer = Reader::new(100).head(&mut input).unwrap().unwrap();
        let reason = answer.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        assert_eq!(reason, want.map(str::as_bytes), "{line}");
    }
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("HTTP/1.1 200 OK"),
        Just("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404"),
        Just("HTTP/1.1 204 a\n")
    ];
    let field = prop_oneof![
        Just("content-length: 5"),
        Just("transfer-encoding: chunked"),
        Just("connection: close"),
        Just("x: \r\n y"),
        Just("a:b"),
    ];
    let body = prop_oneof![
        "[a-z]{0,20}",
        Just("5;x\r\nhello\r\n0\r\n\r\n".to_owned()),
        Just("1\r\na\r\n0\r\nt: u\r\n\r\n".to_owned()),
        Just("1\r\naa\r\n".to_owned()),
    ];
    (line, prop::collection::vec(field, 0..4), prop_oneof![Just("\r\n"), Just("\n")], body).prop_map(
        |(line, fields, end, body)| {
            let fields: String = fields.iter().map(|field| format!("{end}{field}")).collect();
            format!("{line}{fields}{end}{end}{body}").into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn it_does_not_matter_how_an_answer_is_cut(
        text in answers(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        sizes in prop::collection::vec(1..9_usize, 1..10),
        is_head: bool,
    ) {
        let mut text = text;
        for (at, byte) in flips {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let all = read(is_head, 200, [&text[..]].into_iter());
        let mut rest = &text[..];
        let cut = sizes.iter().cycle().map_while(|size| {
            let (piece, other) = rest.split_at((*size).min(rest.len()));
            rest = other;
            (!piece.is_empty()).then_some(piece)
        });
        let cut = read(is_head, 200, cut);
        // Whether it is known to be none, or not yet, may depend on it.
        prop_assert_eq!(all.ok().flatten(), cut.ok().flatten(), "{:?}", String::from_utf8_lossy(&text));
    }
}
