//! `cargo xtask dash render`: panels as pictures, of what a Prometheus knows, asked with the dashboards' own queries.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::boards;
use super::model::{Choices, Dashboard, Panel, Query, Shape, Variable};
use super::picture::{Line, svg};

/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most an answer may have, in bytes.
const MOST: u64 = 64 << 20;
/// Points of a line.
const POINTS: u64 = 120;

#[derive(clap::Args)]
pub(crate) struct Render {
    /// The Prometheus to ask, over plain HTTP.
    #[arg(long, value_name = "http://HOST:PORT")]
    prometheus: String,
    /// How much of the past is drawn.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(POINTS..=86_400))]
    seconds: u64,
    /// The value of a variable; all values where none is given. As often as needed.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Only panels whose dashboard, title or both contain this, as in `service` or `agent: refused`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Where pictures go.
    #[arg(long, value_name = "DIR", default_value = "docs/images")]
    out: PathBuf,
    /// Draw PNG rather than SVG, by `rsvg-convert` of Debian's package librsvg2-bin.
    #[arg(long)]
    png: bool,
}

impl Render {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.out)?;
        let wanted = |board: &Dashboard, panel: &Panel| {
            format!("{}: {}", board.file, panel.title).to_lowercase().contains(&self.only.to_lowercase())
        };
        let mut drawn = 0;
        for board in boards::all() {
            for (_, panel) in board.panels().filter(|(_, panel)| panel.shape == Shape::Lines && wanted(&board, panel)) {
                let lines = self.lines(&board, panel)?;
                if lines.is_empty() {
                    println!("{}: {}: nothing to draw", board.file, panel.title);
                    continue;
                }
                let picture = svg(panel.title, panel.unit, &lines);
                let file = self.out.join(file_name(board.file, panel.title));
                let path = file.with_extension(if self.png { "png" } else { "svg" });
                if self.png {
                    png(&picture, &path)?
                } else {
                    fs::write(&path, picture)?
                }
                println!("{}", path.display());
                drawn += 1;
            }
        }
        ensure!(drawn > 0, "no panel has {:?} in its name and data in {}", self.only, self.prometheus);
        Ok(())
    }

    fn lines(&self, board: &Dashboard, panel: &Panel) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for query in &panel.queries {
            let expr = self.filled(board, &query.expr)?;
            let answer = self.ask(&expr).with_context(|| format!("{}: {}: {expr}", board.file, panel.title))?;
            lines.extend(answer.as_array().context("a matrix is a list")?.iter().map(|series| line(query, series)));
        }
        // The busiest first: only so many are drawn.
        let sum =
            |line: &Line| line.points.iter().map(|(_, value)| value).filter(|value| value.is_finite()).sum::<f64>();
        lines.sort_by(|a, b| sum(b).total_cmp(&sum(a)).then_with(|| a.name.cmp(&b.name)));
        Ok(lines)
    }

    /// A query with its variables filled in.
    fn filled(&self, board: &Dashboard, expr: &str) -> anyhow::Result<String> {
        let step = (self.seconds / POINTS).max(1);
        let mut expr = expr.replace("$__rate_interval", &format!("{}s", (4 * step).max(60)));
        // Longer names first: one may begin with another.
        let mut variables: Vec<&Variable> = board.variables.iter().collect();
        variables.sort_by_key(|variable| std::cmp::Reverse(variable.name.len()));
        for variable in variables {
            let given =
                self.set.iter().filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == variable.name);
            let value = match (given, &variable.from) {
                (Some((_, value)), _) => value.to_owned(),
                (None, Choices::Fixed { words, .. }) => words.join("|"),
                (None, Choices::One { .. } | Choices::Many { .. }) => ".*".to_owned(),
            };
            expr = expr.replace(&format!("${}", variable.name), &value);
        }
        ensure!(!expr.contains('$'), "a variable of {expr} is not known");
        Ok(expr)
    }

    fn ask(&self, expr: &str) -> anyhow::Result<Value> {
        let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={end}&step={}",
            percent_encoded(expr),
            end - self.seconds,
            (self.seconds / POINTS).max(1)
        );
        let host = self.prometheus.strip_prefix("http://").context("expected http://HOST:PORT")?.trim_end_matches('/');
        let mut stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer comes in one piece, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(MOST).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
        let mut answer: Value =
            serde_json::from_str(body).with_context(|| head.lines().next().unwrap_or_default().to_owned())?;
        if answer["status"] != "success" {
            bail!("{}", answer["error"].as_str().unwrap_or("no reason given"));
        }
        Ok(answer["data"]["result"].take())
    }
}

/// A drawing's pixels, two for each of its units: screens are dense.
fn png(svg: &str, path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("rsvg-convert");
    command.args(["--format", "png", "--zoom", "2", "--output"]).arg(path).stdin(Stdio::piped());
    let mut drawing = command.spawn().context("rsvg-convert, which draws PNG: install librsvg2-bin and a font")?;
    // Taken, so that it ends.
    drawing.stdin.take().context("its input")?.write_all(svg.as_bytes())?;
    let status = drawing.wait()?;
    ensure!(status.success(), "rsvg-convert: {status}");
    Ok(())
}

fn line(query: &Query, series: &Value) -> Line {
    let points = series["values"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|point| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?)));
    Line { name: named(&query.legend, &series["metric"]), points: points.collect() }
}

/// A legend with the labels of a series.
fn named(legend: &str, labels: &Value) -> String {
    let mut name = String::new();
    let mut rest = legend;
    while let Some((before, after)) = rest.split_once("{{") {
        let (label, after) = after.split_once("}}").unwrap_or((after, ""));
        name.push_str(before);
        name.push_str(labels[label].as_str().unwrap_or_default());
        rest = after;
    }
    name + rest
}

fn file_name(board: &str, title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(board.to_owned()).chain(words.map(str::to_ascii_lowercase)).collect::<Vec<_>>().join("-")
}

/// RFC 3986 §2.1, everything but what is never reserved.
fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn legends_and_queries_are_filled_in() {
        assert_eq!(named("{{a}} : {{b}} ({{none}})", &json!({ "a": "x", "b": "y" })), "x : y ()");
        assert_eq!(percent_encoded("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
        assert_eq!(file_name("agent", "TCP (sent/received)"), "agent-tcp-sent-received");
        let render = Render {
            prometheus: String::new(),
            seconds: 300,
            set: vec!["service=web".to_owned()],
            only: String::new(),
            out: PathBuf::new(),
            png: false,
        };
        for board in boards::all() {
            for query in board.panels().flat_map(|(_, panel)| &panel.queries) {
                let filled = render.filled(&board, &query.expr).unwrap();
                assert!(!query.expr.contains("\"$service\"") || filled.contains("\"web\""), "{filled}");
            }
        }
    }
}
