//! What somebody may have meant by a name.

use std::{cell::Cell, collections::HashMap};

use weir_model::Hostname;

/// The longest name that is compared, in characters.
const LONGEST: usize = 128;

/// Most names that are compared for all hosts of one analysis: who has thousands of unknown ones has another trouble.
const MAX_COMPARED: usize = 50_000;

/// The hosts of a mesh by all that stands behind their first label, so that a host is compared with its neighbours alone.
pub(crate) struct Hosts<'h> {
    below: HashMap<&'h str, Vec<&'h str>>,
    left: Cell<usize>,
}

impl<'h> Hosts<'h> {
    pub(crate) fn new(hosts: impl IntoIterator<Item = &'h Hostname>) -> Self {
        let mut below: HashMap<&str, Vec<&str>> = HashMap::new();
        for host in hosts {
            let (label, rest) = split(host.as_str());
            below.entry(rest).or_default().push(label);
        }
        Self { below, left: Cell::new(MAX_COMPARED) }
    }

    /// The host that may have been meant.
    pub(crate) fn meant(&self, host: &str) -> Option<String> {
        let (label, rest) = split(host);
        let known = self.below.get(rest)?;
        self.left.set(self.left.get().checked_sub(known.len())?);
        let label = meant(label, known.iter().copied())?;
        Some(if rest.is_empty() { label } else { format!("{label}.{rest}") })
    }
}

fn split(host: &str) -> (&str, &str) {
    host.split_once('.').unwrap_or((host, ""))
}

/// The known name that is written most alike, if one is alike at all: at most a third of the letters differ, and three of a long name.
pub(crate) fn meant<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let given: Vec<char> = given.chars().take(LONGEST).collect();
    let most = given.len().div_ceil(3).clamp(1, 3);
    let alike = known.into_iter().filter_map(|name| {
        let distance = distance(&given, &name.chars().take(LONGEST).collect::<Vec<_>>(), most)?;
        (distance > 0).then_some((distance, name))
    });
    alike.min().map(|(_, name)| name.to_owned())
}

/// How many letters must be put in, taken out or changed to make one of the other, if no more than `most`. Levenshtein.
pub(crate) fn distance(one: &[char], other: &[char], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let (mut corner, mut left) = (i, i + 1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(other) {
            let changed = corner + usize::from(a != b);
            corner = *cell;
            left = changed.min(corner + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_almost_like_a_known_one_is_meant_and_no_other() {
        let known = ["ambient", "none", "waypoint", "istio.io/dataplane-mode"];
        for (given, want) in [
            ("ambinet", Some("ambient")),
            ("non", Some("none")),
            ("waypiont", Some("waypoint")),
            ("istio.io/dataplan-mode", Some("istio.io/dataplane-mode")),
            ("sidecar", None),
            ("", None),
            // What is known is not meant to be something else.
            ("none", None),
        ] {
            assert_eq!(meant(given, known).as_deref(), want, "{given}");
        }
    }
}
