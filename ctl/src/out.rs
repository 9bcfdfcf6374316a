//! What is printed: tables for people, JSON or YAML for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use serde_json::Value;

use crate::cli::Format;

/// Between two columns.
const GAP: &str = "  ";
/// The widest a column is made for the sake of its longest cell, in characters; but for the last.
const WIDEST: usize = 60;

/// Where answers go.
pub(crate) struct Out<'w> {
    to: &'w mut dyn Write,
    pub(crate) format: Format,
    colours: bool,
}

/// What a cell says of its thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Doubtful,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text as a terminal may show it: what would end the line, or tell the terminal something, is escaped.
    pub(crate) fn new(text: &str, tone: Tone) -> Self {
        Self { text: shown(text), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// The text without anything a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    let safe = |c: char| {
        !c.is_control() && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().all(safe) {
        return text.to_owned();
    }
    text.chars().map(|c| if safe(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

impl<'w> Out<'w> {
    pub(crate) fn new(to: &'w mut dyn Write, format: Format, colours: bool) -> Self {
        Self { to, format, colours }
    }

    /// Whether standard output may have colours: a terminal, and nobody said no. <https://no-color.org>
    pub(crate) fn may_colour() -> bool {
        io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// A line.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.to, "{text}")?)
    }

    /// A line with a tone.
    pub(crate) fn toned(&mut self, text: &str, tone: Tone) -> Result<()> {
        let text = self.painted(&shown(text), tone);
        self.line(&text)
    }

    /// A text that ends its own lines.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        Ok(self.to.write_all(text.as_bytes())?)
    }

    /// What was printed is to be seen now.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.to.flush()?)
    }

    /// One value for programs, whole.
    pub(crate) fn value(&mut self, value: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => self.text(&yaml(value)),
            Format::Json | Format::Table => self.line(&serde_json::to_string_pretty(value)?),
        }
    }

    fn painted(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Doubtful => "33",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A table that may come in parts: the first one says how wide its columns are.
pub(crate) struct Table {
    head: &'static [&'static str],
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new(head: &'static [&'static str]) -> Self {
        Self { head, widths: Vec::new() }
    }

    /// Prints rows, and before the first ones the head.
    pub(crate) fn rows(&mut self, out: &mut Out<'_>, rows: &[Vec<Cell>]) -> Result<()> {
        if self.widths.is_empty() {
            let width = |at: usize, name: &str| {
                let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
                cells.chain([name.chars().count()]).max().unwrap_or_default().min(WIDEST.max(name.len()))
            };
            self.widths = self.head.iter().enumerate().map(|(at, name)| width(at, name)).collect();
            let head: Vec<Cell> = self.head.iter().map(|name| Cell::from(*name)).collect();
            self.row(out, &head)?;
        }
        rows.iter().try_for_each(|row| self.row(out, row))
    }

    fn row(&self, out: &mut Out<'_>, row: &[Cell]) -> Result<()> {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            line.push_str(&out.painted(&cell.text, cell.tone));
            if at + 1 < row.len() {
                let width = self.widths.get(at).copied().unwrap_or_default();
                let missing = width.saturating_sub(cell.text.chars().count());
                line.push_str(&" ".repeat(missing));
                line.push_str(GAP);
            }
        }
        out.line(line.trim_end())
    }
}

/// A list that may come in parts: rows of a table, or items of one list for programs.
pub(crate) struct List {
    table: Table,
    begun: bool,
}

impl List {
    pub(crate) fn new(head: &'static [&'static str]) -> Self {
        Self { table: Table::new(head), begun: false }
    }

    /// Prints items, each as a row of these cells.
    pub(crate) fn items(
        &mut self,
        out: &mut Out<'_>,
        items: &[Value],
        row: impl Fn(&Value) -> Vec<Cell>,
    ) -> Result<()> {
        match out.format {
            Format::Table => {
                let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
                if rows.is_empty() { Ok(()) } else { self.begin(out, |table, out| table.rows(out, &rows)) }
            }
            Format::Json => items.iter().try_for_each(|item| {
                out.text(if std::mem::replace(&mut self.begun, true) { ",\n" } else { "[\n" })?;
                let text = serde_json::to_string_pretty(item)?;
                out.text(&indented(&text, "  "))
            }),
            Format::Yaml => items.iter().try_for_each(|item| {
                self.begun = true;
                out.text(&yaml(&Value::Array(vec![item.clone()])))
            }),
        }
    }

    fn begin(&mut self, out: &mut Out<'_>, print: impl Fn(&mut Table, &mut Out<'_>) -> Result<()>) -> Result<()> {
        self.begun = true;
        print(&mut self.table, out)
    }

    /// Ends it; `nothing` says to people that there was none.
    pub(crate) fn end(self, out: &mut Out<'_>, nothing: &str) -> Result<()> {
        match (out.format, self.begun) {
            (Format::Table, false) => out.line(nothing),
            (Format::Table | Format::Yaml, true) => Ok(()),
            (Format::Json, true) => out.text("\n]\n"),
            (Format::Json | Format::Yaml, false) => out.line("[]"),
        }
    }
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}")).collect::<Vec<_>>().join("\n")
}

