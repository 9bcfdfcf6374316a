//! A request sent on: an endpoint chosen, tried, and if policy says so another.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use tokio::time::sleep;
use weir_balance::{Affinity, Algorithm, Ask, Asked, Choice, Chosen, Nowhere, PerWorker, Shared, Slot};
use weir_route::{Body as Again, Load, Localities, Outcome, Retry, SameEndpoint, WhyNot};
use weir_serving::UpstreamTls;

use crate::{
    answer::Answer,
    around::Around,
    attempt::{Attempt, Failure, Got, Head, Watch, text},
    cluster::{Cluster, Upstream},
    grpc,
    headers::{self, Changed},
    journey::Journey,
    log::Log,
    record::{Flag, Flags},
    relay,
    reply::Reply,
    serve::{Switch, Talk},
};

/// `x-envoy-upstream-service-time`, in milliseconds.
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// What a request's endpoint may depend on.
struct OfHead<'h> {
    head: &'h Head,
    source: IpAddr,
}

impl Asked for OfHead<'_> {
    fn header<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.head.headers.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn query(&self) -> Option<&str> {
        self.head.target.query()
    }

    fn source(&self) -> IpAddr {
        self.source
    }
}

/// Why no endpoint was found.
enum NoEndpoint {
    Nowhere(Nowhere),
    /// Nobody is where the client wanted to go.
    NoOriginal,
}

/// A retry under way, as the breakers count it.
type Retrying = (Slot<Shared>, Option<Slot<PerWorker>>);

/// One request on its way.
struct Way<'w, 't, A: Around> {
    talk: &'w Rc<Talk<A>>,
    journey: &'w Journey<'t>,
    cluster: Rc<Cluster<A>>,
    head: Box<Head>,
    avoid: Vec<Arc<str>>,
    /// The levels of the attempts that were made.
    levels: Vec<usize>,
    retries: u32,
    retrying: Option<Retrying>,
    /// It was sent once more because a connection had been closed before it came: that happens once.
    was_stale: bool,
}

/// Sends a request on, and gives its answer or ours.
pub(crate) async fn forward<A: Around>(
    talk: &Rc<Talk<A>>,
    journey: &Journey<'_>,
    cluster: Rc<Cluster<A>>,
    mut head: Box<Head>,
    mut log: Box<Log<A>>,
) -> Response<Answer<A>> {
    log.goes_to(&cluster);
    if let UpstreamTls::Refused(why) = &cluster.policy.tls {
        return Reply::new(503, why.to_string(), Flag::NoCluster, "cluster_not_found").give(log);
    }
    match cluster.breaker.request() {
        Ok(slot) => log.slot = Some(slot),
        Err(overflow) => return overflowed(&Failure::Overflow(overflow), false, log),
    }
    if let Some(forward) = journey.forward() {
        forward.change_request(&mut Changed(&mut head.headers));
        if let Some(authority) = forward.authority().and_then(|text| HeaderValue::from_str(text).ok()) {
            head.authority = authority;
        }
    }
    let timeouts = journey.timeouts();
    if let Some(time) = timeouts.attempt() {
        head.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis(time)));
    }
    let mut limit = timeouts.request();
    if log.is_grpc {
        limit = grpc::limit(&head.headers, limit);
        // The server is told what it has left in the end.
        if let Some(time) = timeouts.attempt().into_iter().chain(limit).min() {
            head.headers.insert(grpc::TIMEOUT, grpc::timeout_of(time));
        }
    }
    let mut watch = Watch::new(head.source.clone(), limit, timeouts.attempt());
    let (key, cookie) = affinity(talk, &cluster, &head);
    let mut way = Way {
        talk,
        journey,
        cluster,
        head,
        avoid: Vec::new(),
        levels: Vec::new(),
        retries: 0,
        retrying: None,
        was_stale: false,
    };
    loop {
        let (upstream, chosen) = match way.pick(key) {
            Ok(picked) => picked,
            Err(why) => return nowhere(&why, log),
        };
        let name = chosen.as_ref().map(|chosen| Arc::clone(&chosen.name));
        way.levels.extend(chosen.as_ref().map(|chosen| chosen.level));
        log.is_tried(&upstream, chosen);
        watch.again();
        let attempt = Attempt {
            talk,
            cluster: &way.cluster,
            upstream: &upstream,
            head: &way.head,
            number: way.retries.saturating_add(1),
        };
        let got = attempt.make(Some(&mut log), &mut watch).await;
        watch.pause();
        let got = match got {
            Ok(got) => match way.after_answer(&got, &mut log) {
                None => return way.answer(got, upstream, cookie, watch, log),
                Some(wait) => Ok(wait),
            },
            // Whatever an endpoint made of it: a body that broke off is the client's doing.
            Err(failure) => match way.head.source.as_ref().and_then(|source| source.broken()) {
                Some(flag) => Err(Failure::Client(flag)),
                None => way.after_failure(failure, &mut log),
            },
        };
        match got {
            Ok(wait) => {
                if !wait.is_zero()
                    && let Err(failure) = watch.during(sleep(wait)).await
                {
                    return way.fail(&failure, log);
                }
                way.avoid.extend(name.filter(|_| journey.retries().same_endpoint == SameEndpoint::Avoided));
            }
            Err(failure) => return way.fail(&failure, log),
        }
    }
}

