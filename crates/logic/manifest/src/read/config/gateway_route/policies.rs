//! `timeouts`, `retry` and `sessionPersistence` of a rule.

use std::time::Duration;

use weir_route::{RetryOn, RetryPolicy, Timeouts};

use super::kept;
use crate::{
    error::{Cause, Found},
    object::{CookieLifetime, SessionCarrier, SessionPersistence},
    read::config::references::{duration, number, optional, take, word},
    reader::{At, Reader},
};

/// Retries of a rule that names none. The API leaves it open; Istio has two.
const ATTEMPTS: u32 = 2;
const MAX_ATTEMPTS: u32 = 100;
/// As many statuses as there are.
const MAX_CODES: usize = 200;
const MAX_SESSION_NAME: usize = 128;

/// `HTTPRouteTimeouts`.
pub(super) fn timeouts(reader: &mut Reader, at: &At<'_>) -> Option<Timeouts> {
    let fields = reader.fields(at, &["backendRequest", "request"])?;
    let request = duration(reader, fields.field("request"));
    let attempt = duration(reader, fields.field("backendRequest"));
    if let (Some(request), Some(attempt), Some(at)) = (request, attempt, fields.field("backendRequest"))
        && request > Duration::ZERO
        && attempt > request
    {
        reader.fail(&at, Cause::Contradiction { other: "timeouts.request", found: at.node.found() });
    }
    Some(Timeouts::new(request, attempt))
}

/// `HTTPRouteRetry`. Without `codes` what Istio retries, is retried.
pub(super) fn retry(reader: &mut Reader, at: &At<'_>) -> Option<RetryPolicy> {
    const CODE: &str = "a status, 400 to 599";
    let fields = reader.fields(at, &["attempts", "backoff", "codes"])?;
    let attempts = optional(reader, &fields, "attempts", |reader, at| {
        number(reader, at, 1..=MAX_ATTEMPTS, "a number of retries, 1 to 100")
    });
    let backoff = duration(reader, fields.field("backoff"));
    let items = reader.few(fields.field("codes"), "codes", MAX_CODES);
    let codes: Vec<u16> = items
        .iter()
        .filter_map(|at| number(reader, at, 400..=599, CODE).and_then(|code| u16::try_from(code).ok()))
        .collect();
    let on = if items.is_empty() { RetryOn::default() } else { take(reader, at, RetryOn::codes(codes))? };
    take(reader, at, RetryPolicy::new(attempts?.unwrap_or(ATTEMPTS), on, backoff))
}

/// `SessionPersistence`.
pub(super) fn persistence(reader: &mut Reader, at: &At<'_>) -> Option<SessionPersistence> {
    const CARRIERS: &[(&str, SessionCarrier)] =
        &[("Cookie", SessionCarrier::Cookie), ("Header", SessionCarrier::Header)];
    const LIFETIMES: &[(&str, CookieLifetime)] =
        &[("Permanent", CookieLifetime::Permanent), ("Session", CookieLifetime::Session)];
    let fields = reader.fields(at, &["absoluteTimeout", "cookieConfig", "sessionName", "type"])?;
    let name = match fields.field("sessionName") {
        Some(at) => match reader.text(&at)? {
            text if text.len() <= MAX_SESSION_NAME => Some(kept(text)),
            _ => return reader.expected(&at, "at most 128 characters"),
        },
        None => None,
    };
    let carrier =
        optional(reader, &fields, "type", |reader, at| word(reader, at, CARRIERS, "\"Cookie\" or \"Header\""));
    let carrier = carrier?.unwrap_or(SessionCarrier::Cookie);
    let absolute_timeout = duration(reader, fields.field("absoluteTimeout"));
    let mut lifetime = CookieLifetime::Session;
    if let Some(at) = fields.field("cookieConfig") {
        if carrier == SessionCarrier::Header {
            reader.fail(&at, Cause::Contradiction { other: "type", found: Found::text("cookieConfig") });
        }
        let fields = reader.fields(&at, &["lifetimeType"])?;
        let said = optional(reader, &fields, "lifetimeType", |reader, at| {
            word(reader, at, LIFETIMES, "\"Permanent\" or \"Session\"")
        });
        lifetime = said?.unwrap_or(lifetime);
        if lifetime == CookieLifetime::Permanent && absolute_timeout.is_none() {
            reader.fail(&at, Cause::OnlyWith { other: "absoluteTimeout" });
        }
    }
    Some(SessionPersistence { name, carrier, absolute_timeout, lifetime })
}
