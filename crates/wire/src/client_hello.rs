//! The name that a client of TLS asks for: its first bytes in, the name out. RFC 8446 §4.1.2, RFC 6066 §3. Nothing else of TLS is read, and nothing is
//! believed: what stands there is what the client would like to reach.

/// Most bytes of a ClientHello that are looked at; one that is longer asks for nothing.
const LONGEST: usize = 16 << 10;

/// Most bytes that are looked at for one, with the heads of records that it may be cut into.
const BYTES: usize = LONGEST + 4 + 256 * 5;

/// A record of the handshake protocol, and in it a ClientHello. RFC 8446 §5.1, §4.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The most bytes of a record. RFC 8446 §5.1.
const RECORD: usize = 1 << 14;
/// The extension of names, and of them the names of hosts. RFC 6066 §3.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest name of a host.
const MOST: usize = 253;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A host, in lower case.
    Host(Box<str>),
    /// No host; or it speaks no TLS.
    Nothing,
}

/// What the client asks for that begins with these bytes; none while that cannot be told yet. What was told once stays true whatever follows.
pub fn asked(bytes: &[u8]) -> Option<Asked> {
    match hello(bytes.get(..BYTES).unwrap_or(bytes)) {
        Hello::Whole(body) => Some(host(&body).map_or(Asked::Nothing, Asked::Host)),
        Hello::Begun if bytes.len() < BYTES => None,
        Hello::Begun | Hello::Other => Some(Asked::Nothing),
    }
}

enum Hello {
    /// All of it, without its head.
    Whole(Vec<u8>),
    /// It goes on.
    Begun,
    /// It is none, or too long.
    Other,
}

/// Puts the message together, which may be cut into records anywhere.
fn hello(mut bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    loop {
        if let [kind, high, middle, low, body @ ..] = message.as_slice() {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            if *kind != CLIENT_HELLO || length > LONGEST {
                return Hello::Other;
            }
            if let Some(body) = body.get(..length) {
                return Hello::Whole(body.to_vec());
            }
        }
        let (kind, version) = (bytes.first(), bytes.get(1));
        if kind.is_some_and(|kind| *kind != HANDSHAKE) || version.is_some_and(|version| *version != 3) {
            return Hello::Other;
        }
        let [_, _, _, high, low, rest @ ..] = bytes else { return Hello::Begun };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD {
            return Hello::Other;
        }
        let part = &rest[..length.min(rest.len())];
        message.extend_from_slice(part);
        bytes = &rest[part.len()..];
        if part.len() < length && bytes.is_empty() && !is_decided(&message) {
            return Hello::Begun;
        }
    }
}

/// Whether what is there of a message, in a record that goes on, says already that it is none, or is all of it.
fn is_decided(message: &[u8]) -> bool {
    let [kind, high, middle, low, body @ ..] = message else { return false };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    *kind != CLIENT_HELLO || length > LONGEST || body.len() >= length
}

/// The host that a ClientHello asks for.
fn host(body: &[u8]) -> Option<Box<str>> {
    let mut left = Left(body);
    // The version, and the random number.
    left.take(2 + 32)?;
    let _session = left.of_byte()?;
    let _suites = left.of_two()?;
    let _compressions = left.of_byte()?;
    let mut extensions = Left(left.of_two()?);
    while let Some(kind) = extensions.two() {
        let content = extensions.of_two()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Left(Left(content).of_two()?);
        while let Some(kind) = names.byte() {
            let name = names.of_two()?;
            if kind == HOST_NAME {
                return legal(name);
            }
        }
    }
    None
}

fn legal(name: &[u8]) -> Option<Box<str>> {
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let is_legal = !name.is_empty() && name.len() <= MOST && name.iter().all(is_of_a_name);
    let text = std::str::from_utf8(name).ok().filter(|_| is_legal)?;
    Some(text.to_ascii_lowercase().into())
}

/// What is left to be read.
struct Left<'b>(&'b [u8]);

