//! The path of a request, spelt in one way: what a route or a policy reads is what is sent on.
//!
//! An application may read a path otherwise than the proxy before it, and whoever finds such a path walks around a policy. So every
//! path is spelt anew before anybody looks at it, and one that two readers could honestly read as two different places is refused:
//!
//! * Letters, digits, `-`, `.`, `_` and `~` are never escaped, everything that RFC 3986 §3.3 does not allow always is, and escapes have
//!   upper-case digits. An escape is resolved once: `%252F` stays what it is.
//! * `\` is `/`, as browsers and many servers have it. `.` and `..` are resolved (RFC 3986 §5.2.4), after escaped dots are; `..` at the
//!   root stays there.
//! * Whether `//` is `/`, and `%2F` and `%5C` are `/`, is the operator's choice, with Istio's names and default: see [`Normalization`].
//! * A byte 0 however written, control characters, spaces, `#`, and a `%` without two digits are refused: no two servers agree on them.
//! * A dot segment behind an escaped slash (`/a%2F..%2Fb`) or before a parameter (`/a/..;x/b`) is refused: servers that resolve slashes late,
//!   or drop parameters, go up there; others do not.
//! * A path that does not begin with `/` is refused, `*` of OPTIONS too: no route and no policy can name it.
//!
//! Parameters (`;x=1`) and escapes of reserved characters are kept, for applications sign and read them. What an application that drops
//! or resolves them sees is [`NormalPath::as_served`]: a policy that denies looks at both.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, str::FromStr};

/// The longest path with its query, in bytes: what Envoy allows a whole head (`max_request_headers_kb`, 60 KiB).
pub const MAX_TARGET: usize = 60 * 1024;

/// What is taken for a slash. Istio `MeshConfig.pathNormalization`; its `NONE` is not offered, for a policy over a path that nobody
/// normalised denies nothing that cannot be written otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// `/` and `\`.
    #[default]
    Base,
    /// The same, and several in a row are one.
    MergeSlashes,
    /// `%2F` and `%5C` too, and several in a row are one.
    DecodeAndMergeSlashes,
}

/// Not a level of normalisation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path normalisation {text:?}, expected DEFAULT, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES")]
pub struct LevelError {
    text: String,
}

impl FromStr for Normalization {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        match text {
            "DEFAULT" | "BASE" => Ok(Self::Base),
            "MERGE_SLASHES" => Ok(Self::MergeSlashes),
            "DECODE_AND_MERGE_SLASHES" => Ok(Self::DecodeAndMergeSlashes),
            _ => Err(LevelError { text: text.chars().take(64).collect() }),
        }
    }
}

/// Why a path has no one spelling. Offsets are in bytes of the path as sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin at the root.
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    /// It is too long.
    #[error("a path of {len} bytes, at most {MAX_TARGET} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// A percent sign that begins no escape.
    #[error("the '%' at byte {at} of the path is not followed by two hexadecimal digits")]
    Escape {
        /// Where it is.
        at: usize,
    },
    /// A byte 0, escaped or not.
    #[error("the byte 0 at byte {at} of the path")]
    Nul {
        /// Where it is.
        at: usize,
    },
    /// A character that is in no path.
    #[error("the character {found:?} at byte {at} of the path, which must be escaped there")]
    Character {
        /// Where it is.
        at: usize,
        /// What it is.
        found: char,
    },
    /// A `.` or `..` that some servers would go by and others not.
    #[error("the path has a dot segment behind an escaped slash or before a parameter")]
    HiddenDots,
}

/// A path with one spelling. It begins with `/`, is ASCII, and has no dot segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NormalPath<'r>(Cow<'r, str>);

impl<'r> NormalPath<'r> {
    /// Spells a path, without its query, in the one way.
    ///
    /// # Errors
    /// When two readers could take it for two places: the request is to be refused.
    pub fn read(sent: &'r str, level: Normalization) -> Result<Self, PathError> {
        check_start(sent)?;
        if is_plain(sent.as_bytes(), level) {
            return Ok(Self(Cow::Borrowed(sent)));
        }
        let mut path = resolve(&fold(sent, level)?)?;
        match level {
            Normalization::Base => {}
            Normalization::MergeSlashes | Normalization::DecodeAndMergeSlashes => merge_slashes(&mut path),
        }
        Ok(Self(Cow::Owned(path)))
    }

    /// The path: what is matched, and what is sent on.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is sent on as it came.
    pub fn is_as_sent(&self) -> bool {
        matches!(self.0, Cow::Borrowed(_))
    }