impl<A: Around> Way<'_, '_, A> {
    fn pick(&self, key: Option<weir_balance::HashKey>) -> Result<(Rc<Upstream<A>>, Option<Chosen>), NoEndpoint> {
        let engine = &self.talk.engine;
        let current = engine.current(&self.cluster);
        let hold = self.journey.held.and_then(|held| current.held(held.endpoint).cloned());
        let ask = Ask { key, avoid: &self.avoid, hold: hold.as_deref(), beyond: self.beyond() };
        // Of a service that was renewed meanwhile the newest endpoints count.
        let choice = current.balancer.borrow_mut().pick(&ask, engine.now(), &mut *engine.rng());
        match choice {
            Choice::Endpoint(chosen) => match current.member(&chosen.name) {
                Some(upstream) => Ok((Rc::clone(upstream), Some(chosen))),
                None => Err(NoEndpoint::Nowhere(Nowhere::NoEndpoints)),
            },
            Choice::Original => match self.talk.original(&current.policy) {
                Some(upstream) => Ok((upstream, None)),
                None => Err(NoEndpoint::NoOriginal),
            },
            Choice::Nowhere(why) => Err(NoEndpoint::Nowhere(why)),
        }
    }

    /// The levels that a retry leaves behind, if it may go further away: those of every second attempt and of the one before it. Istio
    /// `retryRemoteLocalities`, which is Envoy's `previous_priorities` with an `update_frequency` of 2.
    fn beyond(&self) -> &[usize] {
        match self.journey.retries().localities {
            Localities::AsBefore => &[],
            Localities::Remote => &self.levels[..self.levels.len() / 2 * 2],
        }
    }

    fn again(&self) -> Again {
        self.head.source.as_ref().map_or(Again::Held, |source| source.again())
    }

    /// How long to wait before it is sent once more, if it is, though there is an answer.
    fn after_answer(&mut self, got: &Got<A>, log: &mut Log<A>) -> Option<Duration> {
        let (status, fields) = got.head();
        let status = status.as_u16();
        let grpc = if log.is_grpc { grpc::status(fields) } else { None };
        let is_failure = status >= 400 || grpc.is_some_and(|grpc| grpc != 0);
        if !is_failure {
            return None;
        }
        let grpc = grpc.and_then(|grpc| grpc.to_string().parse().ok());
        let wait = self.once_more(Outcome::Answer { status, grpc }, log)?;
        let health = grpc.map_or(status, |grpc| grpc::http_status(grpc.number().into()));
        log.judge(weir_balance::Outcome::Status(health));
        Some(wait)
    }

