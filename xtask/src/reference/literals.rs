//! The literals of text of a Rust file, each with its line.

/// One literal of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// The line it begins in, from 1.
    pub(super) line: usize,
    /// What it says: lines that end in a backslash are joined, other escapes are left as they are.
    pub(super) text: String,
}

/// All of them, in order. Comments have none, nor have literals of characters.
pub(super) fn literals(text: &str) -> Vec<Literal> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = hashes + 2;
            let len = rest[from..].find(&end).unwrap_or(rest.len() - from);
            found.push(Literal { line, text: rest[from..from + len].to_owned() });
            (from + len + end.len()).min(rest.len())
        } else if first == '"' {
            let len = quoted(&rest[1..]);
            found.push(Literal { line, text: joined(&rest[1..=len]) });
            (len + 2).min(rest.len())
        } else if first == '\'' {
            character(rest)
        } else {
            first.len_utf8()
        };
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    found
}

/// How many `#` a raw literal has that begins here.
fn raw(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length of what stands before the closing quote.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len() - 1
}

/// The length of a literal of a character, or of the sign before a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    let (Some((_, first)), Some((second_at, second))) = (chars.next(), chars.next()) else { return 1 };
    match (first, second) {
        ('\\', _) => {
            rest[second_at + second.len_utf8()..].find('\'').map_or(1, |len| second_at + second.len_utf8() + len + 1)
        }
        (_, '\'') => second_at + 1,
        (_, _) => 1,
    }
}

/// Without the ends of lines that a backslash takes away, and the blanks after them.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_and_nothing_else() {
        let text = "// \"no\"\nlet a = \"one \\\n   line\"; let q = '\"'; let e = '\\'';\nfn f<'a>(x: &'a str) { g(r#\"raw \"x\"\"#, \"\\\"\") }\n\"\"";
        let found: Vec<(usize, String)> = literals(text).into_iter().map(|one| (one.line, one.text)).collect();
        let want = [(2, "one line"), (4, "raw \"x\""), (4, "\\\""), (5, "")];
        assert_eq!(found, want.map(|(line, text)| (line, text.to_owned())));
    }
}