    /// The path as an application reads it that drops parameters and resolves escapes of reserved characters. A DENY whose path matches
    /// this or [`as_str`](Self::as_str) must deny, an ALLOW must match both.
    pub fn as_served(&self) -> Cow<'_, str> {
        if !self.0.bytes().any(|byte| matches!(byte, b';' | b'%')) {
            return Cow::Borrowed(&self.0);
        }
        let mut served = String::with_capacity(self.0.len());
        let mut segments = self.0.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let name = segment.split(';').next().unwrap_or_default();
            if !name.is_empty() || segment.is_empty() || segments.peek().is_none() {
                served.push('/');
                unescape(name, &mut served);
            }
        }
        Cow::Owned(served)
    }
}

/// A path that somebody wrote into a route or a policy, spelt as the paths are that it is compared with. Dot segments stay: a text with one
/// matches nothing.
///
/// # Errors
/// When no path of a request could ever be spelt so.
pub fn spelt(text: &str, level: Normalization) -> Result<String, PathError> {
    check_start(text)?;
    fold(text, level)
}

fn check_start(text: &str) -> Result<(), PathError> {
    if text.len() > MAX_TARGET {
        return Err(PathError::TooLong { len: text.len() });
    }
    if text.starts_with(['/', '\\']) { Ok(()) } else { Err(PathError::NotAbsolute) }
}

/// Whether a path is its own spelling. Says no to a few that are, those with a segment that begins with a dot.
fn is_plain(path: &[u8], level: Normalization) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let plain = match byte {
            b'/' => before != b'/' || level == Normalization::Base,
            b'.' => before != b'/',
            _ => is_allowed(byte),
        };
        before = byte;
        plain
    })
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, `pchar`, but for escapes.
fn is_allowed(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// Each character in its one spelling.
fn fold(sent: &str, level: Normalization) -> Result<String, PathError> {
    let bytes = sent.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'%' => {
                match escaped(bytes, at).ok_or(PathError::Escape { at })? {
                    0 => return Err(PathError::Nul { at }),
                    b'/' | b'\\' if level == Normalization::DecodeAndMergeSlashes => out.push('/'),
                    plain if is_unreserved(plain) => out.push(char::from(plain)),
                    other => escape(other, &mut out),
                }
                3
            }
            0 => return Err(PathError::Nul { at }),
            1..=b' ' | 0x7f | b'#' | b'?' => return Err(PathError::Character { at, found: char::from(byte) }),
            b'/' | b'\\' => {
                out.push('/');
                1
            }
            _ if is_allowed(byte) => {
                out.push(char::from(byte));
                1
            }
            _ => {
                escape(byte, &mut out);
                1
            }
        };
    }
    Ok(out)
}

/// The byte that the escape at `at` stands for.
pub(crate) fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map_or('0', char::from);
    out.push('%');
    out.push(digit(byte >> 4));
    out.push(digit(byte & 0xf));
}

/// Escapes of printable ASCII resolved, but for `/`, `\` and `%` itself.
fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some((before, escape)) = rest.find('%').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        let (digits, after) = escape.split_at_checked(3).unwrap_or((escape, ""));
        match escaped(digits.as_bytes(), 0) {
            Some(byte) if byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'%') => out.push(char::from(byte)),
            Some(_) | None => out.push_str(digits),
        }
        rest = after;
    }
    out.push_str(rest);
}

/// RFC 3986 §5.2.4.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == ".." {
            out.truncate(out.rfind('/').unwrap_or(0));
        }
        if segment == "." || segment == ".." {
            if is_last {
                out.push('/');
            }
            continue;
        }
        if hides_dots(segment) {
            return Err(PathError::HiddenDots);
        }
        out.push('/');
        out.push_str(segment);
    }
    Ok(out)
}

/// Whether a server that resolves escaped slashes late, or drops parameters, finds a dot segment in this one.
fn hides_dots(segment: &str) -> bool {
    let is_dots = |piece: &str| {
        let name = piece.split(';').next().and_then(|name| name.split("%3B").next());
        matches!(name, Some("." | ".."))
    };
    segment.contains('.') && segment.split("%2F").flat_map(|piece| piece.split("%5C")).any(is_dots)
}

fn merge_slashes(path: &mut String) {
    let mut before = ' ';
    path.retain(|found| {
        let keep = found != '/' || before != '/';
        before = found;
        keep
    });
}
