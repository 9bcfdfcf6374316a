//! One set of keys, fetched once: within a time, of a bounded size, from an address that may be asked.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use weir_manifest::{KeySource, KeysUrl, Scheme};
use weir_request::Host;

use crate::{error::FetchError, guard::Allowed};

/// The largest answer, in bytes.
pub const MAX_RESPONSE: usize = 1 << 20;

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How to ask.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) allowed: Arc<Allowed>,
}

impl Client {
    /// What a source of keys says, within this time.
    pub(crate) async fn fetch(&self, source: &KeySource, wait: Duration) -> Result<Bytes, FetchError> {
        let fetched = async {
            match source {
                KeySource::Inline(jwks) => Ok(Bytes::copy_from_slice(jwks.as_str().as_bytes())),
                KeySource::Uri(url) => self.get(url, wait).await,
                KeySource::Discovery(url) => {
                    let said = self.get(url, wait).await?;
                    let keys = said_by(source, url, &said).ok_or(FetchError::Discovery)?;
                    self.get(&keys, wait).await
                }
            }
        };
        timeout(wait, fetched).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn get(&self, url: &KeysUrl, wait: Duration) -> Result<Bytes, FetchError> {
        let stream = self.connect(url, wait).await?;
        match url.scheme() {
            Scheme::Http => ask(stream, url).await,
            Scheme::Https => {
                let name = match url.host() {
                    Host::Ip(address) => ServerName::IpAddress(address.into()),
                    Host::Name(name) => ServerName::try_from(name.to_owned()).map_err(|_| FetchError::Name)?,
                };
                let connector = TlsConnector::from(self.tls.clone());
                let stream = connector.connect(name, stream).await.map_err(FetchError::Tls)?;
                ask(stream, url).await
            }
        }
    }

    /// To the first address that answers, of those that may be asked.
    async fn connect(&self, url: &KeysUrl, wait: Duration) -> Result<TcpStream, FetchError> {
        let all = resolve(url).await?;
        let judged = all.iter().map(|address| (address, self.allowed.check(url, *address)));
        let allowed = judged.clone().filter(|(_, outcome)| outcome.is_ok()).map(|(address, _)| *address);
        let allowed: Vec<IpAddr> = allowed.take(MAX_ADDRESSES).collect();
        let mut last = match judged.filter_map(|(address, outcome)| Some((*address, outcome.err()?))).next() {
            Some((address, why)) => FetchError::Refused { address, why },
            None => FetchError::Resolve(io::ErrorKind::NotFound.into()),
        };
        // Each has its share of the time, so that one that is silent does not hide the others.
        let share = wait / u32::try_from(allowed.len().max(1)).unwrap_or(1);
        for address in allowed {
            match timeout(share, TcpStream::connect(SocketAddr::new(address, url.port()))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => last = FetchError::Connect { address, source },
                Err(_) => last = FetchError::Connect { address, source: io::ErrorKind::TimedOut.into() },
            }
        }
        Err(last)
    }
}

/// The addresses of the host. What is connected to is one of these, never the name again.
async fn resolve(url: &KeysUrl) -> Result<Vec<IpAddr>, FetchError> {
    match url.host() {
        Host::Ip(address) => Ok(vec![address]),
        Host::Name(name) => {
            let found = lookup_host((name, url.port())).await.map_err(FetchError::Resolve)?;
            Ok(found.map(|address| address.ip()).collect())
        }
    }
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, url: &KeysUrl) -> Result<Bytes, FetchError> {
    let (mut send, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let request = Request::get(url.target())
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .header(header::USER_AGENT, "weir")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a URL of keys has a legal target and authority");
    let answer = async {
        let response = send.send_request(request).await.map_err(FetchError::Http)?;
        body(response).await
    };
    tokio::pin!(answer, connection);
    // The connection is driven here and nowhere else, so nothing outlives the fetch.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // All was read; what came is in hyper's hands.
            Ok(()) => answer.await,
            Err(error) => Err(FetchError::Http(error)),
        },
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status { status: response.status().as_u16() });
    }
    match Limited::new(response.into_body(), MAX_RESPONSE).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        // What is no failure of the connection is the limit.
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http(*error),
            Err(_) => FetchError::TooLarge,
        }),
    }
}

/// Where an issuer's configuration says its keys are: it must be that issuer's, and must not lead from https to http.
fn said_by(source: &KeySource, url: &KeysUrl, configuration: &[u8]) -> Option<KeysUrl> {
    let said: Value = serde_json::from_slice(configuration).ok()?;
    let issuer = said.get("issuer")?.as_str()?;
    if KeySource::of_issuer(issuer).as_ref() != Some(source) {
        return None;
    }
    let keys: KeysUrl = said.get("jwks_uri")?.as_str()?.parse().ok()?;
    match (url.scheme(), keys.scheme()) {
        (Scheme::Https, Scheme::Http) => None,
        (Scheme::Https | Scheme::Http, _) => Some(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_of_its_issuer_and_as_safe_as_itself() {
        let keys = |url: &str| Some(url.parse::<KeysUrl>().unwrap());
        for (issuer, configuration, want) in [
            (
                "https://a.example",
                r#"{"issuer":"https://a.example","jwks_uri":"https://b.example/k","more":1}"#,
                keys("https://b.example/k"),
            ),
            (
                "https://a.example/",
                r#"{"issuer":"https://a.example","jwks_uri":"https://a.example/k"}"#,
                keys("https://a.example/k"),
            ),
            (
                "http://a.example",
                r#"{"issuer":"http://a.example","jwks_uri":"http://a.example/k"}"#,
                keys("http://a.example/k"),
            ),
            ("https://a.example", r#"{"issuer":"https://evil.example","jwks_uri":"https://a.example/k"}"#, None),
            ("https://a.example", r#"{"issuer":"https://a.example","jwks_uri":"http://a.example/k"}"#, None),
            ("https://a.example", r#"{"issuer":"https://a.example","jwks_uri":"file:///k"}"#, None),
            ("https://a.example", r#"{"issuer":"https://a.example"}"#, None),
            ("https://a.example", r#"{"jwks_uri":"https://a.example/k"}"#, None),
            ("https://a.example", "[]", None),
            ("https://a.example", "x", None),
        ] {
            let source = KeySource::of_issuer(issuer).unwrap();
            let KeySource::Discovery(url) = &source else { panic!("{source:?}") };
            assert_eq!(said_by(&source, url, configuration.as_bytes()), want, "{configuration}");
        }
    }
}
