//! What is asked: who, where to, and with which request.

use std::{fmt, net::SocketAddr, str::FromStr};

use weir_model::{Hostname, Port, canonical_socket};
use weir_world::{Client, Target};

use crate::request::{RequestText, RequestTextError};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who connects.
    pub from: Client,
    /// Where to.
    pub to: Wanted,
    /// What is asked there; none for the connection alone.
    pub request: Option<RequestText>,
}

/// The fields of a query to `/debug/explain`, in the order of [`Question::read`].
pub const FIELDS: [&str; 4] = ["from", "to", "request", "headers"];

/// Why a query is no question.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not say who, or where to.
    #[error(
        "expected ?from=SOURCE&to=DESTINATION, where SOURCE is NAMESPACE/SERVICE-ACCOUNT, a spiffe:// identity or \"plaintext\", with \
         @ADDRESS behind it where the address matters, and DESTINATION is SERVICE.NAMESPACE:PORT, NAMESPACE/POD:PORT or ADDRESS:PORT; and, for a request, \
         &request=METHOD /PATH&headers=NAME: VALUE, a line each"
    )]
    Incomplete,
    /// Who connects.
    #[error(transparent)]
    From(#[from] weir_world::QuestionError),
    /// Where to.
    #[error(transparent)]
    To(#[from] QuestionError),
    /// With which request.
    #[error(transparent)]
    Request(#[from] RequestTextError),
}

impl Question {
    /// Of the fields of a query, [`FIELDS`].
    ///
    /// # Errors
    /// What is missing, or no such thing.
    pub fn read([from, to, request, headers]: [Option<&str>; 4]) -> Result<Self, AskError> {
        let (Some(from), Some(to)) = (from, to) else { return Err(AskError::Incomplete) };
        let headers = headers.iter().flat_map(|headers| headers.lines());
        let request = request.map(|line| RequestText::read(line, headers)).transpose()?;
        Ok(Self { from: from.parse()?, to: to.parse()?, request })
    }
}

/// Where somebody wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// To a service, by its host name or as `service.namespace`, and its port.
    Service(Hostname, Port),
    /// To a pod and its own port.
    Pod(Target),
    /// To an address.
    Address(SocketAddr),
}

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no destination: {why}; expected SERVICE.NAMESPACE:PORT, NAMESPACE/POD:PORT with the pod's own port, or ADDRESS:PORT"
)]
pub struct QuestionError {
    /// As given.
    text: String,
    /// What is wrong.
    why: String,
}

impl FromStr for Wanted {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, QuestionError> {
        let wrong = |why: String| QuestionError { text: text.to_owned(), why };
        if let Ok(address) = text.parse::<SocketAddr>() {
            Port::new(address.port()).ok_or_else(|| wrong("there is no port 0".to_owned()))?;
            return Ok(Self::Address(canonical_socket(address)));
        }
        if text.contains('/') {
            return Ok(Self::Pod(text.parse().map_err(|error: weir_world::QuestionError| wrong(inner(&error)))?));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("there is no port".to_owned()))?;
        let port = port.parse().map_err(|error| wrong(format!("{error}")))?;
        let host = host.to_ascii_lowercase().parse().map_err(|error| wrong(format!("{error}")))?;
        Ok(Self::Service(host, port))
    }
}

/// What is wrong, without what was expected: here more is.
fn inner(error: &weir_world::QuestionError) -> String {
    match error {
        weir_world::QuestionError::Client { why, .. } | weir_world::QuestionError::Target { why, .. } => why.clone(),
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(host, port) => write!(f, "{host}:{port}"),
            Self::Pod(target) => target.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_service_a_pod_or_an_address() {
        for (text, want) in [
            ("cart.shop:80", "Service"),
            ("cart.shop.svc.cluster.local:80", "Service"),
            ("shop/cart-1:8080", "Pod"),
            ("10.0.0.1:80", "Address"),
            ("[fd00::1]:80", "Address"),
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!(wanted.to_string(), text);
            assert!(format!("{wanted:?}").starts_with(want), "{text}: {wanted:?}");
        }
        assert_eq!("Cart.Shop:80".parse(), "cart.shop:80".parse::<Wanted>());
        assert_eq!("[::ffff:10.0.0.1]:80".parse(), "10.0.0.1:80".parse::<Wanted>());
    }

    #[test]
    fn what_is_none_says_what_is_wrong() {
        for (text, why) in [
            ("", "there is no port"),
            ("cart.shop", "there is no port"),
            ("cart.shop:0", "0"),
            ("cart shop:80", "cart shop"),
            ("10.0.0.1:0", "there is no port 0"),
            ("shop/:80", "there is no pod"),
            ("shop/cart", "there is no port"),
        ] {
            let error = text.parse::<Wanted>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("expected SERVICE.NAMESPACE:PORT"), "{text}: {error}");
        }
    }
}