impl<'b> Left<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn two(&mut self) -> Option<u16> {
        match self.take(2)? {
            [high, low] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// What has its length in a byte before it.
    fn of_byte(&mut self) -> Option<&'b [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// What has its length in two bytes before it.
    fn of_two(&mut self) -> Option<&'b [u8]> {
        let length = self.two()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_two(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &of_two(content)].concat()
    }

    fn names(names: &[(u8, &str)]) -> Vec<u8> {
        let names: Vec<u8> =
            names.iter().flat_map(|(kind, name)| [vec![*kind], of_two(name.as_bytes())].concat()).collect();
        extension(SERVER_NAME, &of_two(&names))
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &[2, 1, 2], &[0, 2, 0x13, 0x01], &[1, 0]].concat();
        body.extend(of_two(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    /// In records of so many bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &of_two(part)].concat()).collect()
    }

    #[test]
    fn the_host_is_found_however_the_message_is_cut() {
        let name = |name: &str| Some(Asked::Host(name.into()));
        let padding = extension(21, &[0; 500]);
        for (extensions, want) in [
            (vec![names(&[(0, "db.example")])], name("db.example")),
            (vec![padding.clone(), names(&[(0, "DB.Example")])], name("db.example")),
            (vec![names(&[(7, "x"), (0, "_a-1.b")]), padding.clone()], name("_a-1.b")),
            (vec![padding], Some(Asked::Nothing)),
            (vec![], Some(Asked::Nothing)),
            (vec![names(&[])], Some(Asked::Nothing)),
            (vec![names(&[(0, "")])], Some(Asked::Nothing)),
            (vec![names(&[(0, "a b")])], Some(Asked::Nothing)),
            (vec![names(&[(0, "a\0b")])], Some(Asked::Nothing)),
            (vec![names(&[(0, &"a".repeat(254))])], Some(Asked::Nothing)),
            (vec![extension(SERVER_NAME, &[0, 9, 0])], Some(Asked::Nothing)),
        ] {
            let message = message(&extensions);
            for size in [1, 3, 4, 5, 100, RECORD] {
                let bytes = records(&message, size);
                assert_eq!(asked(&bytes), want, "{size}");
                assert_eq!(asked(&bytes[..bytes.len() - 1]), None, "{size}");
            }
        }
        let long = message(&[extension(21, &[0; 12_000]), names(&[(0, "a.example")])]);
        assert_eq!(asked(&records(&long, 60)), name("a.example"));
        let crumbs = records(&long, 1);
        assert_eq!(asked(&crumbs[..BYTES - 1]), None);
        assert_eq!(asked(&crumbs[..BYTES]), Some(Asked::Nothing), "nobody cuts it so");
        assert_eq!(asked(&crumbs), Some(Asked::Nothing));
    }

    #[test]
    fn what_is_no_tls_asks_for_nothing() {
        let long = [&[CLIENT_HELLO, 0, 0x40, 1][..], &[0; 8]].concat();
        for (bytes, want) in [
            (b"".as_slice(), None),
            (b"\x16", None),
            (b"\x16\x03\x01\x00", None),
            (b"GET / HTTP/1.1", Some(Asked::Nothing)),
            (b"\x15\x03\x01", Some(Asked::Nothing)),
            (b"\x16\x02\x01", Some(Asked::Nothing)),
            (b"\x16\x03\x01\x00\x00", Some(Asked::Nothing)),
            (b"\x16\x03\x01\x40\x01", Some(Asked::Nothing)),
            (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01", Some(Asked::Nothing)),
            (&records(&long, RECORD), Some(Asked::Nothing)),
        ] {
            assert_eq!(asked(bytes), want, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_told_once_stays_true(
            start in prop::sample::select(vec![0_usize, 5, 9, 60, 90, 1_000]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..300,
            size in 1_usize..200,
        ) {
            let whole = records(&message(&[names(&[(0, "a.example")])]), size);
            let bytes = [&whole[..start.min(whole.len())], &rest].concat();
            if let Some(told) = asked(&bytes[..cut.min(bytes.len())]) {
                prop_assert_eq!(asked(&bytes), Some(told));
            }
        }
    }
}
