//! The rules of the RequestAuthentications over one service, and a request under them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_manifest::{ClaimToHeader, HeaderName, KeySource, Presence, RequestAuthenticationSpec, TokenRule};
use weir_request::Request;

use crate::{
    keys::{KeySet, KeySetError, Keys, Outcome},
    place::{Found, Place, Places, without_cookies},
    proven::Proven,
    rejected::{Reason, Rejected},
    token::Token,
    verified::{Changes, Checked, Claims, QueryChange, Verified, in_a_header},
};

/// How much clocks may differ. Envoy `JwtProvider.clock_skew_seconds`.
pub const SKEW: Duration = Duration::from_secs(60);

/// How long keys are waited for if a rule does not say. Istio `JWTRule.timeout`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Claims whose text is always a list. Istio.
const SPACED: [&str; 2] = ["scope", "permission"];

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleIndex(usize);

/// The rules over one service.
#[derive(Debug, Default)]
pub struct TokenRules {
    rules: Vec<Rule>,
    places: Places,
    /// Headers that only a token may fill.
    owned: Vec<HeaderName>,
}

#[derive(Debug)]
struct Rule {
    issuer: Arc<str>,
    audiences: Vec<Arc<str>>,
    keys: RuleKeys,
    timeout: Duration,
    forward: bool,
    payload: Option<HeaderName>,
    claims: Vec<ClaimToHeader>,
    spaced: Arc<[Arc<str>]>,
    presence: Presence,
}

#[derive(Debug)]
enum RuleKeys {
    Inline(Result<Arc<KeySet>, KeySetError>),
    Fetched(KeySource),
}

/// A token that is good under a rule.
struct Good<'f> {
    rule: RuleIndex,
    token: Arc<Token>,
    places: &'f [Place],
}

impl TokenRules {
    /// The rules of these objects, in this order.
    pub fn new<'s>(specs: impl IntoIterator<Item = &'s RequestAuthenticationSpec>) -> Self {
        let mut all = Self::default();
        for said in specs.into_iter().flat_map(|spec| &spec.rules) {
            all.places.add(RuleIndex(all.rules.len()), said);
            let rule = Rule::new(said);
            let claims = rule.claims.iter().map(|claim| &claim.header);
            for header in rule.payload.iter().chain(claims) {
                if !all.owned.contains(header) {
                    all.owned.push(header.clone());
                }
            }
            all.rules.push(rule);
        }
        all
    }

    /// Whether there is no rule: every request passes as it is.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is to be fetched, and how long that may take.
    pub fn sources(&self) -> impl Iterator<Item = (&KeySource, Duration)> {
        self.rules.iter().filter_map(|rule| match &rule.keys {
            RuleKeys::Fetched(source) => Some((source, rule.timeout)),
            RuleKeys::Inline(_) => None,
        })
    }

    /// Issuers whose keys stand in their rule and cannot be used: each of their tokens is refused.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &KeySetError)> {
        self.rules.iter().filter_map(|rule| match &rule.keys {
            RuleKeys::Inline(Err(error)) => Some((&*rule.issuer, error)),
            RuleKeys::Inline(Ok(_)) | RuleKeys::Fetched(_) => None,
        })
    }

    /// Checks the tokens of a request. Each that stands where a rule looks must be good under a rule that looks there; of several, the
    /// one of the first rule says who the request is from. If rules require a token, one of those must have been good.
    ///
    /// # Errors
    /// With the reason to refuse the request.
    pub fn check(&self, request: &Request<'_>, keys: &impl Keys, now: SystemTime) -> Result<Checked, Rejected> {
        self.check_with(request, keys, now, &mut Proven::new(0))
    }

    /// As [`Self::check`], without checking a signature again that was proven before.
    ///
    /// # Errors
    /// With the reason to refuse the request.
    pub fn check_with(
        &self,
        request: &Request<'_>,
        keys: &impl Keys,
        now: SystemTime,
        proven: &mut Proven,
    ) -> Result<Checked, Rejected> {
        let found = self.places.find(request)?;
        // A clock before 1970 is wrong: then no token with a beginning is valid yet.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut good = Vec::with_capacity(found.len());
        for one in &found {
            good.push(self.judge(one, keys, now, proven)?);
        }
        good.sort_by_key(|one| one.rule);
        let is_required = |rule: &Rule| rule.presence == Presence::Required;
        let satisfied = good.iter().any(|one| is_required(&self.rules[one.rule.0]));
        if !satisfied && self.rules.iter().any(is_required) {
            return Err(Reason::Missing.into());
        }
        let verified = good.first().map(|one| {
            let principal = one.token.subject.as_ref().map(|subject| format!("{}/{subject}", one.token.issuer).into());
            let spaced = self.rules[one.rule.0].spaced.clone();
            Verified { principal, claims: Claims::new(one.token.clone(), spaced) }
        });
        Ok(Checked { verified, changes: self.changes(request, &good) })
    }

    fn judge<'f>(
        &self,
        found: &'f Found<'_>,
        keys: &impl Keys,
        now: Duration,
        proven: &mut Proven,
    ) -> Result<Good<'f>, Rejected> {
        let (token, proof) = match proven.find(&found.text) {
            Some((token, keys)) => (token, Some(keys)),
            None => (Arc::new(Token::read(&found.text)?), None),
        };
        let mut first = None;
        for &index in &found.rules {
            let rule = &self.rules[index.0];
            if rule.issuer.as_ref() != token.issuer.as_ref() {
                continue;
            }
            match rule.accept(&token, &found.text, keys, now, proof.as_ref()) {
                Ok(set) => {
                    if proof.is_none_or(|proof| !Arc::ptr_eq(&proof, &set)) {
                        proven.keep(&found.text, token.clone(), set);
                    }
                    return Ok(Good { rule: index, token, places: &found.places });
                }
                Err(rejected) => first = first.or(Some(rejected)),
            }
        }
        Err(first.unwrap_or(Reason::UnknownIssuer.into()))
    }

    fn changes(&self, request: &Request<'_>, good: &[Good<'_>]) -> Changes {
        let mut changes = Changes::default();
        let has = |name: &HeaderName| request.headers().iter().any(|header| header.name == name.as_str());
        changes.remove.extend(self.owned.iter().filter(|name| has(name)).cloned());
        let (mut params, mut cookies) = (Vec::new(), Vec::new());
        for place in good.iter().filter(|one| !self.rules[one.rule.0].forward).flat_map(|one| one.places) {
            match place {
                Place::Header(name) if changes.remove.contains(name) => {}
                Place::Header(name) => changes.remove.push(name.clone()),
                Place::Param(name) => params.push(name.clone()),
                Place::Cookie(name) => cookies.push(name.clone()),
            }
        }
        if let (Some(query), false) = (request.query(), params.is_empty()) {
            let rest = query.without(|key| params.iter().any(|own| own.as_bytes() == key));
            changes.query = rest.map_or(QueryChange::Gone, QueryChange::To);
        }
        if !cookies.is_empty()
            && let Ok(name) = "cookie".parse::<HeaderName>()
            && !changes.remove.contains(&name)
        {
            let rest = without_cookies(request, &cookies);
            if rest.is_empty() {
                changes.remove.push(name);
            } else {
                changes.set.push((name, rest));
            }
        }
        // What the first rule says of a header stays.
        for one in good {
            let rule = &self.rules[one.rule.0];
            let payload = rule.payload.iter().map(|name| (name, Some(one.token.payload.as_bytes().to_vec())));
            let claims = rule.claims.iter().map(|own| (&own.header, in_a_header(&one.token.claims, &own.claim)));
            for (name, value) in payload.chain(claims) {
                if let Some(value) = value
                    && !changes.set.iter().any(|(own, _)| own == name)
                {
                    changes.set.push((name.clone(), value));
                }
            }
        }
        changes
    }
}

