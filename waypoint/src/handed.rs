//! Connections that the agent before this pod hands over: behind a PROXY header, which says who the client has proven to be.
//!
//! What the header says is believed, so it matters who can write one. Over the network nobody: the agent refuses this port to all that comes from outside of
//! the pod, over HBONE and in plaintext, and hands over by a connection from the pod's own address or from loopback. From one of these nobody outside of the pod
//! connects, even where no agent stands before it: the kernel does not take packets from outside that bear them, or answers to itself. A client
//! that an agent lets through in plaintext keeps its own address. So a peer with any other address is refused before a byte of it is read. And this program
//! itself is never led to write one: a route that ends at the pod's own addresses ends there (`upstream.rs`).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};
use weir_http::{Arrival, Target};
use weir_identity::causes;
use weir_model::{canonical_ip, canonical_socket};
use weir_wire::proxy_v2::{Header, Preface, ProxyError, parse, wanted};

use crate::{
    arrive::{Client, arrival},
    compiled::State,
    worker::Worker,
};

/// What a header usually has at most, in bytes.
const USUAL: usize = 512;

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
enum NotHanded {
    #[error("it comes from {from} and not from this pod: only the agent before the pod may say who a client is")]
    Stranger { from: IpAddr },
    #[error("its PROXY header")]
    Header(#[from] ProxyError),
    #[error("it speaks of no client (LOCAL), and there is nothing to serve")]
    Local,
    #[error("it ends before its PROXY header does")]
    Ended,
    #[error("reading its PROXY header")]
    Io(#[from] io::Error),
    #[error("no whole PROXY header within {}s", .0.as_secs())]
    Late(Duration),
    #[error("{0}")]
    NotServed(String),
}

/// Serves a connection to its end. `reading` is dropped when its header is read.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: TcpStream, peer: SocketAddr, reading: oneshot::Sender<()>) {
    let (_counted, peer) = (worker.count(), canonical_socket(peer));
    let taken = taken(&worker, &mut stream, peer.ip()).await;
    drop(reading);
    match taken {
        Ok(arrival) => worker.engine.clone().serve(stream, arrival).await,
        Err(NotHanded::Local) => tracing::debug!(%peer, "a PROXY header of nobody"),
        Err(error) => tracing::warn!(%peer, reason = %causes(&error), "connection behind a PROXY header refused"),
    }
}

async fn taken(worker: &Worker, stream: &mut TcpStream, from: IpAddr) -> Result<Arrival, NotHanded> {
    if !is_of_this_pod(from, canonical_ip(stream.local_addr()?.ip())) {
        return Err(NotHanded::Stranger { from });
    }
    let patience = worker.incoming.handshake;
    let header = timeout(patience, header(stream)).await.map_err(|_late| NotHanded::Late(patience))??;
    arrived(worker, &worker.shared.state(), &header)
}

/// Whether a peer is within the pod: it connects from the address that it connects to, or by loopback.
pub(crate) fn is_of_this_pod(peer: IpAddr, own: IpAddr) -> bool {
    peer == own || (peer.is_loopback() && own.is_loopback())
}

/// Reads the header, and not a byte more.
async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, NotHanded> {
    let mut bytes = Vec::with_capacity(USUAL);
    loop {
        let missing = wanted(&bytes).saturating_sub(bytes.len());
        let limit = u64::try_from(missing).unwrap_or(u64::MAX);
        if (&mut *stream).take(limit).read_buf(&mut bytes).await? == 0 {
            return Err(NotHanded::Ended);
        }
        match parse(&bytes)? {
            Some((Preface::Handed(header), _)) => return Ok(header),
            Some((Preface::Local, _)) => return Err(NotHanded::Local),
            None => {}
        }
    }
}

fn arrived(worker: &Worker, state: &State, header: &Header) -> Result<Arrival, NotHanded> {
    let client = Client { address: header.client, identity: header.identity.as_ref() };
    let refused = |reason: String| {
        let who = header.identity.as_ref().map_or_else(|| "nobody proven".to_owned(), ToString::to_string);
        NotHanded::NotServed(format!("{who} at {}: {reason}", header.client))
    };
    let asked = canonical_socket(header.target);
    let arrival = arrival(worker, state, &client, asked).map_err(|(_, reason)| refused(reason))?;
    match (&header.service, &arrival.target) {
        (Some(named), Target::Service { host, .. }) if named != host => {
            Err(refused(format!("the header names {named}, and {asked} is an address of {host}")))
        }
        (Some(_) | None, Target::Service { .. } | Target::Pod { .. }) => Ok(arrival),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn said() -> Header {
        Header {
            client: "10.0.0.1:4000".parse().unwrap(),
            target: "10.96.0.1:80".parse().unwrap(),
            identity: Some("spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()),
            service: None,
        }
    }

    #[test]
    fn only_who_is_within_the_pod_is_believed() {
        for (peer, own, want) in [
            ("10.0.0.7", "10.0.0.7", true),
            ("fd00::7", "fd00::7", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("127.0.0.1", "10.0.0.7", false),
            ("10.0.0.8", "10.0.0.7", false),
            ("10.0.0.1", "10.0.0.7", false),
            ("fd00::8", "fd00::7", false),
            ("fe80::7", "fd00::7", false),
            ("10.0.0.8", "127.0.0.1", false),
        ] {
            let is = is_of_this_pod(peer.parse().unwrap(), own.parse().unwrap());
            assert_eq!(is, want, "from {peer} to {own}");
        }
    }

    #[tokio::test]
    async fn a_header_is_read_to_its_end_and_nothing_behind_it() {
        for identity in [said().identity, None] {
            let want = Header { identity, ..said() };
            let bytes = [want.encode(), b"GET / HTTP/1.1\r\n".to_vec()].concat();
            // However it comes in pieces.
            for piece in [1, 7, 16, 17, bytes.len()] {
                let (mut one, mut other) = tokio::io::duplex(4_096);
                let writing = async {
                    for part in bytes.chunks(piece) {
                        one.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    one.shutdown().await.unwrap();
                };
                let (read, ()) = tokio::join!(header(&mut other), writing);
                assert_eq!(read.unwrap(), want, "in pieces of {piece}");
                let mut rest = String::new();
                other.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "GET / HTTP/1.1\r\n", "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let whole = said().encode();
        let local = [&whole[..12], &[0x20, 0, 0, 0]].concat();
        let unknown = [&whole[..12], &[0x21, 0, 0, 0]].concat();
        let huge = [&whole[..14], &[0xff, 0xff]].concat();
        for (bytes, part) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "its PROXY header: no header of the PROXY protocol"),
            (b"\x16\x03\x01", "no header of the PROXY protocol"),
            (&local, "LOCAL"),
            (&unknown, "family and protocol 0x00"),
            (&huge, "a header of 65551 bytes"),
            (&whole[..whole.len() - 1], "it ends before its PROXY header does"),
            (&[], "it ends before its PROXY header does"),
        ] {
            let error = header(&mut &*bytes).await.unwrap_err();
            let error = causes(&error);
            assert!(error.contains(part), "{bytes:?}: {error}");
        }
    }
}
