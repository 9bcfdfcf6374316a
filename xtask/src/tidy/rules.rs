//! One function per rule: a file in, findings out.

use super::source::{Flow, Line, Part, Source, has_word};
use crate::finding::Finding;

/// The most lines a file may have before its tests. STYLE.md, Size.
const MOST_LINES: usize = 500;

/// Folders whose code talks to the kernel in ways Rust cannot check.
const UNSAFE_FOLDERS: &[&str] = &["ebpf/", "crates/io/net/", "crates/io/netlink/"];

/// Folders whose code decides and does nothing else.
const PURE_FOLDERS: &[&str] = &["crates/logic/", "crates/wire/"];

/// What a pure crate must not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("async", "is not async"),
    (".await", "is not async"),
    ("tokio", "has no runtime"),
    ("Instant::now", "has no clock: take `now` as an argument"),
    ("SystemTime::now", "has no clock: take `now` as an argument"),
    ("Mutex", "has no locks"),
    ("RwLock", "has no locks"),
    ("Condvar", "has no locks"),
    ("std::env", "has no environment"),
    ("env::var", "has no environment"),
    ("std::fs", "has no files"),
    ("std::process", "has no processes"),
    ("std::thread", "has no threads"),
    ("TcpStream", "has no sockets"),
    ("TcpListener", "has no sockets"),
    ("UdpSocket", "has no sockets"),
    ("tracing::", "does not log: put the reason into the answer"),
    ("log::", "does not log: put the reason into the answer"),
    ("println!", "does not log: put the reason into the answer"),
    ("eprintln!", "does not log: put the reason into the answer"),
    ("rand::rng", "has no randomness of its own: take `rng` as an argument"),
    ("rand::random", "has no randomness of its own: take `rng` as an argument"),
    ("thread_rng", "has no randomness of its own: take `rng` as an argument"),
    ("from_os_rng", "has no randomness of its own: take `rng` as an argument"),
];

/// What stands for unfinished or switched-off work.
const STUBS: &[(&str, &str)] = &[
    ("todo!", "a stub: finish it, or leave it out and say so in the documentation"),
    ("unimplemented!", "a stub: finish it, or leave it out and say so in the documentation"),
    ("dbg!", "left over from debugging"),
    ("#[ignore", "a test that never runs: fix it or delete it"),
    ("#[allow(", "write #[expect(…, reason = \"…\")], which goes away with its cause"),
    ("#![allow(", "write #![expect(…, reason = \"…\")], which goes away with its cause"),
];

/// Names that say nothing about what they name. STYLE.md, Names.
const EMPTY_STEMS: &[&str] = &["common", "data", "helper", "helpers", "info", "manager", "misc", "util", "utils"];

/// Endings of type names that say nothing.
const EMPTY_ENDINGS: &[&str] = &["Helper", "Helpers", "Info", "Manager", "Util", "Utils"];

/// Every rule on the code of one file.
pub(super) fn all(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(length(source));
    findings.extend(file_name(&source.path));
    for line in &source.lines {
        let found = [unsafe_code(source, line), sleep(source, line), type_name(line), getter(line)];
        let named = |(word, why): &(&str, &str)| has_word(&line.code, word).then(|| format!("`{word}`: {why}"));
        let all = found.into_iter().flatten().chain(STUBS.iter().filter_map(named)).chain(impure(source, line));
        findings.extend(all.map(|what| Finding::at(&source.path, line.number, what)));
    }
    findings
}

/// A file opens with what it is for.
pub(super) fn opening(path: &str, text: &str) -> Option<Finding> {
    (!text.starts_with("//!")).then(|| Finding::at(path, 1, "does not open with `//!`: what comes in, what goes out"))
}

fn length(source: &Source) -> Option<Finding> {
    let lines = source.product_lines();
    let what = format!("{lines} lines before tests, at most {MOST_LINES}: one idea a file");
    (lines > MOST_LINES).then(|| Finding::at(&source.path, MOST_LINES + 1, what))
}