/// YAML of a JSON value. YAML 1.2 §10: texts that could be read as anything else are quoted as JSON quotes them.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(&mut text, value, 0, "");
    text
}

fn write_yaml(text: &mut String, value: &Value, depth: usize, lead: &str) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (key, value)) in fields.iter().enumerate() {
                let lead = if at == 0 { lead } else { "" };
                let pad = if lead.is_empty() { pad.as_str() } else { "" };
                text.push_str(&format!("{pad}{lead}{}:", scalar(key)));
                nested(text, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&pad);
                if item.as_array().is_some_and(|items| !items.is_empty()) {
                    text.push_str("-\n");
                    write_yaml(text, item, depth + 1, "");
                } else {
                    write_yaml(text, item, depth + 1, "- ");
                }
            }
        }
        Value::Object(_) => text.push_str(&format!("{lead}{{}}\n")),
        Value::Array(_) => text.push_str(&format!("{lead}[]\n")),
        Value::String(one) => text.push_str(&format!("{lead}{}\n", scalar(one))),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&format!("{lead}{value}\n")),
    }
}

/// The value of a key that was just written.
fn nested(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_yaml(text, value, depth + 1, "");
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write_yaml(text, value, depth, "");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            write_yaml(text, value, 0, " ");
        }
    }
}

/// Bare where nobody can take it for anything else.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let word = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) && text.chars().all(plain);
    let lower = text.to_ascii_lowercase();
    let meant = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str());
    if word && !meant { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// The text at a place of a value, `-` where there is none.
pub(crate) fn at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("-")
}

/// The items of a list at a place of a value; none where there is none.
pub(crate) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// So many of them.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// The number at a place of a value; 0 where there is none.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn printed(format: Format, colours: bool, print: impl Fn(&mut Out<'_>) -> Result<()>) -> String {
        let mut text = Vec::new();
        print(&mut Out::new(&mut text, format, colours)).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_table_comes_in_parts_and_keeps_its_columns() {
        let text = printed(Format::Table, false, |out| {
            let mut table = Table::new(&["NAME", "STATE"]);
            table.rows(out, &[vec!["a".into(), Cell::new("ok", Tone::Good)], vec!["longer".into(), "x".into()]])?;
            table.rows(out, &[vec!["longer-still".into(), "".into()]])
        });
        assert_eq!(text, "NAME    STATE\na       ok\nlonger  x\nlonger-still\n");
    }

    #[test]
    fn colours_are_only_where_they_may_be_and_nothing_of_others_reaches_the_terminal() {
        let print =
            |out: &mut Out<'_>| Table::new(&["A"]).rows(out, &[vec![Cell::new("b\u{1b}[2J\n\u{202e}", Tone::Bad)]]);
        assert_eq!(printed(Format::Table, true, print), "A\n\u{1b}[31mb\\u{1b}[2J\\u{a}\\u{202e}\u{1b}[0m\n");
        assert_eq!(printed(Format::Table, false, print), "A\nb\\u{1b}[2J\\u{a}\\u{202e}\n");
    }

    #[test]
    fn a_list_is_one_list_for_programs_however_many_parts_it_comes_in() {
        for (format, want) in [
            (Format::Json, "[\n  1,\n  {\n    \"a\": 2\n  }\n]\n"),
            (Format::Yaml, "- 1\n- a: 2\n"),
            (Format::Table, "N\n1\n{\"a\":2}\n"),
        ] {
            let text = printed(format, false, |out| {
                let mut list = List::new(&["N"]);
                for part in [json!(1), json!({"a": 2})] {
                    list.items(out, &[part], |item| vec![item.to_string().into()])?;
                }
                list.end(out, "none")
            });
            assert_eq!(text, want, "{format:?}");
            let none = printed(format, false, |out| List::new(&["N"]).end(out, "none"));
            assert_eq!(none, if format == Format::Table { "none\n" } else { "[]\n" });
        }
    }

    #[test]
    fn yaml_quotes_what_could_be_taken_for_something_else() {
        let value = json!({
            "a": "plain", "b": "yes", "c": "1", "d": ["x", {"e": [], "f": {}}, ["g"]], "h": null, "i": "two words", "j": {"k": "a: b"},
        });
        let want = "a: plain\nb: \"yes\"\nc: \"1\"\nd:\n- x\n- e: []\n  f: {}\n-\n  - g\nh: null\ni: \"two words\"\nj:\n  k: \"a: b\"\n";
        assert_eq!(yaml(&value), want);
    }

    proptest! {
        #[test]
        fn what_a_terminal_is_shown_has_no_control_characters(text in ".*") {
            prop_assert!(shown(&text).chars().all(|c| !c.is_control()));
        }
    }
}
