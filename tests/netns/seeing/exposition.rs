//! Prometheus' text format 0.0.4, read strictly: what `promtool check metrics` would not take is an error.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    /// In the order of the text.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Reads a whole page.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let (mut types, mut helps, mut seen) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let (mut samples, mut last) = (Vec::new(), String::new());
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| format!("no help text: {line}"))?;
            if help.is_empty() || !helps.insert(name.to_owned()) {
                return Err(format!("empty or second help: {line}"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if !["counter", "gauge", "histogram"].contains(&kind)
                || types.insert(name.to_owned(), kind.to_owned()).is_some()
            {
                return Err(format!("unknown or second type: {line}"));
            }
            last = name.to_owned();
        } else {
            let sample = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
            // All samples of a metric stand together, below its type.
            if sample.name != last {
                return Err(format!("not below its own type: {line}"));
            }
            if !helps.contains(&sample.name) {
                return Err(format!("no help: {line}"));
            }
            if types.get(&sample.name).is_some_and(|kind| kind == "counter") && !sample.name.ends_with("_total") {
                return Err(format!("a counter's name ends with _total: {line}"));
            }
            let mut labels = sample.labels.clone();
            labels.sort();
            let keys: BTreeSet<&String> = labels.iter().map(|(key, _)| key).collect();
            if keys.len() != labels.len() || !seen.insert((sample.name.clone(), labels)) {
                return Err(format!("a label or series twice: {line}"));
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty()
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return None;
            }
            let (value, after) = value(after)?;
            labels.push((key.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
            if rest.len() == after.len() && !rest.starts_with('}') {
                return None;
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows.
fn value(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                '\\' => '\\',
                '"' => '"',
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

#[test]
fn what_is_wrong_with_a_page_is_found() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    for good in ["a_total 1\n", "a_total{x=\"\\\"\\\\\\n,}\",y=\"\"} 2.5\n", ""] {
        assert!(parse(&format!("{head}{good}")).is_ok(), "{good}");
    }
    for bad in [
        "a_total 1",
        "b_total 1\n",
        "a_total{x=\"1\"} 1\na_total{x=\"1\"} 2\n",
        "a_total{x=\"1\",x=\"2\"} 1\n",
        "a_total{x=\"1\" y=\"2\"} 1\n",
        "a_total{x=1} 1\n",
        "a_total{x=\"\\q\"} 1\n",
        "a_total one\n",
        "# TYPE a_total gauge\n",
        "# TYPE c_total counter\nc_total 1\n",
    ] {
        assert!(parse(&format!("{head}{bad}")).is_err(), "{bad}");
    }
}
