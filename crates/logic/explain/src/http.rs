//! What a waypoint does with a request: its token, who may, which rule is for it, where it is sent.

use std::{net::IpAddr, sync::Arc};

use rand::Rng;
use weir_authz::{
    Destination, Peer,
    http::{HttpFacts, Token},
};
use weir_model::canonical_ip;
use weir_request::{Header, Request};
use weir_route::{Action, Chosen, CorsAnswer, Forward, Ground, HeaderList, RouteTable, Share, Target};
use weir_token::{Changes, Checked, Reason, Verified};

use crate::{
    explained::{About, Declared, Hop, Place, Routed, Step, Verdict},
    request::RequestText,
    scene::Scene,
    waypoint::{Arrival, Came, Sent, Whither, nowhere, refuse, ruled, sent_to, sent_to_pod},
};

/// What becomes of it.
pub(crate) fn ask<S: Scene>(
    scene: &S,
    at: &Arrival<'_>,
    text: &RequestText,
    hop: &mut Hop,
    rng: &mut impl Rng,
) -> Came {
    asked(scene, at, text, hop, rng).unwrap_or_else(|came| came)
}

fn bad(error: impl std::fmt::Display) -> Came {
    Came::Ended(Verdict::Deny, format!("400, {error}"))
}

fn asked<S: Scene>(
    scene: &S,
    at: &Arrival<'_>,
    text: &RequestText,
    hop: &mut Hop,
    rng: &mut impl Rng,
) -> Result<Came, Came> {
    let fields = text.fields();
    let request = text.request(&at.to.authority, &fields).map_err(bad)?;
    let guard = at.serving.guard(at.service.as_ref().map(|service| &service.name.hostname));
    let Checked { verified, changes } = match guard.tokens.is_empty() {
        true => Checked { verified: None, changes: Changes::default() },
        false => token(scene, at, &request, hop)?,
    };
    if !guard.policies.is_empty() {
        let bearer = verified.as_ref().map(Bearer);
        let facts = HttpFacts {
            peer: Peer { identity: Some(at.identity), address: at.client },
            destination: Destination { address: at.to.address.ip(), port: at.port },
            request: &request,
            token: bearer.as_ref().map(|token| -> &dyn Token { token }),
            remote: remote(at.client, scene.trusted_hops(), &request),
            sni: None,
        };
        ruled(guard.policies.explain(&facts), "403", hop)?;
    }
    // Rules see what the token made of the headers.
    let changed: Vec<(&str, &[u8])> = changed(&fields, &changes);
    let fields: Vec<Header<'_>> = changed.iter().map(|(name, value)| Header { name, value }).collect();
    let request = text.request(&at.to.authority, &fields).map_err(bad)?;
    let host = at.host();
    if let Some(why) = host.and_then(|host| host.refused.as_ref()) {
        return Err(Came::Ended(Verdict::Deny, format!("503, {why}")));
    }
    match host.filter(|host| !host.http.objects().is_empty()) {
        Some(host) => routed(scene, at, &host.http, &request, hop, rng),
        None => {
            hop.step(About::Route, "no route is for it: to the service itself".to_owned());
            Ok(Came::Sent(vec![itself(scene, at, hop)]))
        }
    }
}

