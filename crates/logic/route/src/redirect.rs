//! Where a client is sent instead.

use std::fmt;

use weir_model::Port;
use weir_request::{Authority, HostError, Request};

use crate::rewrite::{PathRewrite, RewriteError};

/// Why a client cannot be sent away so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Not a status that sends away.
    #[error("status {0} of a redirect, expected 301, 302, 303, 307 or 308")]
    Code(u16),
    /// Its authority.
    #[error(transparent)]
    Authority(#[from] HostError),
    /// Its query.
    #[error("the query {0:?} has a space, a '#' or a control character")]
    Query(String),
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`, port 80.
    Http,
    /// `https`, port 443.
    Https,
}

impl Scheme {
    /// The port that is left out.
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// The port that a client is sent to. One that its scheme implies is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RedirectPort {
    /// That of the authority, without one that belonged to another scheme. Istio, without `port` and `derivePort`.
    #[default]
    Keep,
    /// This one.
    Is(Port),
    /// That of the scheme. Istio `FROM_PROTOCOL_DEFAULT`.
    OfScheme,
    /// The one that was asked for. Istio `FROM_REQUEST_PORT`.
    OfRequest,
    /// That of the scheme if the rule names one, else the one that was asked for. Gateway API v1 without `port`.
    OfSchemeOrRequest,
}

/// Where a client is sent instead. Istio `HTTPRedirect`, Gateway API v1 `HTTPRequestRedirectFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    scheme: Option<Scheme>,
    authority: Option<Box<str>>,
    port: RedirectPort,
    path: Option<PathRewrite>,
    query: Option<Box<str>>,
    code: u16,
}

impl Redirect {
    /// Sends away with this status; what else changes, the functions below say.
    ///
    /// # Errors
    /// When the status does not send away.
    pub fn new(code: u16) -> Result<Self, RedirectError> {
        if !matches!(code, 301 | 302 | 303 | 307 | 308) {
            return Err(RedirectError::Code(code));
        }
        Ok(Self { scheme: None, authority: None, port: RedirectPort::Keep, path: None, query: None, code })
    }

    /// To this scheme.
    #[must_use]
    pub fn with_scheme(self, scheme: Scheme) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// To this port.
    #[must_use]
    pub fn with_port(self, port: RedirectPort) -> Self {
        Self { port, ..self }
    }

    /// To this path.
    #[must_use]
    pub fn with_path(self, path: PathRewrite) -> Self {
        Self { path: Some(path), ..self }
    }

    /// To this host, which may have a port.
    ///
    /// # Errors
    /// When it names no host.
    pub fn with_authority(self, authority: &str) -> Result<Self, RedirectError> {
        Authority::read(authority)?;
        Ok(Self { authority: Some(authority.into()), ..self })
    }

    /// With this query instead of the request's.
    ///
    /// # Errors
    /// When it has a character that is in no query.
    pub fn with_query(self, query: &str) -> Result<Self, RedirectError> {
        if query.contains(|c: char| c.is_control() || !c.is_ascii() || matches!(c, ' ' | '#')) {
            return Err(RedirectError::Query(query.to_owned()));
        }
        Ok(Self { query: Some(query.into()), ..self })
    }

    /// The status.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The `Location` for a request that asked for `port`, and whose path begins with the `prefix` bytes that the rule asked for.
    ///
    /// # Errors
    /// When the path comes out as none.
    pub fn location(&self, request: &Request<'_>, port: Port, prefix: Option<usize>) -> Result<String, RewriteError> {
        let before = if request.scheme() == "https" { Scheme::Https } else { Scheme::Http };
        let scheme = self.scheme.unwrap_or(before);
        // It was read when the rule was made.
        let authority = self.authority.as_deref().and_then(|text| Authority::read(text).ok());
        let authority = authority.unwrap_or(request.authority());
        let kept =
            authority.port().filter(|port| self.authority.is_some() || scheme == before || *port != before.port());
        let port = match (self.port, self.scheme) {
            (RedirectPort::Keep, _) => kept,
            (RedirectPort::Is(port), _) => Some(port.number()),
            (RedirectPort::OfScheme, _) | (RedirectPort::OfSchemeOrRequest, Some(_)) => None,
            (RedirectPort::OfRequest, _) | (RedirectPort::OfSchemeOrRequest, None) => Some(port.number()),
        };
        let mut location = format!("{scheme}://{}", authority.host());
        if let Some(port) = port.filter(|port| *port != scheme.port()) {
            location.push_str(&format!(":{port}"));
        }
        match &self.path {
            Some(rewrite) => location.push_str(&rewrite.apply(request.path().as_str(), prefix)?),
            None => location.push_str(request.path().as_str()),
        }
        if let Some(query) = self.query.as_deref().or(request.query().map(weir_request::Query::as_str)) {
            location.push('?');
            location.push_str(query);
        }
        Ok(location)
    }
}