    /// How long to wait before it is sent once more, or the failure if it is not.
    fn after_failure(&mut self, failure: Failure, log: &mut Log<A>) -> Result<Duration, Failure> {
        let is_unsent = matches!(failure, Failure::NotSent);
        let may_be_stale = is_unsent || (matches!(failure, Failure::Stale) && self.head.method.is_safe());
        if may_be_stale && !self.was_stale && self.again() == Again::Held {
            self.was_stale = true;
            return Ok(Duration::ZERO);
        }
        if let Some(health) = failure.health() {
            log.judge(health);
        }
        let wait = failure.outcome().and_then(|outcome| self.once_more(outcome, log));
        wait.ok_or(failure)
    }

    fn once_more(&mut self, outcome: Outcome, log: &mut Log<A>) -> Option<Duration> {
        self.retrying = None;
        let load = Load {
            active: self.cluster.breaker.requests(),
            retrying: weir_balance::Tally::count(&self.cluster.retrying),
        };
        let policy = self.journey.retries();
        let decided = policy.may_retry(self.retries, outcome, self.again(), load, &mut *self.talk.engine.rng());
        match decided {
            Retry::After(wait) => match self.cluster.breaker.retry() {
                Ok(slot) => {
                    self.retrying = Some((slot, Slot::take(&self.cluster.retrying, u32::MAX)));
                    self.retries += 1;
                    Some(wait)
                }
                Err(_) => {
                    log.flag(Flag::UpstreamOverflow);
                    None
                }
            },
            Retry::No(WhyNot::Exhausted) if self.retries > 0 => {
                log.flag(Flag::UpstreamRetryLimitExceeded);
                None
            }
            Retry::No(WhyNot::Budget) => {
                log.flag(Flag::UpstreamOverflow);
                None
            }
            Retry::No(WhyNot::Exhausted | WhyNot::NotAsked | WhyNot::BodyConsumed) => None,
        }
    }

    /// Gives an endpoint's answer.
    fn answer(
        &mut self,
        got: Got<A>,
        upstream: Rc<Upstream<A>>,
        cookie: Option<HeaderValue>,
        watch: Watch,
        mut log: Box<Log<A>>,
    ) -> Response<Answer<A>> {
        if let Some(source) = &self.head.source {
            source.release();
        }
        let (status, fields) = got.head();
        let took = log.is_answered(fields);
        if self.head.tunnel.is_some() && status.is_success() {
            // To a client of HTTP/2 any 2xx would grant the tunnel that this one does not.
            let reply = Reply::new(502, "", Flag::UpstreamProtocolError, "upgrade_not_granted");
            return reply.give(log);
        }
        log.status = status.as_u16();
        log.details = "via_upstream".into();
        log.judge_answer(status.as_u16());
        let key = upstream.endpoint.key();
        let (mut parts, body) = match got {
            Got::Link(answer, link) => {
                let (parts, ()) = answer.into_parts();
                if status == StatusCode::SWITCHING_PROTOCOLS {
                    return self.switch(parts.headers, *link, log);
                }
                (parts, Answer::of_link(link, upstream, Some(log), watch.rest()))
            }
            Got::Ride(answer, ride) => {
                let (parts, incoming) = answer.into_parts();
                (parts, Answer::of_ride(incoming, ride, Some(log), watch.rest()))
            }
        };
        headers::clean_response(&mut parts.headers, status);
        self.dress(&mut parts.headers, took, cookie);
        if let Some((name, value)) = self.journey.session(&key) {
            parts.headers.append(name, value);
        }
        parts.version = Version::HTTP_11;
        Response::from_parts(parts, body)
    }

    fn dress(&self, fields: &mut HeaderMap, took: Duration, cookie: Option<HeaderValue>) {
        let millis = millis(took);
        let mut time = headers::number(millis);
        // A longer one is another each time: HPACK is not to keep it, which costs more than it saves.
        time.set_sensitive(millis >= 10);
        fields.insert(SERVICE_TIME, time);
        if let Some(cookie) = cookie {
            fields.append(header::SET_COOKIE, cookie);
        }
    }

