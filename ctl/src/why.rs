//! `weirctl why`: what was refused lately, and what would let it through.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    agents::{end, warn},
    cli::{Format, Place, Why},
    live::Server,
    out::{Out, Tone, at, list, number},
    when,
};

/// Between two looks at what is new.
const LOOK: Duration = Duration::from_secs(1);
/// Programs that are asked at once.
const AT_ONCE: usize = 16;

/// A program that is asked, and how far its refusals were read.
struct Told {
    server: Server,
    name: String,
    cursor: Option<String>,
    /// That it does not answer was said.
    silent: bool,
}

/// Prints what was refused, the oldest first.
///
/// # Errors
/// If nobody answers.
pub(crate) async fn run(why: &Why, out: &mut Out<'_>) -> Result<u8> {
    let mut told = programs(&why.place).await?;
    let all = round(why, &mut told, Told::complain).await;
    if let (false, Format::Json | Format::Yaml) = (why.follow, out.format) {
        out.value(&json!({ "refusals": all.refusals, "forgotten": all.forgotten }))?;
        return Ok(0);
    }
    if all.refusals.is_empty() && !why.follow {
        out.line(&format!("nothing was refused lately{}", of(why)))?;
    }
    print(&all, out)?;
    if !why.follow {
        return Ok(0);
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let new = round(why, &mut told, Told::complain).await;
        print(&new, out)?;
    }
}

fn of(why: &Why) -> String {
    why.of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default()
}

