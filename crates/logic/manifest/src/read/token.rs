//! RequestAuthentication, security.istio.io/v1: whose tokens are good.
//!
//! What Istio's CustomResourceDefinition and its webhook refuse is refused here; and a rule whose keys can be nowhere. Lists are bounded,
//! and so is all text of one policy together, since an alias of YAML repeats a long text in few bytes.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Cause, Found},
    jwks::Jwks,
    known,
    object::{ClaimToHeader, HeaderName, KeySource, Presence, RequestAuthenticationSpec, TokenHeader, TokenRule},
    reader::{At, Fields, Reader},
};

/// Most rules of a policy. Istio's CustomResourceDefinition.
const MAX_RULES: usize = 4_096;
/// Most claims that are lists in a text. Istio's CustomResourceDefinition.
const MAX_SPACE_DELIMITED: usize = 64;
/// Most of any other list of a rule.
const MAX_LIST: usize = 4_096;
/// Most bytes of a value that is no set of keys.
const MAX_VALUE_BYTES: usize = 4_096;
/// Most bytes of all values in a policy. An object of etcd has 1.5 MiB.
const MAX_BYTES: usize = 4 << 20;
/// The longest time keys may be waited for.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_600);

const VALUE: &str = "text of 1 to 4096 bytes";
const HEADER: &str = "the name of a header that says nothing of where a message goes or ends";
const URL: &str = "an http or https URL of at most 2048 bytes, without user and fragment";
const TIMEOUT: &str = "a time from 1ms to 1h, such as \"5s\" or \"1m30s\"";

/// `spec` of a RequestAuthentication.
pub(crate) fn request_authentication(reader: &mut Reader, spec: &Fields<'_>) -> Option<RequestAuthenticationSpec> {
    let errors = reader.told;
    let items = reader.few(spec.field("jwtRules"), "jwtRules", MAX_RULES);
    let mut reading = Reading { reader, bytes: 0 };
    let rules = items.iter().filter_map(|at| reading.rule(at)).collect();
    (reading.reader.told == errors).then_some(RequestAuthenticationSpec { rules })
}

/// A walk over the rules of one policy.
struct Reading<'r> {
    reader: &'r mut Reader,
    bytes: usize,
}