#[cfg(test)]
mod tests {
    use weir_request::Normalization;

    use super::*;
    use crate::testing::{parts, port, request_of};

    const BASE: Normalization = Normalization::Base;

    fn redirect(code: u16) -> Redirect {
        Redirect::new(code).unwrap()
    }

    #[test]
    fn a_client_is_sent_where_the_rule_says() {
        let whole = |text: &str| PathRewrite::whole(text, BASE).unwrap();
        let sent_from = "http://shop:8080/foo/bar?q=1";
        for (name, rule, from, want) in [
            ("nothing", redirect(301), sent_from, "http://shop:8080/foo/bar?q=1"),
            ("uri", redirect(301).with_path(whole("/v1")), sent_from, "http://shop:8080/v1?q=1"),
            (
                "uri with query",
                redirect(301).with_path(whole("/v1")).with_query("x").unwrap(),
                sent_from,
                "http://shop:8080/v1?x",
            ),
            (
                "prefixRewrite",
                redirect(301).with_path(PathRewrite::prefix("/v1", BASE).unwrap()),
                sent_from,
                "http://shop:8080/v1/bar?q=1",
            ),
            (
                "replacePrefixMatch",
                redirect(301).with_path(PathRewrite::segments("/", BASE).unwrap()),
                sent_from,
                "http://shop:8080/bar?q=1",
            ),
            ("authority", redirect(301).with_authority("other").unwrap(), sent_from, "http://other/foo/bar?q=1"),
            (
                "authority with port",
                redirect(301).with_authority("other:81").unwrap(),
                sent_from,
                "http://other:81/foo/bar?q=1",
            ),
            (
                "authority v6",
                redirect(301).with_authority("[::1]:81").unwrap(),
                sent_from,
                "http://[::1]:81/foo/bar?q=1",
            ),
            ("port", redirect(301).with_port(RedirectPort::Is(port(81))), sent_from, "http://shop:81/foo/bar?q=1"),
            ("port 80", redirect(301).with_port(RedirectPort::Is(port(80))), sent_from, "http://shop/foo/bar?q=1"),
            ("scheme", redirect(301).with_scheme(Scheme::Https), "http://shop:80/", "https://shop/"),
            (
                "scheme keeps others",
                redirect(301).with_scheme(Scheme::Https),
                "http://shop:8443/",
                "https://shop:8443/",
            ),
            ("scheme back", redirect(301).with_scheme(Scheme::Http), "https://shop:443/", "http://shop/"),
            (
                "FROM_PROTOCOL_DEFAULT",
                redirect(301).with_port(RedirectPort::OfScheme),
                sent_from,
                "http://shop/foo/bar?q=1",
            ),
            (
                "FROM_REQUEST_PORT",
                redirect(301).with_port(RedirectPort::OfRequest),
                "http://shop/",
                "http://shop:9080/",
            ),
            ("gateway", redirect(302).with_port(RedirectPort::OfSchemeOrRequest), "http://shop/", "http://shop:9080/"),
            (
                "gateway with scheme",
                redirect(302).with_scheme(Scheme::Https).with_port(RedirectPort::OfSchemeOrRequest),
                sent_from,
                "https://shop/foo/bar?q=1",
            ),
        ] {
            let (scheme, rest) = from.split_once("://").unwrap();
            let (authority, path) = rest.split_once('/').unwrap();
            let target = format!("/{path}");
            let request = request_of(weir_request::Parts { scheme, authority, ..parts("GET", &target) });
            assert_eq!(rule.location(&request, port(9080), Some("/foo".len())).as_deref(), Ok(want), "{name}");
        }
    }

    #[test]
    fn what_sends_nobody_away_is_refused() {
        for code in [0, 200, 300, 304, 305, 400] {
            assert_eq!(Redirect::new(code).unwrap_err(), RedirectError::Code(code));
        }
        assert!(redirect(301).with_authority("a\r\nb").is_err());
        assert!(redirect(301).with_query("a\r\nb").is_err());
        let out = redirect(301).with_path(PathRewrite::prefix("/bar/", BASE).unwrap());
        assert!(out.location(&request_of(parts("GET", "/foo..")), port(80), Some(4)).is_err());
    }
}
