//! Where a control plane is.

use http::{Uri, uri::Authority};
use rustls_pki_types::ServerName;

/// The port when none is said. Istiod's, for gRPC over TLS.
const DEFAULT_PORT: u16 = 15012;

/// Why a text is no place to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not `https://host:port`.
    #[error("{0:?} is not of the form https://host:port")]
    Form(String),
    /// In the clear.
    #[error("{0:?} is not encrypted: expected https://")]
    Plaintext(String),
    /// No name a certificate could have.
    #[error("{0:?} is no name or address that a certificate could be for")]
    Name(String),
}

/// A host, a port, and the name its certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) name: ServerName<'static>,
    pub(crate) authority: Authority,
}

impl Target {
    /// Reads `https://host:port` or `host:port`. The certificate must be for `name`, or else for the host.
    ///
    /// # Errors
    /// The text is something else, or would not be encrypted.
    pub fn parse(text: &str, name: Option<&str>) -> Result<Self, TargetError> {
        let form = || TargetError::Form(text.to_owned());
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some(("http", _)) => return Err(TargetError::Plaintext(text.to_owned())),
            Some(_) => return Err(form()),
            None => text,
        };
        let uri: Uri = format!("https://{}", rest.strip_suffix('/').unwrap_or(rest)).parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(form());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.port().is_none() && authority.as_str().len() == authority.host().len() => DEFAULT_PORT,
            None => return Err(form()),
        };
        let named = name.unwrap_or(&host).to_owned();
        let name = ServerName::try_from(named.clone()).map_err(|_| TargetError::Name(named.clone()))?;
        let shown = if named.contains(':') { format!("[{named}]:{port}") } else { format!("{named}:{port}") };
        let authority = shown.parse().map_err(|_| TargetError::Name(named))?;
        Ok(Self { host, port, name, authority })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_a_port_and_a_name() {
        for (text, name, shown, authority) in [
            (
                "https://istiod.istio-system.svc:15012",
                None,
                "https://istiod.istio-system.svc:15012",
                "istiod.istio-system.svc:15012",
            ),
            (
                "istiod.istio-system.svc:15012",
                None,
                "https://istiod.istio-system.svc:15012",
                "istiod.istio-system.svc:15012",
            ),
            ("https://control", None, "https://control:15012", "control:15012"),
            ("https://control/", None, "https://control:15012", "control:15012"),
            ("https://127.0.0.1:1", Some("control.svc"), "https://127.0.0.1:1", "control.svc:1"),
            ("https://[::1]:1", None, "https://[::1]:1", "[::1]:1"),
            ("[fd00::1]:7", Some("a.b"), "https://[fd00::1]:7", "a.b:7"),
        ] {
            let target = Target::parse(text, name).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((target.to_string().as_str(), target.authority.as_str()), (shown, authority), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a:1",
            "https://a:x",
            "https://a:99999",
            "https://a:",
            "ftp://a:1",
            "https://a b",
            "fd00::1",
        ] {
            assert!(Target::parse(text, None).is_err(), "{text:?} was taken");
        }
        assert_eq!(Target::parse("http://a:15010", None), Err(TargetError::Plaintext("http://a:15010".to_owned())));
        assert!(matches!(Target::parse("https://a:1", Some("a b")), Err(TargetError::Name(_))));
    }
}
