//! RequestAuthentication as its author wrote it: whose tokens are good, where they stand, and what becomes of them. Every value is legal.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use weir_request::{Authority, Host};

use crate::jwks::Jwks;

/// The longest URL, in bytes. Istio's CustomResourceDefinition, `jwksUri`.
const MAX_URL: usize = 2_048;

/// The longest issuer of which keys are discovered, so that with what is added to it there is still a URL.
const MAX_ISSUER: usize = MAX_URL - WELL_KNOWN.len();

/// Where an issuer says where its keys are. OpenID Connect Discovery 1.0 §4.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Headers that say where a message goes or ends: no token stands in them, and nothing about one is written there.
const OF_MESSAGES: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whose tokens are good for what it covers. security.istio.io/v1 RequestAuthentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestAuthenticationSpec {
    /// `spec.jwtRules`, in their order.
    pub rules: Vec<TokenRule>,
}

/// One issuer's tokens. Istio `JWTRule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRule {
    /// Its line, 0 where there is no file.
    pub line: usize,
    /// `issuer`, never empty: the `iss` of its tokens.
    pub issuer: Arc<str>,
    /// `audiences`: a token must name one of them in its `aud`; none said is any.
    pub audiences: Vec<Arc<str>>,
    /// `jwks`, `jwksUri`, or what the issuer itself says.
    pub keys: KeySource,
    /// `fromHeaders`.
    pub from_headers: Vec<TokenHeader>,
    /// `fromParams`: names in the query.
    pub from_params: Vec<Arc<str>>,
    /// `fromCookies`.
    pub from_cookies: Vec<Arc<str>>,
    /// `outputPayloadToHeader`: the payload as it stands in the token.
    pub output_payload_to_header: Option<HeaderName>,
    /// `forwardOriginalToken`.
    pub forward_original_token: bool,
    /// `outputClaimToHeaders`.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// `timeout`, from a millisecond to an hour: how long keys are waited for.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`: claims whose text is a list, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<Arc<str>>,
    /// `presence`.
    pub presence: Presence,
}

/// `fromHeaders`: where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHeader {
    /// `name`.
    pub name: HeaderName,
    /// `prefix`, what stands before the token; may be empty.
    pub prefix: Arc<str>,
}

/// `outputClaimToHeaders`: a claim the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimToHeader {
    /// `header`.
    pub header: HeaderName,
    /// `claim`: its name, or the names that lead to it with dots between them.
    pub claim: Arc<str>,
}

/// `presence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Presence {
    /// `OPTIONAL`, also when nothing is said: a request without a token passes.
    #[default]
    Optional,
    /// `REQUIRED`: it is refused.
    Required,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// `jwks`: these are they.
    Inline(Jwks),
    /// `jwksUri`: there.
    Uri(KeysUrl),
    /// Neither: there is said where, by `jwks_uri`. OpenID Connect Discovery 1.0 §3.
    Discovery(KeysUrl),
}

impl KeySource {
    /// What an issuer says of itself, if it is a place where it could.
    pub fn of_issuer(issuer: &str) -> Option<Self> {
        if issuer.len() > MAX_ISSUER || issuer.contains('?') {
            return None;
        }
        let url = format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer));
        url.parse().ok().map(Self::Discovery)
    }
}

/// The name of a header, in lower case: no header that frames a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Arc<str>);

impl HeaderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of a header that could be read or written for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no name of a header for tokens")]
pub struct NotAHeader;

impl FromStr for HeaderName {
    type Err = NotAHeader;

    fn from_str(text: &str) -> Result<Self, NotAHeader> {
        let name = text.to_ascii_lowercase();
        // RFC 9110 §5.6.2.
        let is_of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let legal = !name.is_empty() && name.len() <= 256 && name.bytes().all(is_of_a_token);
        if legal && !OF_MESSAGES.contains(&name.as_str()) { Ok(Self(name.into())) } else { Err(NotAHeader) }
    }
}

/// Whether what is read from a URL is read over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// Where keys can be fetched. A URL of http or https without a user and a fragment. RFC 3986.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeysUrl(Arc<str>);

/// A text that is no URL of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no http or https URL of at most {MAX_URL} bytes, without user and fragment")]
pub struct NotAUrl;

