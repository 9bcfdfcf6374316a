//! What is wrong with one program of the mesh.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Glance, Problem, row};
use crate::{
    out::{Cell, Tone, at, counted, list},
    place::Answered,
    version::OWN,
    when,
};

/// A certificate that is valid no longer than this should have been renewed: they are at half of their time, of a day mostly.
const NEAR: Duration = Duration::from_secs(3_600);

/// Looks at a program.
pub(super) async fn look(one: &Answered, now: SystemTime, glance: &mut Glance) {
    let who = format!("{} {}", one.component(), one.name());
    let before = glance.found;
    let summary = match &one.summary {
        Ok(summary) => summary,
        Err(error) => {
            let why = one.program.as_ref().and_then(|program| program.unready.clone());
            let what = why.map_or_else(|| format!("{error:#}"), |why| format!("is not ready: {why}"));
            let next = match &one.program {
                Some(program) => format!("kubectl -n {} describe pod {}", program.namespace, program.pod),
                None => "start it, or leave its URL out".to_owned(),
            };
            glance.problem(Problem::new(who, what, next));
            let cells = vec![
                one.component().into(),
                one.name().into(),
                "-".into(),
                "-".into(),
                "-".into(),
                Cell::new("no answer", Tone::Bad),
            ];
            glance.programs.push(cells);
            glance
                .values
                .push(json!({ "component": one.component(), "name": one.name(), "error": format!("{error:#}") }));
            return;
        }
    };
    if let Some(why) = one.program.as_ref().and_then(|program| program.unready.as_ref()) {
        glance.problem(Problem::new(
            &who,
            format!("is not ready: {why}"),
            "weirctl status says so until it is; its log says what it waits for",
        ));
    }
    version(&who, summary, glance);
    config(&who, summary, glance);
    certificates(&who, summary, now, glance);
    caught(&who, summary, glance);
    if one.component() == "weir-control" {
        synced(one, glance).await;
    }
    let state = match glance.found - before {
        0 => Cell::new("ok", Tone::Good),
        1 => Cell::new("1 problem", Tone::Bad),
        found => Cell::new(&format!("{found} problems"), Tone::Bad),
    };
    let (cells, value) = row(one, summary, state);
    glance.programs.push(cells);
    glance.values.push(value);
}

fn version(who: &str, summary: &Value, glance: &mut Glance) {
    let version = at(summary, "/version");
    if version != OWN {
        glance.problem(Problem::new(
            who,
            format!("is of version {version}, and weirctl of {OWN}"),
            "bring all of the mesh to one version",
        ));
    }
}

/// What it was told, and by whom.
fn config(who: &str, summary: &Value, glance: &mut Glance) {
    if at(summary, "/config/rejectedAt") != "-" {
        let errors = list(summary, "/config/errors");
        let first = errors.first().and_then(Value::as_str).unwrap_or("-");
        let more = match errors.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let what =
            format!("keeps its last good configuration since {}: {first}{more}", at(summary, "/config/rejectedAt"));
        glance.problem(Problem::new(who, what, "correct what it names"));
    }
    if summary.pointer("/control/connected") == Some(&json!(false)) {
        let lost = match at(summary, "/control/lastLost/reason") {
            "-" => "it never was there".to_owned(),
            reason => format!("since {}: {reason}", at(summary, "/control/lastLost/at")),
        };
        glance.problem(Problem::new(
            who,
            format!("has no control plane, {lost}"),
            "what it knows stays in force; look at weir-control and at the way there",
        ));
    }
    if let Some(refused @ 1..) = summary.pointer("/config/refused").and_then(Value::as_u64) {
        glance.problem(Problem::new(
            who,
            format!("refused {}", counted(refused, "object")),
            "its /debug/configz names each with its errors: weirctl analyze, or kubectl describe",
        ));
    }
    for lost in list(summary, "/config/notFollowed") {
        let what = format!("cannot follow {}", lost.as_str().map_or_else(|| lost.to_string(), str::to_owned));
        glance.problem(Problem::new(who, what, "give its role the verbs list and watch on it"));
    }
}

fn certificates(who: &str, summary: &Value, now: SystemTime, glance: &mut Glance) {
    for one in list(summary, "/certificates") {
        let failure = match at(one, "/lastFailure") {
            "-" => String::new(),
            failure => format!(": {failure}"),
        };
        let left = when::read(at(one, "/expirationTime")).map(|at| at.duration_since(now).unwrap_or_default());
        let what = match (at(one, "/state"), left) {
            ("Valid", Some(left)) if left < NEAR => format!("expires in {}", when::short(left)),
            ("Valid", _) => continue,
            ("Waiting", _) => "was not issued yet".to_owned(),
            (state, _) => format!("is {}", state.to_lowercase()),
        };
        let what = format!("the certificate of {} {what}{failure}", at(one, "/identity"));
        glance.problem(Problem::new(
            who,
            what,
            "look at the CA, and at the agent's way to it: its log says what it was answered",
        ));
    }
}

/// Pods of its node that should be caught and are not.
fn caught(who: &str, summary: &Value, glance: &mut Glance) {
    for pod in list(summary, "/pods").iter().filter(|pod| at(pod, "/state") == "Failing") {
        let what = format!("cannot catch {}: {}", at(pod, "/uid"), at(pod, "/reason"));
        glance.problem(Problem::new(
            who,
            what,
            "it is tried again; the agent's log and docs/troubleshooting.md say more",
        ));
    }
}

/// Who of those it serves does not have what it should.
async fn synced(one: &Answered, glance: &mut Glance) {
    let subscribers = match one.server.ask("/debug/syncz", &[]).await {
        Ok(subscribers) => subscribers,
        Err(error) => return glance.problem(Problem::new(one.name(), format!("{error:#}"), "ask it again")),
    };
    let all = list(&subscribers, "");
    let mut behind: u64 = 0;
    for subscriber in all {
        for (kind, standing) in subscriber["types"].as_object().into_iter().flatten() {
            let kind = kind.rsplit('.').next().unwrap_or(kind);
            if standing["refused"].is_object() {
                let what =
                    format!("refuses {kind} of weir-control {}: {}", one.name(), at(standing, "/refused/reason"));
                glance.problem(Problem::new(
                    at(subscriber, "/proxy"),
                    what,
                    "versions differ, or an object is beyond it: correct that object",
                ));
            } else if standing["inSync"] == json!(false) {
                behind += 1;
            }
        }
    }
    let subscribers = counted(u64::try_from(all.len()).unwrap_or(u64::MAX), "subscriber");
    glance.count(
        "in sync",
        match behind {
            0 => format!("{subscribers} of {}", one.name()),
            _ => format!("{subscribers} of {}, with {} under way", one.name(), counted(behind, "answer")),
        },
    );
}
