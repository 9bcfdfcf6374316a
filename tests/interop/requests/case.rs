//! Cases, out of `cases/*.txt`. A line is a case:
//!
//! ```text
//! KIND [OPTION,…] NAME => TEXT
//! ```
//!
//! `raw` is what is sent; `target`, `header` and `post` put it into a request that is otherwise plain; `h2` is a script of frames, see `frames.rs`; `answer` is what the
//! backend says. Without a name the text is the name. Text has `\r`, `\n`, `\t`, `\0`, `\s` for a space, `\xHH`, `\\`, and `{N*TEXT}` for TEXT N times.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::frames;

/// A plain host.
pub(crate) const HOST: &str = "web.test";

/// One thing to send.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) group: String,
    pub(crate) name: String,
    /// The reason, in `reasons.txt`, for which it may differ.
    pub(crate) why: Option<String>,
    /// How many answers are waited for.
    pub(crate) answers: usize,
    /// Answers have no body: it is HEAD.
    pub(crate) is_head: bool,
    pub(crate) is_h2: bool,
    /// A flood: how far it came, and what was said of it, is chance. Only whether it was served counts.
    pub(crate) is_flood: bool,
    pub(crate) bytes: Vec<u8>,
    /// What the backend answers, if not what it answers always.
    pub(crate) answer: Option<Vec<u8>>,
}

impl Case {
    /// What it is called in words and on the page.
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }
}

/// All of them, in the order of their files.
pub(crate) fn all() -> anyhow::Result<Vec<Case>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/requests/cases");
    let mut paths: Vec<_> =
        fs::read_dir(&dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in paths {
        let group = path.file_stem().and_then(|stem| stem.to_str()).context("a name of a file")?;
        let group = group.split_once('-').map_or(group, |(_, name)| name).replace('-', " ");
        for (at, line) in fs::read_to_string(&path)?.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = || format!("{}:{}", path.display(), at + 1);
            let case = read(cases.len(), &group, line).with_context(place)?;
            ensure!(
                !cases.iter().any(|known| known.title() == case.title()),
                "{}: {:?} is there twice",
                place(),
                case.name
            );
            cases.push(case);
        }
    }
    Ok(cases)
}

fn read(number: usize, group: &str, line: &str) -> anyhow::Result<Case> {
    let (kind, rest) = line.split_once(' ').context("expected KIND TEXT")?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("] ").context("expected ] behind options")?,
        None => ("", rest),
    };
    let (name, text) = rest.split_once(" => ").unwrap_or((rest, rest));
    let mut case = Case {
        number,
        group: group.into(),
        name: name.trim().into(),
        why: None,
        answers: 1,
        is_head: false,
        is_h2: kind == "h2",
        is_flood: false,
        bytes: Vec::new(),
        answer: None,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("why", why)) => case.why = Some(why.into()),
            Some(("answers", count)) => case.answers = count.parse()?,
            None if option == "head" => case.is_head = true,
            None if option == "flood" => case.is_flood = true,
            Some(_) | None => bail!("option {option:?}, expected why=REASON, answers=N, head or flood"),
        }
    }
    if kind == "h2" {
        case.bytes = frames::script(&repeat(text))?;
        return Ok(case);
    }
    let text = unescape(&repeat(text))?;
    let plain = |method: &str, target: &[u8], more: &[u8]| {
        [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: ", HOST.as_bytes(), b"\r\n", more].concat()
    };
    case.bytes = match kind {
        "raw" => text,
        "target" => plain("GET", &text, b"\r\n"),
        "header" => plain("GET", b"/", &[&text, b"\r\n\r\n".as_slice()].concat()),
        "post" => plain("POST", b"/", &text),
        "answer" => {
            case.answer = Some(text);
            plain(if case.is_head { "HEAD" } else { "GET" }, b"/", b"\r\n")
        }
        _ => bail!("{kind:?}, expected raw, target, header, post, answer or h2"),
    };
    Ok(case)
}

/// What escapes stand for.
pub(crate) fn unescape(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first != '\\' {
            bytes.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().context("nothing behind a backslash")?;
        rest = &rest[escape.len_utf8()..];
        bytes.push(match escape {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            's' => b' ',
            '\\' => b'\\',
            'x' => {
                let digits = rest.get(..2).context("two digits behind \\x")?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16)?
            }
            other => bail!("\\{other}, expected one of r n t 0 s x \\"),
        });
    }
    Ok(bytes)
}

/// With everything as often as it is to be there.
fn repeat(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((count, times, behind)) = repeated(rest) {
            whole.push_str(&times.repeat(count));
            rest = behind;
        } else {
            whole.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    whole
}

/// `{N*TEXT}` at the beginning, and what is behind.
fn repeated(text: &str) -> Option<(usize, &str, &str)> {
    let (count, rest) = text.strip_prefix('{')?.split_once('*')?;
    let (times, behind) = rest.split_once('}')?;
    Some((count.parse().ok()?, times, behind))
}

#[test]
fn texts_are_read_as_they_say() {
    for (text, want) in [
        ("a\\r\\n", b"a\r\n".as_slice()),
        ("{3*ab}c", b"abababc"),
        ("\\x00\\0\\s\\\\", b"\0\0 \\"),
        ("{x}", b"{x}"),
        ("é", "é".as_bytes()),
    ] {
        assert_eq!(unescape(&repeat(text)).unwrap(), want, "{text}");
    }
    for bad in ["\\", "\\q", "\\x1"] {
        assert!(unescape(bad).is_err(), "{bad}");
    }
    let case = read(0, "g", "header [why=x,answers=2] a name => A: b").unwrap();
    assert_eq!((case.name.as_str(), case.why.as_deref(), case.answers), ("a name", Some("x"), 2));
    assert_eq!(case.bytes, b"GET / HTTP/1.1\r\nHost: web.test\r\nA: b\r\n\r\n");
}
