//! What came of a case at one proxy, as facts that can be compared and read.

use std::fmt;

/// The longest text of a fact that is shown whole.
const SHOWN: usize = 90;

/// Facts, in the order in which they were seen.
#[derive(Debug, Default)]
pub(crate) struct Observed(Vec<String>);

impl Observed {
    pub(crate) fn note(&mut self, fact: impl AsRef<[u8]>) {
        self.0.push(shown(fact.as_ref()));
    }

    pub(crate) fn extend(&mut self, facts: Vec<String>) {
        self.0.extend(facts);
    }
}

/// Bytes as people read them, the end of long ones left out.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match bytes.get(..SHOWN) {
        Some(begin) if bytes.len() > SHOWN => format!("{}… ({} bytes)", text(begin), bytes.len()),
        Some(_) | None => text(bytes),
    }
}

/// What one said or did and the other did not.
#[derive(Debug)]
pub(crate) struct Difference {
    envoy: Vec<String>,
    ours: Vec<String>,
}

impl Difference {
    /// None if they did the same.
    pub(crate) fn between(envoy: Observed, ours: Observed) -> Option<Self> {
        let without = |all: &[String], others: &[String]| {
            let mut others = others.to_vec();
            let mut alone = Vec::new();
            for fact in all {
                match others.iter().position(|other| other == fact) {
                    Some(at) => drop(others.swap_remove(at)),
                    None => alone.push(fact.clone()),
                }
            }
            alone
        };
        let (envoy, ours) = (without(&envoy.0, &ours.0), without(&ours.0, &envoy.0));
        if envoy.is_empty() && ours.is_empty() {
            return None;
        }
        Some(Self { envoy: brief(&envoy, &ours), ours: brief(&ours, &envoy) })
    }
}

/// What every plain request and its answer have.
const PLAIN: [&str; 6] = [
    "> host: web.test",
    "> x-envoy-attempt-count: 1",
    "> x-forwarded-proto: http",
    "> no body",
    "< content-length: 2",
    "< body ok",
];

/// Facts as they are shown: that a request was sent on says enough if the other sent none; the same many times is said once.
fn brief(facts: &[String], others: &[String]) -> Vec<String> {
    let is_sent = |facts: &[String]| facts.iter().any(|fact| fact.starts_with("> ") && fact.contains(" HTTP/"));
    let is_alone = is_sent(facts) && !is_sent(others);
    let mut brief: Vec<(&String, usize)> = Vec::new();
    for fact in facts.iter().filter(|fact| !is_alone || !PLAIN.contains(&fact.as_str())) {
        match brief.last_mut() {
            Some((last, times)) if *last == fact => *times += 1,
            Some(_) | None => brief.push((fact, 1)),
        }
    }
    let text =
        |(fact, times): (&String, usize)| if times == 1 { fact.clone() } else { format!("{fact} ({times} times)") };
    brief.into_iter().map(text).collect()
}

/// Two cells of a table.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |facts: &[String]| facts.iter().map(|fact| code(fact)).collect::<Vec<_>>().join("<br>");
        write!(f, "{} | {}", cells(&self.envoy), cells(&self.ours))
    }
}

/// Text in a cell of a table, letter by letter.
pub(crate) fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "\\x60").replace('|', "\\|"))
}

#[test]
fn what_both_did_is_no_difference() {
    let observed = |facts: &[&str]| Observed(facts.iter().map(ToString::to_string).collect());
    assert!(Difference::between(observed(&["a", "b"]), observed(&["b", "a"])).is_none());
    let difference = Difference::between(observed(&["a", "a", "x|y"]), observed(&["b", "a"])).unwrap();
    assert_eq!(difference.to_string(), "`a`<br>`x\\|y` | `b`");
    assert_eq!(shown(&[b'a'; 100]), format!("{}… (100 bytes)", "a".repeat(SHOWN)));
    assert_eq!(shown(b"a\r\n\x80\""), "a\\r\\n\\x80\"");
}