impl Rule {
    fn new(said: &TokenRule) -> Self {
        let spaced = SPACED.into_iter().map(Arc::from).chain(said.space_delimited_claims.iter().cloned());
        Self {
            issuer: said.issuer.clone(),
            audiences: said.audiences.clone(),
            keys: match &said.keys {
                KeySource::Inline(jwks) => RuleKeys::Inline(KeySet::new(jwks).map(Arc::new)),
                KeySource::Uri(_) | KeySource::Discovery(_) => RuleKeys::Fetched(said.keys.clone()),
            },
            timeout: said.timeout.unwrap_or(DEFAULT_TIMEOUT),
            forward: said.forward_original_token,
            payload: said.output_payload_to_header.clone(),
            claims: said.output_claim_to_headers.clone(),
            spaced: spaced.collect(),
            presence: said.presence,
        }
    }

    /// Whether a token of the rule's issuer is good; with the keys that say so. Asked in Envoy's order, so that the answer is Envoy's.
    fn accept(
        &self,
        token: &Token,
        text: &[u8],
        keys: &impl Keys,
        now: Duration,
        proof: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, Rejected> {
        if token.not_before.is_some_and(|from| from > now.saturating_add(SKEW)) {
            return Err(Reason::NotYetValid.into());
        }
        if token.expires.is_some_and(|until| now > until.saturating_add(SKEW)) {
            return Err(Reason::Expired.into());
        }
        let is_for = |own: &Arc<str>| token.audiences.iter().any(|one| bare(one) == bare(own));
        if !self.audiences.is_empty() && !self.audiences.iter().any(is_for) {
            return Err(Reason::AudienceNotAllowed.into());
        }
        let (set, source) = match &self.keys {
            RuleKeys::Inline(Ok(set)) => (set.clone(), None),
            RuleKeys::Inline(Err(_)) => return Err(Reason::NoKeys.into()),
            RuleKeys::Fetched(source) => match keys.keys(source) {
                Some(set) => (set, Some(source)),
                None => return Err(Rejected { reason: Reason::NotFetched, wants: Some(source.clone()) }),
            },
        };
        if proof.is_some_and(|proof| Arc::ptr_eq(proof, &set)) {
            return Ok(set);
        }
        let signed = text.get(..token.signed).ok_or(Reason::Form)?;
        match set.check(token.algorithm, token.key.as_deref(), signed, &token.signature) {
            Outcome::Good => Ok(set),
            Outcome::Bad { named: true } => Err(Reason::Signature.into()),
            Outcome::Bad { named: false } => Err(Rejected { reason: Reason::Signature, wants: source.cloned() }),
            Outcome::NoKey => Err(Rejected { reason: Reason::NoKey, wants: source.cloned() }),
        }
    }
}

/// An audience without the scheme before it and the slash behind it: Envoy compares no more of it.
fn bare(audience: &str) -> &str {
    let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}
