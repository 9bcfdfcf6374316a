//! `/debug/authz`: what would be decided of a connection, and why.

use serde_json::Value;
use weir_telemetry::Query;
use weir_world::{Client, Target, World};

/// What is expected of a query.
const EXPECTED: &str = "expected ?from=SOURCE&to=NAMESPACE/POD:PORT, where SOURCE is NAMESPACE/SERVICE-ACCOUNT, a spiffe:// identity or \
     \"plaintext\", with @ADDRESS behind it where the address matters";

/// Answers.
///
/// # Errors
/// What is wrong with the question, or why it has no answer.
pub(crate) fn answer(world: &World, query: &Query) -> Result<Value, String> {
    let [Some(from), Some(to)] = query.fields(["from", "to"])? else { return Err(EXPECTED.to_owned()) };
    let client: Client = from.parse().map_err(|error| format!("{error}"))?;
    let target: Target = to.parse().map_err(|error| format!("{error}"))?;
    let explanation = world.explain(&client, &target).map_err(|error| error.to_string())?;
    serde_json::to_value(explanation).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use weir_model::{PolicyAction, Tunnel};

    use super::*;
    use crate::testing::{from, policy, world};

    fn ask(query: &str) -> Result<Value, String> {
        let world = world([policy("no-b", PolicyAction::Deny, [from("b")])], Tunnel::None);
        answer(&world, &query.parse()?)
    }

    #[test]
    fn the_answer_names_the_rule_that_decides() {
        for (query, verdict, at, note) in [
            ("from=ns/b@10.0.0.9&to=ns/b:80", "DENY", "10.0.0.2:80", None),
            ("from=ns/b@fd00::9&to=ns/b:80", "DENY", "[fd00::2]:80", None),
            ("from=ns/b&to=ns/b:80", "DENY", "10.0.0.2:80", Some("the client's address is that of ns/b")),
            ("from=ns/c@10.0.0.9&to=ns/b:80", "ALLOW", "10.0.0.2:80", None),
            ("from=plaintext@fd00::9&to=ns/b:80", "ALLOW", "[fd00::2]:80", None),
            (
                "from=spiffe://x/ns/ns/sa/b@fd00::9&to=ns/b:80",
                "DENY",
                "[fd00::2]:80",
                Some("before any policy is asked"),
            ),
        ] {
            let answer = ask(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!((&answer["verdict"], &answer["destination"]), (&verdict.into(), &at.into()), "{query}");
            let by_policy = verdict == "DENY" && !query.contains("spiffe");
            let decider = if by_policy { "no-b".into() } else { Value::Null };
            assert_eq!(answer["decidedBy"]["name"], decider, "{query}");
            let notes = answer["notes"].as_array().unwrap();
            assert_eq!(notes.len(), usize::from(note.is_some()), "{query}: {notes:?}");
            assert!(notes.iter().all(|found| found.as_str().unwrap().contains(note.unwrap())), "{query}: {notes:?}");
        }
    }

    #[test]
    fn a_question_without_an_answer_says_what_is_missing() {
        for (query, part) in [
            ("", "expected ?from="),
            ("from=ns/b", "expected ?from="),
            ("from=b&to=ns/b:80", "there is no '/'"),
            ("from=ns/b&to=b:80", "there is no '/'"),
            ("from=ns/b&to=ns/nobody:80", "no pod nobody in namespace ns"),
            ("from=ns/b&to=ns/a:80", "ns/a is not enrolled in the mesh"),
            ("from=ns/nobody&to=ns/b:80", "say one: ns/nobody@ADDRESS"),
            ("from=plaintext&to=ns/b:80", "say it: plaintext@ADDRESS"),
            ("from=ns/b&to=ns/b:80&also=x", "there is: from, to"),
        ] {
            let error = ask(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