/// Checks the tokens, with such keys as are there.
fn token<S: Scene>(scene: &S, at: &Arrival<'_>, request: &Request<'_>, hop: &mut Hop) -> Result<Checked, Came> {
    let guard = at.serving.guard(at.service.as_ref().map(|service| &service.name.hostname));
    let checked = guard.tokens.check(request, scene, scene.now()).map_err(|rejected| {
        if rejected.reason == Reason::NotFetched {
            let why = "the keys of its issuer would be fetched, and are not known here: ask the waypoint itself";
            hop.step(About::Token, why);
            return Came::Ended(Verdict::Unknown, why.to_owned());
        }
        hop.step(About::Token, format!("refused with {}: {rejected}", rejected.status()));
        Came::Ended(Verdict::Deny, format!("{}, {rejected}", rejected.status()))
    })?;
    let says = match &checked.verified {
        None => "there is none, and none is required".to_owned(),
        Some(Verified { principal: Some(principal), .. }) => format!("good, of {principal}"),
        Some(Verified { principal: None, .. }) => "good, of nobody: it has no subject".to_owned(),
    };
    hop.step(About::Token, says);
    let gone = checked.changes.remove.iter().map(|name| format!("takes out {}", name.as_str()));
    let come = checked.changes.set.iter().map(|(name, _)| format!("sets {} to what the token says", name.as_str()));
    let said: Vec<String> = gone.chain(come).collect();
    if !said.is_empty() {
        hop.step(About::Change, said.join("; "));
    }
    Ok(checked)
}

/// The headers, once the token has been read: first some go, then some come.
fn changed<'c>(fields: &[Header<'c>], changes: &'c Changes) -> Vec<(&'c str, &'c [u8])> {
    let is_gone = |name: &str| {
        let named = changes.remove.iter().chain(changes.set.iter().map(|(name, _)| name));
        named.into_iter().any(|one| one.as_str() == name)
    };
    let kept = fields.iter().filter(|field| !is_gone(field.name)).map(|field| (field.name, field.value));
    kept.chain(changes.set.iter().map(|(name, value)| (name.as_str(), &**value))).collect()
}

/// The client behind the proxies that are believed: so many from the end of `x-forwarded-for`. Envoy `xff_num_trusted_hops`.
fn remote(peer: IpAddr, hops: u32, request: &Request<'_>) -> IpAddr {
    let Ok(hops @ 1..) = usize::try_from(hops) else { return peer };
    let Some(value) = request.header("x-forwarded-for") else { return peer };
    let text = value.rsplit(|byte| *byte == b',').nth(hops - 1);
    let text = text.and_then(|text| std::str::from_utf8(text.trim_ascii()).ok());
    text.and_then(|text| text.parse().ok()).map_or(peer, canonical_ip)
}

/// A token, as policies ask it.
struct Bearer<'v>(&'v Verified);

impl Token for Bearer<'_> {
    fn principal(&self) -> Option<&str> {
        self.0.principal.as_deref()
    }

    fn audiences(&self) -> Vec<&str> {
        self.0.audiences().collect()
    }

    fn presenter(&self) -> Option<&str> {
        self.0.presenter()
    }

    fn claim(&self, path: &[Arc<str>]) -> Vec<&str> {
        let path: Vec<&str> = path.iter().map(|part| &**part).collect();
        self.0.claims.values(&path)
    }
}

/// As the routes of the service say.
fn routed<S: Scene>(
    scene: &S,
    at: &Arrival<'_>,
    table: &RouteTable,
    request: &Request<'_>,
    hop: &mut Hop,
    rng: &mut impl Rng,
) -> Result<Came, Came> {
    let decision = table.decide(request, &at.asker(), rng);
    let says = decision.ground.to_string();
    let chosen = match decision.ground {
        Ground::Rule(chosen) => chosen,
        Ground::NoRoutes => {
            hop.step(About::Route, format!("{says}: to the service itself"));
            return Ok(Came::Sent(vec![itself(scene, at, hop)]));
        }
        Ground::NoMatch => {
            hop.step(About::Route, says.clone());
            return Ok(Came::Ended(Verdict::Deny, format!("404, {says}")));
        }
    };
    hop.steps.push(Step { about: About::Route, says, object: Some(declared(&chosen)) });
    match chosen.cors().map_or(CorsAnswer::Silent, |cors| cors.answer(request)) {
        CorsAnswer::Silent => {}
        CorsAnswer::Actual(_) => hop.step(About::Change, "its answer is told the headers of CORS"),
        CorsAnswer::Preflight(_) => {
            let why = "200 at once: it is a preflight request of CORS";
            hop.step(About::Answer, why);
            return Ok(Came::Ended(Verdict::Allow, format!("answered with {why}")));
        }
    }
    if let Some(fault) = &chosen.rule.fault {
        hop.step(About::Fault, fault.to_string());
    }
    match decision.action {
        Action::Redirect(redirect) => {
            let location = redirect.location(request, at.port, chosen.prefix()).map_err(bad)?;
            answer(&chosen, hop, format!("{} to {location}", redirect.code()))
        }
        Action::Respond(response) => {
            answer(&chosen, hop, format!("{}, a body of {} bytes", response.status(), response.body().len()))
        }
        Action::NotFound => Ok(Came::Ended(Verdict::Deny, "404".to_owned())),
        Action::Service => Ok(Came::Sent(vec![itself(scene, at, hop)])),
        Action::Invalid { .. } | Action::Forward(_) => sent(scene, at, (&chosen, decision.action), request, hop),
    }
}

