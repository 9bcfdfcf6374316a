//! An explanation on paper: the verdict first, then what decided it, then everything that was looked at.

use std::fmt;

use super::{Action, Considered, Explanation, Foreseen, Missed, Outcome, Ruling};

/// Columns of a line.
const WIDTH: usize = 119;
/// Where what is said of a connection begins.
const MARGIN: usize = 9;
/// Where the name of a policy begins.
const NAMES: usize = 18;
/// Where a rule begins.
const RULES: usize = 4;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        labelled(f, &self.verdict.to_string(), &self.reason)?;
        let identity = self.peer.identity.as_deref().unwrap_or("no identity (plaintext)");
        labelled(f, "from", &format!("{identity}, at {}", self.peer.address))?;
        labelled(f, "to", &self.destination.to_string())?;
        if let Some(Foreseen { verdict, reason }) = &self.dry_run {
            labelled(f, "dry run", &format!("{verdict}: {reason}"))?;
        }
        for note in &self.notes {
            labelled(f, "note", note)?;
        }
        if self.policies.is_empty() && self.unknown.is_none() {
            return f.write_str("\nno policy covers it\n");
        }
        f.write_str("\nconsidered, in this order ('>' decides):\n")?;
        if let Some(name) = &self.unknown {
            let text = format!("{name}: what it says is not known, so it denies everything");
            wrap(f, &format!("{:<NAMES$}", "> unknown"), NAMES + RULES, &text)?;
        }
        self.policies.iter().try_for_each(|policy| consider(f, policy))
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
        })
    }
}

impl fmt::Display for Considered {
    /// As it stands among all that were considered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        consider(f, self)
    }
}

/// Writes a line of an explanation: a text behind its label, further lines below the text.
///
/// # Errors
/// Those of what is written to.
pub fn labelled(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    wrap(f, &format!("{label:<MARGIN$}"), MARGIN, text)
}

pub(crate) fn consider(f: &mut fmt::Formatter<'_>, policy: &Considered) -> fmt::Result {
    let dry = if policy.dry_run { ", dry run" } else { "" };
    let mark = if policy.decides { '>' } else { ' ' };
    let action = format!("{mark} {}{dry}", policy.action);
    let file = policy.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
    let result = match &policy.outcome {
        Outcome::Matches { index: None, line: None } => "matches".to_owned(),
        Outcome::Matches { index, line } => format!("matches by {}", place(*index, *line)),
        Outcome::DoesNotMatch { rules } if rules.is_empty() => "has no rules, so it matches nothing".to_owned(),
        Outcome::DoesNotMatch { .. } => "does not match".to_owned(),
        Outcome::Rejected { why } if policy.dry_run => format!("cannot be enforced: {why}"),
        Outcome::Rejected { why } => format!("cannot be enforced, so it denies everything: {why}"),
    };
    let text = format!("{} {}/{}{file}: {result}", policy.kind, policy.namespace, policy.name);
    wrap(f, &format!("{action:<NAMES$}"), NAMES + RULES, &text)?;
    match &policy.outcome {
        Outcome::DoesNotMatch { rules } => rules.iter().try_for_each(|Missed { index, line, why }| {
            let text = match (index, line) {
                (None, None) => why.clone(),
                (index, line) => format!("{}: {why}", place(*index, *line)),
            };
            let margin = NAMES + RULES;
            wrap(f, &" ".repeat(margin), margin + RULES, &text)
        }),
        Outcome::Matches { .. } | Outcome::Rejected { .. } => Ok(()),
    }
}

fn place(index: Option<u32>, line: Option<u32>) -> String {
    match (index, line) {
        (Some(index), Some(line)) => format!("spec.rules[{index}], line {line}"),
        (Some(index), None) => format!("spec.rules[{index}]"),
        (None, Some(line)) => format!("line {line}"),
        (None, None) => String::new(),
    }
}

/// Writes a text behind what stands before it, further lines behind a margin. A word that is longer than a line is cut, and what
/// would steer a terminal is shown as what it is not: some of it was written by others.
fn wrap(f: &mut fmt::Formatter<'_>, before: &str, margin: usize, text: &str) -> fmt::Result {
    let mut line = before.to_owned();
    let (mut used, mut empty) = (before.chars().count(), true);
    for word in text.split_whitespace() {
        let mut word = word.replace(char::is_control, "\u{fffd}");
        if !empty {
            if used + 1 + word.chars().count() <= WIDTH {
                line.push(' ');
                used += 1;
            } else {
                writeln!(f, "{}", line.trim_end())?;
                (line, used) = (" ".repeat(margin), margin);
            }
        }
        while used + word.chars().count() > WIDTH {
            let cut = word.char_indices().nth(WIDTH - used).map_or(word.len(), |(at, _)| at);
            let rest = word.split_off(cut);
            writeln!(f, "{line}{word}")?;
            (line, used, word) = (" ".repeat(margin), margin, rest);
        }
        used += word.chars().count();
        line.push_str(&word);
        empty = false;
    }
    writeln!(f, "{}", line.trim_end())
}
