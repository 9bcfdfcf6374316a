//! The TLS handshake, made by rustls, up to the point where records are ours.

use std::{future::poll_fn, io, io::IoSliceMut, rc::Rc, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ServerConfig,
    client::UnbufferedClientConnection,
    kernel::KernelConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};
use weir_net::Stream;

use crate::{
    error::Error,
    record::{self, RecordKey},
};

/// The most bytes of one side's flight: a client certificate chain fits well.
const MAX_FLIGHT: usize = 64 << 10;

/// Computes the next keys of a connection. RFC 8446 §7.2.
pub(crate) trait KeySchedule {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
}

impl<Side> KeySchedule for KernelConnection<Side> {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_tx_secret().map(|(_, secrets)| secrets)
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_rx_secret().map(|(_, secrets)| secrets)
    }
}

/// A connection whose handshake is done: both sides are who their certificates say.
pub struct Established {
    pub(crate) stream: Stream,
    pub(crate) tx: RecordKey,
    pub(crate) rx: RecordKey,
    pub(crate) schedule: Box<dyn KeySchedule>,
    /// Records that came with the end of the handshake.
    pub(crate) leftover: Vec<u8>,
    peer: Vec<CertificateDer<'static>>,
    key_exchange: Option<rustls::NamedGroup>,
}

impl Established {
    /// The peer's certificate chain, verified, leaf first.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer
    }

    /// How the keys were agreed on.
    pub fn key_exchange(&self) -> Option<rustls::NamedGroup> {
        self.key_exchange
    }

    /// The socket below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// One side of rustls's unbuffered API, which has no common trait.
trait Side {
    type State;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::State>;
}

impl Side for UnbufferedClientConnection {
    type State = rustls::client::ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::State> {
        self.process_tls_records(bytes)
    }
}

impl Side for UnbufferedServerConnection {
    type State = rustls::server::ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::State> {
        self.process_tls_records(bytes)
    }
}

/// What the handshake wants next.
enum Step {
    Send,
    Receive,
    Done,
}

/// Makes the server's side of the handshake.
///
/// # Errors
/// If the peer is not who it must be, does not speak TLS, closes, or takes longer than `deadline`.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>, deadline: Duration) -> Result<Established, Error> {
    let mut tls = UnbufferedServerConnection::new(config).map_err(tls_error)?;
    let leftover = within(deadline, drive(&mut tls, &stream)).await?;
    let (peer, key_exchange) = check(&tls)?;
    let (secrets, kernel) = tls.dangerous_into_kernel_connection().map_err(tls_error)?;
    established(stream, secrets, Box::new(kernel), leftover, peer, key_exchange)
}

/// Makes the client's side of the handshake. The name is never sent: identities are in the configuration.
pub(crate) async fn initiate(
    stream: Stream,
    config: Arc<ClientConfig>,
    deadline: Duration,
) -> Result<Established, Error> {
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let mut tls = UnbufferedClientConnection::new(config, name).map_err(tls_error)?;
    let leftover = within(deadline, drive(&mut tls, &stream)).await?;
    let (peer, key_exchange) = check(&tls)?;
    let (secrets, kernel) = tls.dangerous_into_kernel_connection().map_err(tls_error)?;
    established(stream, secrets, Box::new(kernel), leftover, peer, key_exchange)
}

fn established(
    stream: Stream,
    secrets: rustls::ExtractedSecrets,
    schedule: Box<dyn KeySchedule>,
    leftover: Vec<u8>,
    peer: Vec<CertificateDer<'static>>,
    key_exchange: Option<rustls::NamedGroup>,
) -> Result<Established, Error> {
    let key = |(sequence, secrets): (u64, ConnectionTrafficSecrets)| {
        RecordKey::new(sequence, &secrets)
            .map_err(|_| tls_error(rustls::Error::General("negotiated a cipher suite that was not offered".into())))
    };
    let (tx, rx) = (key(secrets.tx)?, key(secrets.rx)?);
    Ok(Established { stream, tx, rx, schedule, leftover, peer, key_exchange })
}

