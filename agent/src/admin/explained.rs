//! `/debug/explain`: what becomes of a connection or a request, hop by hop, as this agent knows the mesh at this moment. It leads connections and lets them in;
//! what a waypoint makes of a request it does not know.

use std::{sync::Arc, time::SystemTime};

use rand::{SeedableRng, rngs::SmallRng};
use serde_json::Value;
use weir_explain::{FIELDS, Question, Scene, Served, explain};
use weir_manifest::KeySource;
use weir_model::{Namespace, WorkloadUid};
use weir_telemetry::Query;
use weir_token::{KeySet, Keys};
use weir_world::{Thing, World};

/// What an agent knows when it is asked.
struct Known<'w>(&'w World);

/// Answers.
///
/// # Errors
/// What is wrong with the question, or why it has no answer.
pub(crate) fn answer(world: &World, query: &Query) -> Result<Value, String> {
    let question = Question::read(query.fields(FIELDS)?).map_err(|error| error.to_string())?;
    // The same question gets the same answer.
    let explained = explain(&Known(world), &question, &mut SmallRng::seed_from_u64(0));
    serde_json::to_value(explained.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

impl Keys for Known<'_> {
    fn keys(&self, _source: &KeySource) -> Option<Arc<KeySet>> {
        None
    }
}

impl Scene for Known<'_> {
    fn world(&self) -> &World {
        self.0
    }

    fn serving(&self, _namespace: &Namespace, _gateway: &str) -> Option<Served> {
        None
    }

    fn labels(&self, _workload: &WorkloadUid) -> Option<Vec<(&str, &str)>> {
        None
    }

    fn binding(&self, _thing: &Thing) -> Option<String> {
        None
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{PolicyAction, Tunnel};

    use super::*;
    use crate::testing::{bound, from, policy, world};

    fn ask(world: &World, query: &str) -> Result<Value, String> {
        answer(world, &query.parse()?)
    }

    #[test]
    fn both_of_an_agents_hops_are_explained() {
        let world = world([policy("no-a", PolicyAction::Deny, [from("a")])], Tunnel::Hbone);
        for (query, verdict, hops, reason) in [
            ("from=ns/a@10.0.0.1&to=ns/b:80", "DENY", 2, "no-a"),
            ("from=ns/a@fd00::1&to=[fd00::2]:80", "DENY", 2, "no-a"),
            ("from=ns/b&to=10.0.0.1:80", "ALLOW", 2, "it reaches ns/a"),
            ("from=plaintext@10.0.0.9&to=ns/b:80", "ALLOW", 2, "it reaches ns/b"),
            ("from=ns/a&to=192.0.2.1:80", "ALLOW", 1, "it leaves the mesh in the clear"),
            ("from=ns/a&to=ns/b:15008", "DENY", 1, "15008"),
        ] {
            let answer = ask(&world, query).unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(answer["verdict"], verdict, "{query}: {answer:#}");
            assert_eq!(answer["hops"].as_array().unwrap().len(), hops, "{query}: {answer:#}");
            assert!(answer["reason"].as_str().unwrap().contains(reason), "{query}: {answer:#}");
        }
    }

    #[test]
    fn what_a_waypoint_does_an_agent_does_not_know() {
        let world = bound();
        for to in ["10.96.0.1:80", "[fd00:96::1]:80"] {
            let answer = ask(&world, &format!("from=ns/a&to={to}&request=GET%20/")).unwrap();
            assert_eq!(
                (&answer["verdict"], &answer["hops"][0]["verdict"]),
                (&"UNKNOWN".into(), &"ALLOW".into()),
                "{answer:#}"
            );
            assert!(answer["hops"][0]["reason"].as_str().unwrap().contains("waypoint"), "{answer:#}");
            assert!(answer["reason"].as_str().unwrap().contains("ns/gate"), "{answer:#}");
        }
    }

    #[test]
    fn a_question_without_an_answer_says_what_is_missing() {
        let world = world([], Tunnel::Hbone);
        for (query, part) in [
            ("", "expected ?from="),
            ("from=b&to=ns/b:80", "there is no '/'"),
            ("from=ns/a&to=ns/nobody:80", "nobody"),
            ("from=ns/a&to=ns/b:80&request=GET", "expected METHOD /PATH"),
            ("from=ns/a&to=ns/b:80&also=x", "there is: from, to, request, headers"),
        ] {
            let error = ask(&world, query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