/// Agents and waypoints that answer.
async fn programs(place: &Place) -> Result<Vec<Told>> {
    let live = place.everybody().await?.but("weir-control");
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for one in live.all().await {
        match &one.summary {
            Ok(_) if one.component() == "weir-control" => {}
            Ok(_) => {
                let (name, server) = (format!("{} {}", one.component(), one.name()), one.server);
                told.push(Told { server, name, cursor: None, silent: false });
            }
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    match (told.is_empty(), failed.is_empty()) {
        (true, true) => anyhow::bail!("no agent and no waypoint is there: a control plane refuses nothing"),
        (true, false) => anyhow::bail!(failed.join("\n")),
        (false, _) => {
            failed.into_iter().for_each(warn);
            Ok(told)
        }
    }
}

/// What is new.
#[derive(Default)]
struct Round {
    refusals: Vec<Value>,
    forgotten: u64,
    left_out: u64,
}

impl Told {
    /// Says once that it does not answer.
    fn complain(&mut self, error: &anyhow::Error) {
        if !std::mem::replace(&mut self.silent, true) {
            warn(format!("{error:#}"));
        }
    }
}

/// Asks everybody what is new.
async fn round(why: &Why, told: &mut [Told], complain: impl Fn(&mut Told, &anyhow::Error)) -> Round {
    let query = |cursor: &Option<String>| {
        let (namespace, name) = match why.of.as_deref().map(|of| of.split_once('/').unwrap_or((of, ""))) {
            Some((namespace, name)) => (Some(namespace), Some(name).filter(|name| !name.is_empty())),
            None => (None, None),
        };
        let limit = why.limit.to_string();
        let fields =
            [("namespace", namespace), ("name", name), ("after", cursor.as_deref()), ("limit", Some(limit.as_str()))];
        fields.into_iter().filter_map(|(key, value)| Some((key, value?.to_owned()))).collect::<Vec<_>>()
    };
    let asked = told.iter().map(|one| async {
        let query = query(&one.cursor);
        one.server.ask("/debug/refusals", &query).await
    });
    let answers: Vec<Result<Value>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut all = Round::default();
    for (one, answer) in told.iter_mut().zip(answers) {
        match answer {
            Ok(answer) => {
                one.silent = false;
                all.forgotten += number(&answer, "/forgotten");
                all.left_out += number(&answer, "/leftOut");
                all.refusals.extend(list(&answer, "/refusals").iter().map(|refusal| with_teller(refusal, &one.name)));
                one.cursor = answer["cursor"].as_str().map(str::to_owned);
            }
            Err(error) => complain(one, &error),
        }
    }
    all.refusals.sort_by_cached_key(|one| when::read(at(one, "/at")));
    all
}

/// A refusal with who told of it.
fn with_teller(refusal: &Value, teller: &str) -> Value {
    let mut fields = serde_json::Map::new();
    let own = refusal.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    fields.extend(own);
    fields.insert("by".to_owned(), teller.into());
    Value::Object(fields)
}

fn print(all: &Round, out: &mut Out<'_>) -> Result<()> {
    match out.format {
        Format::Table => {
            // What happens again and again is told once, where it happened last.
            for (refusal, times) in together(&all.refusals) {
                told(refusal, times, out)?;
            }
            if all.forgotten > 0 {
                out.line(&format!("({} earlier ones have given way to newer ones)", all.forgotten))?;
            }
            if all.left_out > 0 {
                out.line(&format!("({} older ones are left out: --limit N shows more)", all.left_out))?;
            }
        }
        Format::Json | Format::Yaml => {
            for refusal in &all.refusals {
                out.line(&refusal.to_string())?;
            }
        }
    }
    out.flush()
}

/// Refusals of the same ends for the same reason, as one, and how many there are.
fn together(refusals: &[Value]) -> Vec<(&Value, usize)> {
    let key = |one: &Value| {
        let service = at(one, "/service").to_owned();
        [
            end(one, "/source"),
            end(one, "/destination"),
            service,
            at(one, "/reason").to_owned(),
            at(one, "/by").to_owned(),
        ]
    };
    // A client without a name comes from another port each time.
    let bare = |key: [String; 5]| {
        let [source, rest @ ..] = key;
        let host = source.parse::<std::net::SocketAddr>().map_or(source, |at| at.ip().to_string());
        (host, rest)
    };
    let mut places = HashMap::new();
    let mut all: Vec<(&Value, usize)> = Vec::new();
    for one in refusals {
        match places.entry(bare(key(one))) {
            std::collections::hash_map::Entry::Occupied(place) => {
                let place: &usize = place.get();
                if let Some(known) = all.get_mut(*place) {
                    *known = (one, known.1 + 1);
                }
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(all.len());
                all.push((one, 1));
            }
        }
    }
    all.sort_by_cached_key(|(one, _)| when::read(at(one, "/at")));
    all
}

fn told(one: &Value, times: usize, out: &mut Out<'_>) -> Result<()> {
    let service = match at(one, "/service") {
        "-" => String::new(),
        service => format!(" (service {service})"),
    };
    let address = match (at(one, "/destination/address"), end(one, "/destination")) {
        ("-", _) => String::new(),
        (address, end) if address == end => String::new(),
        (address, _) => format!(" at {address}"),
    };
    let to = match (end(one, "/destination").as_str(), service.as_str()) {
        ("-", "") => "an address nobody knows".to_owned(),
        (to, service) => format!("{to}{address}{service}"),
    };
    let often = if times > 1 { format!(", {times} times") } else { String::new() };
    let time = at(one, "/at");
    let time = time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"));
    out.toned(&format!("{time} {} -> {to}{often}", end(one, "/source")), Tone::Bad)?;
    let policy = |one: &Value| {
        one.get("policy")
            .filter(|policy| policy.is_object())
            .map(|policy| format!("{} {}/{}", at(policy, "/kind"), at(policy, "/namespace"), at(policy, "/name")))
    };
    let status = one["status"].as_u64().filter(|status| *status > 0).map(|status| format!(" with {status}"));
    let lines = [
        ("asked", Some(at(one, "/request").to_owned()).filter(|text| text != "-")),
        (
            "who",
            Some(at(one, "/source/identity").to_owned())
                .map(|text| if text == "-" { "without a proven identity".to_owned() } else { text }),
        ),
        ("refused", Some(format!("by {}{} ({})", at(one, "/by"), status.unwrap_or_default(), at(one, "/flag")))),
        ("reason", Some(at(one, "/reason").to_owned())),
        ("policy", policy(one)),
        ("remedy", Some(at(one, "/remedy").to_owned()).filter(|text| text != "-")),
    ];
    for (label, text) in lines {
        if let Some(text) = text {
            out.line(&format!("  {label:<8} {}", crate::out::shown(&text)))?;
        }
    }
    Ok(())
}