/// The rule answers by itself.
fn answer(chosen: &Chosen<'_>, hop: &mut Hop, what: String) -> Result<Came, Came> {
    let mut said = Said::default();
    chosen.rule.response.apply(&mut said);
    let changes = said.words("its answer");
    if !changes.is_empty() {
        hop.step(About::Change, changes.join("; "));
    }
    hop.step(About::Answer, what.clone());
    Ok(Came::Ended(Verdict::Allow, format!("the rule itself answers with {what}")))
}

/// It is sent on to what may be drawn.
fn sent<S: Scene>(
    scene: &S,
    at: &Arrival<'_>,
    (chosen, drawn): (&Chosen<'_>, Action<'_>),
    request: &Request<'_>,
    hop: &mut Hop,
) -> Result<Came, Came> {
    let mut all: Vec<(Share, Action<'_>)> = chosen.drawn_from().collect();
    if all.is_empty() {
        all.push((Share { weight: 1, total: 1 }, drawn));
    }
    let mut sent = Vec::new();
    for (at_all, (share, action)) in all.into_iter().enumerate() {
        let (routed, one) = match action {
            Action::Forward(forward) => {
                if at_all == 0 {
                    in_general(&forward, request, hop)?;
                }
                forwarded(scene, at, &forward, share)
            }
            Action::Invalid { status, why } => refuse(nowhere(share, "nowhere".to_owned()), format!("{status}, {why}")),
            Action::Service | Action::Redirect(_) | Action::Respond(_) | Action::NotFound => continue,
        };
        hop.destinations.push(routed);
        sent.push(one);
    }
    Ok(Came::Sent(sent))
}

/// What holds wherever it is sent.
fn in_general(forward: &Forward<'_>, request: &Request<'_>, hop: &mut Hop) -> Result<(), Came> {
    if let Some(target) = forward.target(request).map_err(bad)? {
        hop.step(About::Change, format!("the path and query become {target}"));
    }
    let forwarding = forward.forwarding();
    let timeouts = forwarding.timeouts;
    let whole = timeouts.request().map(|time| format!("within {time:?}"));
    let each = timeouts.attempt().filter(|time| timeouts.request() != Some(*time));
    let each = each.map(|time| format!("each attempt within {time:?}"));
    let said: Vec<String> = whole.into_iter().chain(each).chain([forwarding.retries.to_string()]).collect();
    hop.step(About::Limits, said.join("; "));
    for mirror in &forwarding.mirrors {
        let says = match &mirror.target {
            Target::Valid(to) => format!("{} to {to}", mirror.percent),
            Target::Invalid(why) => format!("none: {why}"),
        };
        hop.step(About::Copies, says);
    }
    Ok(())
}

fn forwarded<S: Scene>(scene: &S, at: &Arrival<'_>, forward: &Forward<'_>, share: Share) -> (Routed, Sent) {
    let to = forward.destination();
    let port = to.port.unwrap_or(at.port);
    let whither = Whither { host: &to.host, port, subset: to.subset.as_deref(), share };
    let (mut routed, sent) = sent_to(scene, at, &whither);
    let (mut asked, mut answered) = (Said::default(), Said::default());
    forward.change_request(&mut asked);
    forward.change_response(&mut answered);
    routed.changes = asked.words("");
    routed.changes.extend(forward.authority().map(|authority| format!("the authority becomes {authority}")));
    routed.changes.extend(answered.words("its answer"));
    (routed, sent)
}

/// To what was asked for.
fn itself<S: Scene>(scene: &S, at: &Arrival<'_>, hop: &mut Hop) -> Sent {
    let (routed, sent) = match &at.service {
        None => sent_to_pod(scene, at),
        Some(service) => {
            let share = Share { weight: 1, total: 1 };
            sent_to(scene, at, &Whither { host: &service.name.hostname, port: at.port, subset: None, share })
        }
    };
    hop.destinations.push(routed);
    sent
}

fn declared(chosen: &Chosen<'_>) -> Declared {
    let Chosen { object, rule, matched } = chosen;
    Declared {
        kind: object.kind.to_string(),
        namespace: object.namespace.to_string(),
        name: object.name.to_string(),
        rule: Some(rule.index),
        rule_name: rule.name.as_deref().map(str::to_owned),
        matched: matched.map(|(index, _)| index),
        place: object.file.as_ref().map(|file| Place { file: file.to_string(), line: rule.line }),
    }
}

/// What is done to headers, as it is done.
#[derive(Default)]
struct Said(Vec<Done>);

enum Done {
    Gone(String),
    Set(String, String),
    Added(String, String),
}

impl HeaderList for Said {
    fn remove(&mut self, name: &str) {
        self.0.push(Done::Gone(name.to_owned()));
    }

    fn append(&mut self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let is_set = matches!(self.0.last(), Some(Done::Gone(gone)) if *gone == name);
        if is_set {
            self.0.pop();
        }
        self.0.push(if is_set { Done::Set(name, value) } else { Done::Added(name, value) });
    }
}

impl Said {
    /// In words, of the request or of `whose`.
    fn words(&self, whose: &str) -> Vec<String> {
        let before = if whose.is_empty() { String::new() } else { format!("{whose}: ") };
        let words = self.0.iter().map(|done| match done {
            Done::Gone(name) => format!("{before}takes out {name}"),
            Done::Set(name, value) => format!("{before}sets {name}: {value}"),
            Done::Added(name, value) => format!("{before}adds {name}: {value}"),
        });
        words.collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_route::{HeaderChanges, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn changes_of_headers_are_said_as_they_were_written() {
        let header = |name: &str| HeaderValue::new(name.parse::<HeaderName>().unwrap(), "v").unwrap();
        let changes =
            HeaderChanges::new(vec![header("x-set")], vec![header("x-add")], vec!["x-gone".parse().unwrap()]).unwrap();
        let mut said = Said::default();
        changes.apply(&mut said);
        assert_eq!(said.words(""), ["takes out x-gone", "sets x-set: v", "adds x-add: v"]);
        assert_eq!(said.words("its answer")[1], "its answer: sets x-set: v");
    }

    #[test]
    fn the_client_is_the_one_that_proxies_who_are_believed_saw() {
        let text = RequestText::read("GET /", ["x-forwarded-for: 192.0.2.1, 192.0.2.2,192.0.2.3"]).unwrap();
        let fields = text.fields();
        let request = text.request("a", &fields).unwrap();
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        for (hops, want) in [(0, "10.0.0.1"), (1, "192.0.2.3"), (3, "192.0.2.1"), (4, "10.0.0.1")] {
            assert_eq!(remote(peer, hops, &request).to_string(), want, "{hops}");
        }
    }
}