impl Reading<'_> {
    fn rule(&mut self, at: &At<'_>) -> Option<TokenRule> {
        let fields = self.reader.fields(at, known::JWT_RULE)?;
        let issuer_at = self.reader.required(&fields, "issuer", "whose tokens are meant, the \"iss\" in them");
        let issuer = issuer_at.and_then(|at| self.value(&at));
        let keys = self.keys(&fields, issuer.as_deref());
        let audiences = self.values(&fields, "audiences", MAX_LIST);
        let from_headers = self.header_places(&fields);
        let from_params = self.values(&fields, "fromParams", MAX_LIST);
        let from_cookies = self.cookies(&fields);
        let payload = self.reader.some_text(fields.field("outputPayloadToHeader"));
        let output_payload_to_header = payload.and_then(|(_, at)| self.header(&at));
        let forward = self.reader.boolean(fields.field("forwardOriginalToken"));
        let output_claim_to_headers = self.claims(&fields);
        let timeout = fields.field("timeout").and_then(|at| self.timeout(&at));
        let space_delimited_claims = self.values(&fields, "spaceDelimitedClaims", MAX_SPACE_DELIMITED);
        let presence = self.presence(&fields);
        Some(TokenRule {
            line: at.node.line,
            issuer: issuer?,
            audiences,
            keys: keys?,
            from_headers,
            from_params,
            from_cookies,
            output_payload_to_header,
            forward_original_token: forward.unwrap_or(false),
            output_claim_to_headers,
            timeout,
            space_delimited_claims,
            presence: presence?,
        })
    }

    /// `jwks`, `jwksUri` by either of its names, or where the issuer says it; one of them.
    fn keys(&mut self, rule: &Fields<'_>, issuer: Option<&str>) -> Option<KeySource> {
        let errors = self.reader.told;
        // Istio takes an empty one as not said.
        let [inline, uri, old] = ["jwks", "jwksUri", "jwks_uri"].map(|name| self.reader.some_text(rule.field(name)));
        let at = match (inline, uri, old) {
            (Some((text, at)), None, None) => {
                self.count(&at, text.len())?;
                return match Jwks::read(text.as_bytes()) {
                    Ok(jwks) => Some(KeySource::Inline(jwks)),
                    Err(error) => {
                        self.reader.fail(&at, Cause::Jwks(error));
                        None
                    }
                };
            }
            (None, Some((_, at)), None) | (None, None, Some((_, at))) => at,
            (Some((_, at)), _, _) => {
                self.reader.fail(&at, Cause::NotWith { other: "jwksUri" });
                return None;
            }
            (None, Some(_), Some((_, at))) => {
                self.reader.fail(&at, Cause::NotWith { other: "jwksUri, its other name" });
                return None;
            }
            (None, None, None) if self.reader.told > errors => return None,
            (None, None, None) => {
                let said = KeySource::of_issuer(issuer?);
                if said.is_none() {
                    let expected = "this or jwks, as the issuer is no URL under which it could say where its keys are";
                    let (path, line) = (rule.path("jwksUri"), rule.line("issuer"));
                    self.reader.fail_at(path, line, Cause::Missing { expected });
                }
                return said;
            }
        };
        self.reader.parse(&at, URL).map(KeySource::Uri)
    }

    fn header_places(&mut self, rule: &Fields<'_>) -> Vec<TokenHeader> {
        let items = self.reader.few(rule.field("fromHeaders"), "headers", MAX_LIST);
        items.iter().filter_map(|at| self.header_place(at)).collect()
    }

    fn header_place(&mut self, at: &At<'_>) -> Option<TokenHeader> {
        let fields = self.reader.fields(at, known::JWT_HEADER)?;
        let name = self.reader.required(&fields, "name", "the name of a header").and_then(|at| self.header(&at));
        let prefix = match self.reader.some_text(fields.field("prefix")) {
            Some((_, at)) => self.value(&at)?,
            None => "".into(),
        };
        Some(TokenHeader { name: name?, prefix })
    }

    fn cookies(&mut self, rule: &Fields<'_>) -> Vec<Arc<str>> {
        // RFC 6265 §4.1.1: a token of RFC 9110 §5.6.2.
        let is_of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let items = self.reader.few(rule.field("fromCookies"), "fromCookies", MAX_LIST);
        let mut names = Vec::new();
        for at in &items {
            match self.value(at) {
                Some(name) if name.bytes().all(is_of_a_token) => names.push(name),
                Some(_) => names.extend(self.reader.expected::<Arc<str>>(at, "the name of a cookie")),
                None => {}
            }
        }
        names
    }

    fn claims(&mut self, rule: &Fields<'_>) -> Vec<ClaimToHeader> {
        let items = self.reader.few(rule.field("outputClaimToHeaders"), "claims", MAX_LIST);
        let mut claims: Vec<ClaimToHeader> = Vec::new();
        for at in &items {
            let Some(claim) = self.claim(at) else { continue };
            // Istio's reference: the header of each must be another.
            if let Some(first) = claims.iter().position(|other| other.header == claim.header) {
                let first = format!("{}[{first}]", rule.path("outputClaimToHeaders"));
                self.reader.fail(at, Cause::Repeated { what: "header", first });
            }
            claims.push(claim);
        }
        claims
    }

    fn claim(&mut self, at: &At<'_>) -> Option<ClaimToHeader> {
        let fields = self.reader.fields(at, known::CLAIM_TO_HEADER)?;
        let header = self.reader.required(&fields, "header", "the name of a header").and_then(|at| self.header(&at));
        let claim = self.reader.required(&fields, "claim", "the name of a claim").and_then(|at| self.value(&at));
        Some(ClaimToHeader { header: header?, claim: claim? })
    }

    fn presence(&mut self, rule: &Fields<'_>) -> Option<Presence> {
        let Some(at) = rule.field("presence") else { return Some(Presence::Optional) };
        match self.reader.text(&at)? {
            "OPTIONAL" => Some(Presence::Optional),
            "REQUIRED" => Some(Presence::Required),
            _ => self.reader.expected(&at, "\"OPTIONAL\" or \"REQUIRED\""),
        }
    }

    fn timeout(&mut self, at: &At<'_>) -> Option<Duration> {
        let time = duration(self.reader.text(at)?);
        match time.filter(|time| (Duration::from_millis(1)..=MAX_TIMEOUT).contains(time)) {
            Some(time) => Some(time),
            None => self.reader.expected(at, TIMEOUT),
        }
    }

    fn header(&mut self, at: &At<'_>) -> Option<HeaderName> {
        self.value(at)?;
        self.reader.parse(at, HEADER)
    }

    fn values(&mut self, rule: &Fields<'_>, name: &'static str, max: usize) -> Vec<Arc<str>> {
        let items = self.reader.few(rule.field(name), name, max);
        items.iter().filter_map(|at| self.value(at)).collect()
    }

    fn value(&mut self, at: &At<'_>) -> Option<Arc<str>> {
        let text = self.reader.text(at)?;
        if text.is_empty() || text.len() > MAX_VALUE_BYTES {
            self.reader.fail(at, Cause::Expected { expected: VALUE, found: Found::text(text) });
            return None;
        }
        self.count(at, text.len())?;
        Some(text.into())
    }

    /// Adds to what was read, and says once that it is too much.
    fn count(&mut self, at: &At<'_>, bytes: usize) -> Option<()> {
        let before = self.bytes;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= MAX_BYTES {
            return Some(());
        }
        if before <= MAX_BYTES {
            self.reader.fail(at, Cause::Exceeds { what: "bytes in the values of one policy", max: MAX_BYTES });
        }
        None
    }
}

/// A time as Go writes one: numbers with a unit, the greatest first, such as `1m30s` or `0.5s`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("h", 3_600_000_000_000),
        ("ms", 1_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("ns", 1),
    ];
    let (mut rest, mut total) = (text, 0_u64);
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let (unit, nanos) = UNITS.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        rest = behind.strip_prefix(unit)?;
        total = total.checked_add(times(number, nanos)?)?;
    }
    Some(Duration::from_nanos(total))
}

/// A decimal number of a unit; what is less than a nanosecond is cut off.
fn times(number: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut total = whole.checked_mul(nanos)?;
    let mut unit = nanos;
    for digit in fraction.chars() {
        unit /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?).checked_mul(unit)?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_go_writes_it() {
        for (text, nanos) in [
            ("5s", Some(5_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1h0m0.5s", Some(3_600_500_000_000)),
            ("1.5ms", Some(1_500_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("2us3ns", Some(2_003)),
            ("2\u{b5}s", Some(2_000)),
            ("0.0000000019s", Some(1)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text), nanos.map(Duration::from_nanos), "{text:?}");
        }
    }
}
