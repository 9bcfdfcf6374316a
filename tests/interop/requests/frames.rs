//! Frames of HTTP/2, written by hand: what no library would send. A script is steps, with ` ; ` between:
//!
//! ```text
//! get FIELDS        HEADERS of a plain request, with these fields too; a pseudo-header there replaces the plain one, `-NAME` takes it out
//! fields FIELDS     HEADERS with these fields alone
//! data TEXT         DATA
//! rst, ping         RST_STREAM (CANCEL), PING
//! reset             a plain request and its RST_STREAM
//! next              the next stream
//! raw TYPE FLAGS STREAM TEXT      any frame; the first three in hexadecimal
//! bytes TEXT        no frame
//! ```
//!
//! `+` behind a step ends the stream. `N* STEP` is the step N times, requests each on the next stream. FIELDS are `NAME=VALUE` with `|` between.

use anyhow::{Context, bail};

use crate::case::{HOST, unescape};

/// What a client begins with, and SETTINGS with a header table of no size: then statuses can be read without one.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00";
const MAX_FRAME: usize = 16_384;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Field = (Vec<u8>, Vec<u8>);

/// A whole connection's frames.
pub(crate) fn script(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = BEGIN.to_vec();
    let mut stream = 1;
    for one in text.split(" ; ") {
        let (count, one) = match one.split_once("* ") {
            Some((count, one)) if count.parse::<usize>().is_ok() => (count.parse()?, one),
            Some(_) | None => (1, one),
        };
        for _ in 0..count {
            bytes.extend(step(one, &mut stream).with_context(|| format!("step {one:?}"))?);
            if count > 1 && (one.starts_with("get") || one == "reset") {
                stream += 2;
            }
        }
    }
    Ok(bytes)
}

fn step(text: &str, stream: &mut u32) -> anyhow::Result<Vec<u8>> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (word, end) = word.strip_suffix('+').map_or((word, 0), |word| (word, END_STREAM));
    Ok(match word {
        "get" => headers(*stream, end, &plain(fields(rest)?)),
        "fields" => headers(*stream, end, &fields(rest)?),
        "data" => frame(0, end, *stream, &unescape(rest)?),
        "rst" => frame(3, 0, *stream, &[0, 0, 0, 8]),
        "ping" => frame(6, 0, 0, b"weirweir"),
        "reset" => [probe(*stream, "/"), frame(3, 0, *stream, &[0, 0, 0, 8])].concat(),
        "next" => {
            *stream += 2;
            Vec::new()
        }
        "bytes" => unescape(rest)?,
        "raw" => {
            let mut words = rest.splitn(4, ' ');
            let mut number = || u32::from_str_radix(words.next().unwrap_or_default(), 16);
            let (kind, flags, on) = (u8::try_from(number()?)?, u8::try_from(number()?)?, number()?);
            frame(kind, flags, on, &unescape(words.next().unwrap_or_default())?)
        }
        _ => bail!("{word:?}, expected get, fields, data, rst, ping, next, raw or bytes"),
    })
}

/// A request nobody wonders at, whose path tells it from others.
pub(crate) fn probe(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &plain(vec![(b":path".to_vec(), path.into())]))
}

fn plain(more: Vec<Field>) -> Vec<Field> {
    let known = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", HOST)];
    let said = |name: &str| {
        more.iter().any(|(other, _)| other == name.as_bytes() || other.strip_prefix(b"-") == Some(name.as_bytes()))
    };
    let mut all: Vec<Field> =
        known.iter().filter(|(name, _)| !said(name)).map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let (pseudo, others): (Vec<Field>, Vec<Field>) = more.into_iter().partition(|(name, _)| name.starts_with(b":"));
    all.extend(pseudo);
    all.extend(others.into_iter().filter(|(name, _)| !name.starts_with(b"-:")));
    all
}

fn fields(text: &str) -> anyhow::Result<Vec<Field>> {
    let one = |text: &str| {
        // The name of a pseudo-header begins with what is no separator.
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok((unescape(name)?, unescape(value)?))
    };
    text.split('|').filter(|text| !text.is_empty()).map(one).collect()
}

/// HEADERS, and CONTINUATION as needed.
fn headers(stream: u32, flags: u8, fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Literal, not indexed. RFC 7541 §6.2.2.
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    let mut bytes = Vec::new();
    let count = block.len().div_ceil(MAX_FRAME).max(1);
    let mut parts = block.chunks(MAX_FRAME);
    for at in 0..count {
        let (kind, flags) = if at == 0 { (1, flags) } else { (9, 0) };
        let last = if at + 1 == count { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, flags | last, stream, parts.next().unwrap_or_default()));
    }
    bytes
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if rest < 127 {
        block.push(u8::try_from(rest).unwrap_or(0));
    } else {
        block.push(127);
        rest -= 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap_or(0));
    }
    block.extend_from_slice(text);
}

/// Any frame. RFC 9113 §4.1.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [length.as_slice(), &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The status at the beginning of a block, of a peer that was allowed no table.
pub(crate) fn status(mut block: &[u8]) -> Option<String> {
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        block = rest;
    }
    let (first, rest) = block.split_first()?;
    const KNOWN: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    if first & 0x80 != 0 {
        return KNOWN.get(usize::from(first & 0x7f).checked_sub(8)?).map(ToString::to_string);
    }
    let index = if first & 0x40 != 0 { first & 0x3f } else { first & 0x0f };
    if !(8..=14).contains(&index) {
        return None;
    }
    let (length, text) = rest.split_first()?;
    let text = text.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 { String::from_utf8(text.into()).ok() } else { digits(text) }
}

/// Digits as Huffman has them: 0 to 2 in five bits, others in six. RFC 7541, appendix B.
fn digits(bytes: &[u8]) -> Option<String> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let mut rest = bits.as_slice();
    let mut text = String::new();
    let value = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    while text.len() < 3 {
        let five = value(rest.get(..5)?);
        let (digit, length) =
            if five < 3 { (five, 5) } else { (value(rest.get(..6)?).checked_sub(0x19)?.checked_add(3)?, 6) };
        text.push(char::from_digit(digit.into(), 10)?);
        rest = &rest[length..];
    }
    Some(text)
}

#[test]
fn statuses_are_read() {
    // The last two are of RFC 7541, appendix C.6.1, and as nghttp2 writes 431.
    for (block, want) in [
        (b"\x88".as_slice(), Some("200")),
        (b"\x20\x8c", Some("400")),
        (b"\x08\x03503", Some("503")),
        (b"\x48\x82\x64\x02", Some("302")),
        (b"\x08\x83\x69\x90\xff", Some("431")),
        (b"\x40\x01a", None),
    ] {
        assert_eq!(status(block).as_deref(), want, "{block:?}");
    }
}