fn file_name(path: &str) -> Option<Finding> {
    // The crate both sides of the kernel boundary share has had its name since before the rule.
    if path.starts_with("ebpf/common/") {
        return None;
    }
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let empty = stem.split('/').find(|part| EMPTY_STEMS.contains(part))?;
    Some(Finding::at(path, 1, format!("{empty:?} says nothing: name what it holds")))
}

fn unsafe_code(source: &Source, line: &Line) -> Option<String> {
    let allowed = UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    let what = "`unsafe` stands only in ebpf/ and crates/io/net*";
    (!allowed && has_word(&line.code, "unsafe")).then(|| what.to_owned())
}

fn impure(source: &Source, line: &Line) -> Vec<String> {
    if line.part == Part::Test || !PURE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    let named = IMPURE.iter().filter(|(word, _)| has_word(&line.code, word) || follows_value(&line.code, word));
    named.map(|(word, why)| format!("`{word}`: this crate {why}")).collect()
}

/// Whether a needle that begins with a sign, such as `.await`, follows anything at all.
fn follows_value(code: &str, word: &str) -> bool {
    word.starts_with('.') && code.contains(word)
}

/// A test polls a condition with a deadline, or pauses the clock; it does not sleep and hope.
fn sleep(source: &Source, line: &Line) -> Option<String> {
    if line.part == Part::Product || !has_word(&line.code, "sleep(") || line.flow == Flow::Loop {
        return None;
    }
    let paused = source.lines.iter().any(|l| has_word(&l.code, "start_paused") || has_word(&l.code, "time::pause"));
    let virtual_clock = paused && !has_word(&line.code, "thread::sleep");
    let what = "a test that sleeps to wait: poll the condition with a deadline, or pause the clock";
    (!virtual_clock).then(|| what.to_owned())
}

fn type_name(line: &Line) -> Option<String> {
    let mut words = line.code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.by_ref().find(|word| matches!(*word, "struct" | "enum" | "trait"))?;
    let name = words.next()?;
    let ending = EMPTY_ENDINGS.iter().find(|ending| name.ends_with(*ending))?;
    Some(format!("`{name}`: {ending:?} says nothing: name what it holds"))
}

fn getter(line: &Line) -> Option<String> {
    let (_, name) = line.code.split_once("fn get_")?;
    // `get_mut` and `get_or_…` are the standard library's own words.
    let usual = name.starts_with("mut") || name.starts_with("or_");
    (!usual).then(|| "a getter is named after what it returns, without `get_`".to_owned())
}

/// No tracked file, built objects included, tells on which machine it was made.
pub(super) fn machine_paths(path: &str, bytes: &[u8]) -> Vec<Finding> {
    // In pieces, so that this file does not find itself.
    let needles = [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["/wo", "rk/"], ["/tmp/", "bash"], ["/bui", "ld/"]];
    let mut findings = Vec::new();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        for needle in needles.map(|parts| parts.concat()) {
            if starts_a_path(line, needle.as_bytes()) {
                let what = format!("`{needle}`: a path of one machine");
                findings.push(Finding::at(path, at + 1, what));
            }
        }
    }
    findings
}

/// Whether `needle` stands in `line` as the beginning of an absolute path.
fn starts_a_path(line: &[u8], needle: &[u8]) -> bool {
    let ends_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./}~*$".contains(byte);
    line.windows(needle.len()).enumerate().any(|(at, window)| {
        let before = at.checked_sub(1).and_then(|before| line.get(before));
        window == needle && !before.is_some_and(ends_a_name)
    })
}

/// A member takes over the lints of the workspace.
pub(super) fn inherited_lints(path: &str, text: &str) -> Option<Finding> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[lints]");
    let inherits = lines.nth(1).is_some_and(|line| line.replace(' ', "") == "workspace=true");
    (!inherits).then(|| Finding::at(path, 1, "does not inherit the lints: add `[lints]` with `workspace = true`"))
}
