//! A Rust file as the text checks need it: comments and the insides of literals blanked out, tests told from code,
//! loops told from straight lines. No parser: the blanked text has the same lines as the file.

/// A Rust source file, read for the checks.
pub(super) struct Source {
    /// The path, relative to the root.
    pub(super) path: String,
    /// The lines, in order.
    pub(super) lines: Vec<Line>,
}

/// One line of a file.
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Its text without comments and without the insides of literals.
    pub(super) code: String,
    /// Whether it belongs to tests.
    pub(super) part: Part,
    /// Whether it lies, at its first character, inside a loop.
    pub(super) flow: Flow,
}

/// What a line is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The product.
    Product,
    /// Its tests.
    Test,
}

/// Where a line is in the flow of its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It may run many times.
    Loop,
    /// It runs once.
    Straight,
}

impl Source {
    /// Reads `text`, the file at `path`.
    pub(super) fn read(path: &str, text: &str) -> Self {
        let code = blank(text);
        let flows = flows(&code);
        let tests = test_lines(&code);
        let whole = is_test_file(path);
        let lines = code
            .lines()
            .enumerate()
            .map(|(at, line)| Line {
                number: at + 1,
                code: line.to_owned(),
                part: if whole || tests.iter().any(|t| t.contains(&at)) { Part::Test } else { Part::Product },
                flow: flows[at],
            })
            .collect();
        Self { path: path.to_owned(), lines }
    }

    /// The same file, known to be compiled for tests only.
    pub(super) fn into_test(mut self) -> Self {
        self.lines.iter_mut().for_each(|line| line.part = Part::Test);
        self
    }

    /// The files and folders of the modules that this file declares for tests only, without `.rs`.
    pub(super) fn test_modules(&self) -> Vec<String> {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let (folder, stem) = path.rsplit_once('/').unwrap_or(("", path));
        let below = if matches!(stem, "lib" | "main" | "mod") { folder } else { path };
        let declared = self.lines.iter().filter(|line| line.part == Part::Test);
        let name = |line: &Line| {
            let name = line.code.trim().strip_suffix(';')?.rsplit_once("mod ")?.1;
            name.chars().all(is_identifier).then(|| format!("{below}/{name}"))
        };
        declared.filter_map(name).collect()
    }

    /// For each line whether it is there for tests only.
    pub(super) fn tests(&self) -> Vec<bool> {
        self.lines.iter().map(|line| line.part == Part::Test).collect()
    }

    /// How many lines the file has without its tests.
    pub(super) fn product_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.part == Part::Product).count()
    }
}

/// Whether `word` stands in `code` with nothing of an identifier on either side.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        // A needle that ends in a sign, such as `dbg!`, may be followed by anything.
        let open_end = !word.ends_with(is_identifier);
        !before.is_some_and(is_identifier) && (open_end || !after.is_some_and(is_identifier))
    })
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a path is by its name a file of tests alone: `tests.rs`, or below a folder of tests or benchmarks that has no `src` below it.
fn is_test_file(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let last = |name| parts.iter().rposition(|part| *part == name);
    let below = |folder| last(folder).is_some_and(|at| last("src").is_none_or(|src| src < at));
    path.ends_with("/tests.rs") || below("tests") || below("benches")
}

/// The line ranges, from 0, of items under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<std::ops::RangeInclusive<usize>> {
    let line_of = |at: usize| code[..at].matches('\n').count();
    let starts = ["#[cfg(test)]", "#[cfg(all(test"].iter().flat_map(|mark| code.match_indices(mark));
    starts.map(|(at, _)| line_of(at)..=line_of(item_end(code, at))).collect()
}

/// Where the item that begins at `start` ends: its closing brace, or a semicolon before any brace.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

/// For each line whether its first character is inside a loop.
fn flows(code: &str) -> Vec<Flow> {
    let mut blocks: Vec<Flow> = Vec::new();
    let mut header = String::new();
    let mut flows = Vec::new();
    for line in code.lines() {
        flows.push(if blocks.contains(&Flow::Loop) { Flow::Loop } else { Flow::Straight });
        for c in line.chars() {
            match c {
                '{' => blocks.push(opens(&header)),
                '}' => drop(blocks.pop()),
                _ => {}
            }
            if matches!(c, '{' | '}' | ';') {
                header.clear();
            } else {
                header.push(c);
            }
        }
        header.push(' ');
    }
    flows
}

/// What a block is whose text since the last statement is `header`.
fn opens(header: &str) -> Flow {
    let counted = has_word(header, "for") && has_word(header, "in") && !has_word(header, "impl");
    if counted || has_word(header, "loop") || has_word(header, "while") { Flow::Loop } else { Flow::Straight }
}

/// `text` with comments and the insides of literals as spaces, line by line the same.
fn blank(text: &str) -> String {
    let mut blanker = Blanker { rest: text, code: String::with_capacity(text.len()) };
    while !blanker.rest.is_empty() {
        blanker.step();
    }
    blanker.code
}

struct Blanker<'t> {
    rest: &'t str,
    code: String,
}

impl Blanker<'_> {
    /// Takes one comment, one literal, or one character.
    fn step(&mut self) {
        let text = self.rest;
        if text.starts_with("//") {
            self.hide(text.find('\n').unwrap_or(text.len()));
        } else if text.starts_with("/*") {
            self.hide(block_comment(text));
        } else if let Some((prefix, len)) = self.raw_string() {
            self.keep(prefix);
            self.hide(len);
        } else if text.starts_with('"') {
            self.keep(1);
            let len = quoted(self.rest, '"');
            self.hide(len);
        } else if let Some(len) = char_literal(text) {
            self.hide(len);
        } else {
            self.keep(text.chars().next().map_or(0, char::len_utf8));
        }
    }

    fn keep(&mut self, len: usize) {
        let (kept, rest) = self.rest.split_at(len);
        self.code.push_str(kept);
        self.rest = rest;
    }

    fn hide(&mut self, len: usize) {
        let (hidden, rest) = self.rest.split_at(len);
        self.code.extend(hidden.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }

    /// The lengths of the opening and of the rest of a raw string that starts here.
    fn raw_string(&self) -> Option<(usize, usize)> {
        if self.code.ends_with(is_identifier) {
            return None;
        }
        let after = ["r", "br", "cr"].iter().find_map(|prefix| self.rest.strip_prefix(prefix))?;
        let body = after.trim_start_matches('#');
        let hashes = after.len() - body.len();
        let inside = body.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let len = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        Some((self.rest.len() - inside.len(), len))
    }
}

/// The length of the block comment `text` starts with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the inside of a literal up to and with its closing `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && c == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

/// The length of the character literal `text` starts with; `None` if it is a lifetime or anything else.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return Some(1 + quoted(inside, '\''));
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}