impl KeysUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it is asked.
    pub fn scheme(&self) -> Scheme {
        self.parts().0
    }

    /// The host, a name or an address.
    pub fn host(&self) -> Host<'_> {
        self.parts().1.host()
    }

    /// The port, said or that of the scheme.
    pub fn port(&self) -> u16 {
        let (scheme, authority, _) = self.parts();
        authority.port().unwrap_or(match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// Host and port as they stand in it: the `Host` of a request.
    pub fn authority(&self) -> &str {
        self.parts().1.as_str()
    }

    /// Path and query, to be asked for.
    pub fn target(&self) -> String {
        let rest = self.parts().2;
        if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
    }

    fn parts(&self) -> (Scheme, Authority<'_>, &str) {
        parts(&self.0).expect("a URL of keys was parsed")
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeysUrl {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        parts(text).ok_or(NotAUrl)?;
        Ok(Self(text.into()))
    }
}

fn parts(text: &str) -> Option<(Scheme, Authority<'_>, &str)> {
    // RFC 3986 §2: what is in no URL unescaped. A fragment is never sent, so it can mean nothing here.
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    if text.len() > MAX_URL || !text.bytes().all(legal) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
        _ => return None,
    };
    let (authority, rest) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    Some((scheme, Authority::read(authority).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_in_its_parts() {
        for (text, want) in [
            ("https://a.example/keys?x=1", Some((Scheme::Https, "a.example", 443, "a.example", "/keys?x=1"))),
            ("http://10.0.0.1:8080", Some((Scheme::Http, "10.0.0.1", 8080, "10.0.0.1:8080", "/"))),
            ("HTTP://[fd00::1]:80/", Some((Scheme::Http, "[fd00::1]", 80, "[fd00::1]:80", "/"))),
            ("https://[::1]?a", Some((Scheme::Https, "[::1]", 443, "[::1]", "/?a"))),
            ("https://user@a.example/", None),
            ("https://a.example/#x", None),
            ("https://a.example/ x", None),
            ("https://a.example/\u{e9}", None),
            ("https://a.example:0/", None),
            ("https:///keys", None),
            ("https://a\\b/", None),
            ("file:///etc/passwd", None),
            ("gopher://a.example/", None),
            ("a.example/keys", None),
            ("", None),
        ] {
            let url = text.parse::<KeysUrl>();
            let read = url.as_ref().ok().map(|url| {
                (url.scheme(), url.host().to_string(), url.port(), url.authority().to_owned(), url.target())
            });
            let want = want.map(|(scheme, host, port, authority, target)| {
                (scheme, host.to_owned(), port, authority.to_owned(), target.to_owned())
            });
            assert_eq!(read, want, "{text:?}");
        }
        assert!(format!("https://a/{}", "x".repeat(MAX_URL)).parse::<KeysUrl>().is_err());
    }

    #[test]
    fn an_issuer_that_is_a_place_says_where_its_keys_are() {
        for (issuer, want) in [
            ("https://a.example", Some("https://a.example/.well-known/openid-configuration")),
            ("https://a.example/tenant/", Some("https://a.example/tenant/.well-known/openid-configuration")),
            ("https://a.example?tenant=x", None),
            ("testing@secure.example", None),
            ("a", None),
        ] {
            let want = want.map(|url| KeySource::Discovery(url.parse().unwrap()));
            assert_eq!(KeySource::of_issuer(issuer), want, "{issuer}");
        }
        assert_eq!(KeySource::of_issuer(&format!("https://a/{}", "x".repeat(MAX_ISSUER))), None);
    }

    #[test]
    fn a_header_for_tokens_frames_no_message() {
        for (text, want) in [
            ("Authorization", Some("authorization")),
            ("x-jwt_Payload", Some("x-jwt_payload")),
            ("", None),
            (":path", None),
            ("a b", None),
            ("a\n", None),
            ("Host", None),
            ("Content-Length", None),
            ("transfer-encoding", None),
        ] {
            assert_eq!(text.parse::<HeaderName>().as_ref().ok().map(HeaderName::as_str), want, "{text:?}");
        }
    }
}