/// ALPN must be h2; the peer's chain was verified by the configuration.
fn check(common: &rustls::CommonState) -> Result<(Vec<CertificateDer<'static>>, Option<rustls::NamedGroup>), Error> {
    if common.alpn_protocol() != Some(b"h2") {
        return Err(Error::Alpn);
    }
    let peer = common.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    Ok((peer, common.negotiated_key_exchange_group().map(|g| g.name())))
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = Error::Deadline { what: "TLS handshake", after: deadline };
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(late))
}

/// Runs the handshake to its end. What was received beyond it is returned untouched: rustls is given whole records, one
/// more only when it asks, so it never opens a record that is ours.
async fn drive<S: Side>(tls: &mut S, stream: &Stream) -> Result<Vec<u8>, Error> {
    let mut received = Vec::new();
    let mut offered = 0;
    let mut outgoing = Vec::new();
    loop {
        let (used, step) = step(tls, &mut received[..offered], &mut outgoing);
        received.drain(..used);
        offered -= used;
        match step {
            Err(error) => {
                // The alert tells the peer why; whether it arrives changes nothing here.
                drop(send(stream, &mut outgoing).await);
                return Err(error);
            }
            Ok(Step::Send) => send(stream, &mut outgoing).await?,
            Ok(Step::Done) => {
                send(stream, &mut outgoing).await?;
                return Ok(received);
            }
            Ok(Step::Receive) => offered += next_record(stream, &mut received, offered).await?,
        }
    }
}

fn step<S: Side>(tls: &mut S, bytes: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = tls.process(bytes);
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(outgoing, |out| data.encode(out));
            return (discard, Ok(Step::Send));
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(Ok(record)) = traffic.next_record() {
                discard += record.discard;
            }
            Err(tls_error(rustls::Error::General("application data inside the handshake".into())))
        }
        Ok(_) => Err(Error::Closed),
        Err(error) => Err(tls_error(error)),
    };
    if step.is_err() {
        // The alert, if rustls has one to send. It counts on being shown again what it has not discarded, and panics otherwise.
        let rest = discard.min(bytes.len());
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process(&mut bytes[rest..]).state {
            encode(outgoing, |out| data.encode(out));
        }
    }
    (discard, step)
}

fn encode(outgoing: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = outgoing.len();
    let written = match write(&mut []) {
        Err(EncodeError::InsufficientSize(need)) => {
            outgoing.resize(start + need.required_size, 0);
            write(&mut outgoing[start..]).unwrap_or(0)
        }
        Ok(n) => n,
        Err(EncodeError::AlreadyEncoded) => 0,
    };
    outgoing.truncate(start + written);
}

async fn send(stream: &Stream, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let mut rest = &outgoing[..];
    while !rest.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, &[io::IoSlice::new(rest)])).await.map_err(io_error)?;
        rest = &rest[n..];
    }
    outgoing.clear();
    Ok(())
}

/// Receives until one more record than `offered` bytes is whole, and says how long that one is.
async fn next_record(stream: &Stream, received: &mut Vec<u8>, offered: usize) -> Result<usize, Error> {
    loop {
        match record::length(&received[offered..]) {
            Err(_) => return Err(Error::NotTls),
            Ok(Some(length)) if received.len() >= offered + length => return Ok(length),
            Ok(_) if received.len() >= MAX_FLIGHT => {
                return Err(tls_error(rustls::Error::General("handshake larger than 64 KiB".into())));
            }
            Ok(_) => {}
        }
        let have = received.len();
        received.resize(have + 4_096, 0);
        let read = poll_fn(|cx| stream.poll_read(cx, &mut [IoSliceMut::new(&mut received[have..])])).await;
        received.truncate(have + *read.as_ref().unwrap_or(&0));
        if read.map_err(io_error)? == 0 {
            return Err(Error::Closed);
        }
    }
}

fn tls_error(error: rustls::Error) -> Error {
    Error::Tls(Rc::new(error))
}

fn io_error(error: io::Error) -> Error {
    Error::Connect(Rc::new(error))
}
