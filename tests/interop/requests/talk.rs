//! One case at both proxies.

use std::net::SocketAddr;
use std::time::Duration;

use crate::backend::{Backend, PROBE};
use crate::case::{Case, HOST};
use crate::client::{Client, End};
use crate::frames;
use crate::observed::{Difference, Observed};

/// Longer than any answer takes that comes for certain.
const SURE: Duration = Duration::from_secs(8);
/// A stream that no case uses.
const LAST: u32 = 100_001;

/// A proxy, and what is behind it.
pub(crate) struct Side {
    pub(crate) at: SocketAddr,
    pub(crate) backend: Backend,
}

/// Both, for one case at a time.
pub(crate) struct Lane {
    pub(crate) envoy: Side,
    pub(crate) ours: Side,
}

impl Lane {
    /// What they did differently.
    pub(crate) fn compare(&mut self, case: &Case, quiet: Duration) -> anyhow::Result<Option<Difference>> {
        let what = |error: anyhow::Error, who: &str| error.context(format!("{} at {who}", case.title()));
        let envoy = self.envoy.observe(case, quiet).map_err(|error| what(error, "Envoy"))?;
        let ours = self.ours.observe(case, quiet).map_err(|error| what(error, "ours"))?;
        Ok(Difference::between(envoy, ours))
    }
}

impl Side {
    fn observe(&self, case: &Case, quiet: Duration) -> anyhow::Result<Observed> {
        self.backend.answers(case.answer.clone());
        let mut observed = Observed::default();
        let mut client = Client::open(self.at)?;
        client.send(&case.bytes);
        let end = if case.is_h2 {
            http2(&mut client, case, quiet, &mut observed)?
        } else {
            http1((&mut client, &self.backend), case, quiet, &mut observed)?
        };
        observed.note(match end {
            End::Come => "kept",
            End::Closed => "closed",
            End::Silent => "nothing more",
        });
        drop(client);
        self.backend.rests();
        self.settle()?;
        let seen = self.backend.seen();
        if !case.is_flood {
            observed.extend(seen);
        }
        Ok(observed)
    }

    /// A plain request on a connection of its own. When it is answered, what came before it has come to the backend if it ever does.
    fn settle(&self) -> anyhow::Result<()> {
        let mut client = Client::open(self.at)?;
        client.send(probe().as_bytes());
        match client.answer(false, SURE)? {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => anyhow::bail!("a plain request afterwards: {other:?}"),
        }
    }
}

fn probe() -> String {
    format!("GET {PROBE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// Answers until as many have come as there should be, and then whether the connection is good for one more.
fn http1(
    (client, backend): (&mut Client, &Backend),
    case: &Case,
    quiet: Duration,
    observed: &mut Observed,
) -> anyhow::Result<End> {
    let mut left = case.answers;
    while left > 0 {
        let answer = match client.answer(case.is_head, quiet)? {
            Ok(answer) => answer,
            Err(end) => return Ok(end),
        };
        answer.note(observed);
        if answer.status == 101 {
            client.send(b"said");
            let heard = client.until(quiet, |read, _| (read == b"said").then_some(()))?;
            observed.note(if heard.is_ok() { "a tunnel" } else { "no tunnel" });
            return Ok(heard.err().unwrap_or(End::Come));
        }
        if answer.status >= 200 {
            left -= 1;
        }
    }
    backend.rests();
    client.send(probe().as_bytes());
    Ok(match client.answer(false, quiet)? {
        Ok(answer) if answer.status == 200 => End::Come,
        Ok(answer) => {
            observed.note(format!("then {}", answer.status));
            client.answer(false, quiet)?.err().unwrap_or(End::Come)
        }
        Err(end) => end,
    })
}

/// What frames of a peer say.
#[derive(Default)]
struct Heard {
    facts: Vec<String>,
    /// Streams that have ended.
    ended: usize,
    is_over: bool,
    is_probed: bool,
}

/// The same over HTTP/2: streams answered or reset until as many have ended as there should be.
fn http2(client: &mut Client, case: &Case, quiet: Duration, observed: &mut Observed) -> anyhow::Result<End> {
    let mut heard = Heard::default();
    client.send(&frames::frame(4, 1, 0, b""));
    let first = client.until(quiet, |read, _| {
        heard.read(read);
        (heard.ended >= case.answers || heard.is_over).then_some(())
    })?;
    let end = match first {
        Err(end) => end,
        Ok(()) => {
            if !heard.is_over {
                client.send(&frames::probe(LAST, PROBE));
            }
            let last = client.until(quiet, |read, _| {
                heard.read(read);
                heard.is_probed.then_some(())
            })?;
            last.err().unwrap_or(End::Come)
        }
    };
    let mut facts = heard.facts;
    // Streams may be answered in any order; many alike are one fact.
    facts.sort();
    facts.dedup();
    facts.retain(|fact| !case.is_flood || fact.parse::<u16>().is_ok());
    facts.into_iter().for_each(|fact| observed.note(fact));
    Ok(end)
}

impl Heard {
    /// Takes what is whole.
    fn read(&mut self, bytes: &mut Vec<u8>) {
        while let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = bytes.as_slice() {
            let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
            let Some(payload) = rest.get(..length) else { return };
            let stream = u32::from_be_bytes([*s1, *s2, *s3, *s4]);
            self.frame(*kind, *flags, stream, payload);
            bytes.drain(..9 + length);
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |at: usize| payload.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        if stream == LAST {
            self.is_probed |= flags & 1 != 0 && kind < 2;
            return;
        }
        let is_end = flags & 1 != 0;
        match kind {
            0 if is_end => self.ended += 1,
            1 => {
                let block = if flags & 0x20 == 0 { payload } else { payload.get(5..).unwrap_or_default() };
                let status = frames::status(block).unwrap_or_else(|| "trailers".into());
                self.facts.push(status);
                self.ended += usize::from(is_end);
            }
            3 => {
                self.facts.push(format!("reset: {}", error(number(0))));
                self.ended += 1;
            }
            7 => {
                self.facts.push(format!("GOAWAY: {}", error(number(4))));
                self.is_over |= number(4) != Some(0);
            }
            _ => {}
        }
    }
}

/// RFC 9113 §7.
fn error(code: Option<u32>) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let known = code.and_then(|code| usize::try_from(code).ok()).and_then(|code| NAMES.get(code));
    known.map_or_else(|| format!("{code:?}"), ToString::to_string)
}