    /// The endpoint has agreed to speak something else.
    fn switch(
        &mut self,
        mut headers: HeaderMap,
        link: crate::link::Link<A::Io>,
        mut log: Box<Log<A>>,
    ) -> Response<Answer<A>> {
        let protocol = headers.get(header::UPGRADE).cloned();
        let (true, Some(protocol)) = (self.head.upgrade.is_some(), protocol) else {
            return Reply::new(502, "", Flag::UpstreamProtocolError, "unexpected_switching_protocols").give(log);
        };
        headers::clean_response(&mut headers, StatusCode::SWITCHING_PROTOCOLS);
        let (io, slot) = link.into_io();
        let mut response = Response::new(Answer::nothing());
        if let Some(tunnel) = self.head.tunnel.take() {
            log.status = 200;
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            relay::tunnel(&self.talk.engine, tunnel, Switch { io, slot, log });
        } else {
            log.status = 101;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
            self.talk.switch(Switch { io, slot, log });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        *response.headers_mut() = headers;
        response
    }

    /// Every attempt failed.
    fn fail(&self, failure: &Failure, mut log: Box<Log<A>>) -> Response<Answer<A>> {
        log.failure = failure.transport();
        let is_retried = self.retries > 0;
        match failure {
            Failure::Timeout => {
                Reply::new(504, "upstream request timeout", failure.flag(), "response_timeout").give(log)
            }
            Failure::TryTimeout => {
                Reply::new(504, "upstream request timeout", failure.flag(), "upstream_per_try_timeout").give(log)
            }
            Failure::Overflow(_) => overflowed(failure, is_retried, log),
            Failure::Client(flag) => {
                let is_gone = *flag == Flag::DownstreamConnectionTermination;
                let details = if is_gone { "downstream_remote_disconnect" } else { "http1.codec_error" };
                let mut reply = Reply::bad_request(details);
                reply.flags = failure.flag().into();
                crate::exchange::close(reply.give(log))
            }
            Failure::Connect(_)
            | Failure::ConnectTimeout(_)
            | Failure::Refused
            | Failure::NotSent
            | Failure::Stale
            | Failure::Ended
            | Failure::Reset => broken(503, failure, is_retried, log),
            Failure::Protocol => broken(502, failure, is_retried, log),
        }
    }
}

fn broken<A: Around>(status: u16, failure: &Failure, is_retried: bool, log: Box<Log<A>>) -> Response<Answer<A>> {
    let reason = failure.reason().replace(' ', "_");
    let details = format!("upstream_reset_before_response_started{{{reason}}}");
    Reply::new(status, text(failure, is_retried), failure.flag(), details).give(log)
}

fn overflowed<A: Around>(failure: &Failure, is_retried: bool, log: Box<Log<A>>) -> Response<Answer<A>> {
    let mut response = broken(503, failure, is_retried, log);
    response.headers_mut().insert(OVERLOADED, HeaderValue::from_static("true"));
    response
}

fn nowhere<A: Around>(why: &NoEndpoint, mut log: Box<Log<A>>) -> Response<Answer<A>> {
    log.failure = match why {
        NoEndpoint::Nowhere(why) => Some(why.to_string().into()),
        NoEndpoint::NoOriginal => Some("nobody is where the client wanted to go".into()),
    };
    Reply::new(503, "no healthy upstream", Flags::from(Flag::NoHealthyUpstream), "no_healthy_upstream").give(log)
}

/// What the request is bound to, and the cookie that binds the next.
fn affinity<A: Around>(
    talk: &Talk<A>,
    cluster: &Cluster<A>,
    head: &Head,
) -> (Option<weir_balance::HashKey>, Option<HeaderValue>) {
    let Algorithm::ConsistentHash(hash) = &cluster.policy.balance.algorithm else { return (None, None) };
    let of_head = OfHead { head, source: talk.arrival.client.ip() };
    let Affinity { key, set } = hash.source.affinity(&of_head, &mut *talk.engine.rng());
    (key, set.and_then(|set| HeaderValue::from_str(&set.to_string()).ok()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
