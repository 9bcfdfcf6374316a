//! Where spans are sent.

use std::{fmt, str::FromStr};

/// Ports of OTLP. OpenTelemetry Protocol Specification.
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
/// Where traces go by HTTP.
const PATH: &str = "/v1/traces";
/// The longest endpoint, in bytes.
const MAX_BYTES: usize = 1_024;

/// A collector: `grpc://host[:port]` or `http://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint {
    pub(super) form: Form,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

/// How OTLP is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Grpc,
    Http,
}

/// Not a collector's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is encrypted.
    #[error("{text:?}: collectors are reached without TLS of our own; expected grpc://host:port or http://host:port")]
    Tls {
        /// What was given.
        text: String,
    },
    /// It is anything else.
    #[error("{text:?} is no OTLP endpoint: expected grpc://host[:port] or http://host[:port][/path]")]
    Form {
        /// What was given.
        text: String,
    },
}

impl OtlpEndpoint {
    /// Host and port, as in a URL.
    pub(super) fn authority(&self) -> String {
        let v6 = self.host.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }
}

impl FromStr for OtlpEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let bad = || EndpointError::Form { text: text.chars().take(80).collect() };
        if text.starts_with("https://") || text.starts_with("grpcs://") {
            return Err(EndpointError::Tls { text: text.chars().take(80).collect() });
        }
        let (form, rest) = match text.split_once("://").filter(|_| text.len() <= MAX_BYTES) {
            Some(("grpc", rest)) => (Form::Grpc, rest),
            Some(("http", rest)) => (Form::Http, rest),
            Some(_) | None => return Err(bad()),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = match (form, path) {
            (Form::Grpc, "" | "/") => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Form::Grpc, _) => return Err(bad()),
            (Form::Http, "" | "/") => PATH,
            (Form::Http, path) => path,
        };
        let default = match form {
            Form::Grpc => GRPC_PORT,
            Form::Http => HTTP_PORT,
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(bad)?) };
                (host, port)
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| bad()))?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let visible = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if host.is_empty() || !host.chars().all(legal) || !visible || port == 0 {
            return Err(bad());
        }
        Ok(Self { form, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Grpc => write!(f, "grpc://{}", self.authority()),
            Form::Http => write!(f, "http://{}{}", self.authority(), self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_one_form() {
        for (text, want) in [
            ("grpc://collector", "grpc://collector:4317"),
            ("grpc://otel.obs.svc.cluster.local:14317/", "grpc://otel.obs.svc.cluster.local:14317"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://10.0.0.1:80/otlp/v1/traces", "http://10.0.0.1:80/otlp/v1/traces"),
            ("http://[fd00::1]:4318", "http://[fd00::1]:4318/v1/traces"),
            ("grpc://[fd00::1]", "grpc://[fd00::1]:4317"),
        ] {
            let endpoint: OtlpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), want);
            assert_eq!(want.parse(), Ok(endpoint));
        }
        for bad in [
            "",
            "collector:4317",
            "ftp://a",
            "grpc://",
            "grpc://a:0",
            "grpc://a:x",
            "grpc://a/path",
            "http://a b",
            "http://a/b c",
            "http://[fd00::1",
            "http://[x]",
            "http://fd00::1",
            "http://a:70000",
            "http://user@a",
        ] {
            assert!(matches!(bad.parse::<OtlpEndpoint>(), Err(EndpointError::Form { .. })), "{bad} was taken");
        }
        assert!(matches!("https://a".parse::<OtlpEndpoint>(), Err(EndpointError::Tls { .. })));
    }
}
