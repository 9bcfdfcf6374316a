//! The PROXY protocol, version 2: what an agent says before the bytes of a connection that it hands to a proxy behind it. HAProxy's
//! `proxy-protocol.txt` §2.2; the extensions are those of Istio's `workload.ApplicationTunnel`.
//!
//! What it says is believed by who reads it: only who has proven who it is may be let to write it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use weir_model::{Hostname, SpiffeId, canonical_socket};

/// The longest header that is read, in bytes.
pub const HEADER_BOUND: usize = 4_096;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// Version 2: with the addresses of a connection, or the proxy's own connection.
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
/// A TCP connection over either family.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// TLV of the client's proven identity, and of the service that was asked for. Istio `workload.proto`.
const IDENTITY: u8 = 0xD0;
const SERVICE: u8 = 0xD1;

/// What is said of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The client.
    pub client: SocketAddr,
    /// What it asked for.
    pub target: SocketAddr,
    /// Who the client has proven to be. TLV `0xD0`.
    pub identity: Option<SpiffeId>,
    /// The service that was asked for. TLV `0xD1`.
    pub service: Option<Hostname>,
}

/// What stands before the bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preface {
    /// A connection that is handed on.
    Handed(Header),
    /// One that the proxy makes for itself, such as to see whether anybody is there.
    Local,
}

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It begins otherwise.
    #[error("no header of the PROXY protocol, version 2")]
    Signature,
    /// Another version, or a command there is not.
    #[error("version and command {0:#04x}, expected {PROXY:#04x} or {LOCAL:#04x}")]
    Command(u8),
    /// Neither TCP over IPv4 nor over IPv6.
    #[error("family and protocol {0:#04x}, expected {TCP4:#04x} or {TCP6:#04x}")]
    Family(u8),
    /// More than [`HEADER_BOUND`].
    #[error("a header of {0} bytes, expected {HEADER_BOUND} at most")]
    TooLong(usize),
    /// The addresses, or what comes after them, are longer than what is said to be there.
    #[error("the header ends within a field")]
    Short,
    /// It says one thing twice.
    #[error("TLV {0:#04x} is there twice")]
    Repeated(u8),
    /// A value that is none of its kind.
    #[error("TLV {kind:#04x}: {why}")]
    Value {
        /// Its type.
        kind: u8,
        /// What is wrong with it.
        why: String,
    },
}

impl Header {
    /// The bytes that [`parse`] reads. Addresses of two families are both written as IPv6.
    pub fn encode(&self) -> Vec<u8> {
        let (client, target) = (canonical_socket(self.client), canonical_socket(self.target));
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(SIGNATURE);
        bytes.push(PROXY);
        match (client.ip(), target.ip()) {
            (IpAddr::V4(client), IpAddr::V4(target)) => {
                bytes.extend([TCP4, 0, 0]);
                bytes.extend(client.octets());
                bytes.extend(target.octets());
            }
            (client, target) => {
                bytes.extend([TCP6, 0, 0]);
                bytes.extend(mapped(client).octets());
                bytes.extend(mapped(target).octets());
            }
        }
        bytes.extend(client.port().to_be_bytes());
        bytes.extend(target.port().to_be_bytes());
        let identity = self.identity.as_ref().map(|identity| (IDENTITY, identity.to_string()));
        let service = self.service.as_ref().map(|service| (SERVICE, service.to_string()));
        for (kind, value) in identity.into_iter().chain(service) {
            bytes.push(kind);
            bytes.extend(length(value.len()));
            bytes.extend(value.as_bytes());
        }
        let len = length(bytes.len() - FIXED);
        bytes[FIXED - 2..FIXED].copy_from_slice(&len);
        bytes
    }
}

/// Names are short: all of a header fits its length.
fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("an identity and a host name are a few hundred bytes").to_be_bytes()
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// How many bytes of a connection that begins so may be taken for its header: all of it once its length is there, and nothing that comes after it.
pub fn wanted(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<FIXED>() {
        Some([.., high, low]) => FIXED + usize::from(u16::from_be_bytes([*high, *low])),
        None => FIXED,
    }
}

/// What the bytes begin with, and how many bytes of them that is; none while it may still become a header. Extensions that are not
/// known are skipped.
///
/// # Errors
/// When it is no header, whatever may follow.
pub fn parse(bytes: &[u8]) -> Result<Option<(Preface, usize)>, ProxyError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(ProxyError::Signature);
    }
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(command @ (&PROXY | &LOCAL)) => *command,
        Some(other) => return Err(ProxyError::Command(*other)),
    };
    let Some((&[family, _, _], _)) = bytes[13..].split_first_chunk::<3>() else { return Ok(None) };
    let whole = wanted(bytes);
    if whole > HEADER_BOUND {
        return Err(ProxyError::TooLong(whole));
    }
    let Some(body) = bytes.get(FIXED..whole) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some((Preface::Local, whole)));
    }
    let mut rest = body;
    let (client, target): (IpAddr, IpAddr) = match family {
        TCP4 => (Ipv4Addr::from(take::<4>(&mut rest)?).into(), Ipv4Addr::from(take::<4>(&mut rest)?).into()),
        TCP6 => (Ipv6Addr::from(take::<16>(&mut rest)?).into(), Ipv6Addr::from(take::<16>(&mut rest)?).into()),
        other => return Err(ProxyError::Family(other)),
    };
    let client = SocketAddr::new(client, u16::from_be_bytes(take(&mut rest)?));
    let target = SocketAddr::new(target, u16::from_be_bytes(take(&mut rest)?));
    let (identity, service) = extensions(rest)?;
    let header = Header { client: canonical_socket(client), target: canonical_socket(target), identity, service };
    Ok(Some((Preface::Handed(header), whole)))
}

fn extensions(mut rest: &[u8]) -> Result<(Option<SpiffeId>, Option<Hostname>), ProxyError> {
    let (mut identity, mut service) = (None, None);
    while !rest.is_empty() {
        let [kind, high, low] = take(&mut rest)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = rest.split_at_checked(len).ok_or(ProxyError::Short)?;
        rest = after;
        match kind {
            IDENTITY => read(&mut identity, kind, value)?,
            SERVICE => read(&mut service, kind, value)?,
            _ => {}
        }
    }
    Ok((identity, service))
}

fn read<T: FromStr<Err: std::fmt::Display>>(into: &mut Option<T>, kind: u8, value: &[u8]) -> Result<(), ProxyError> {
    if into.is_some() {
        return Err(ProxyError::Repeated(kind));
    }
    let bad = |why: String| ProxyError::Value { kind, why };
    let text = std::str::from_utf8(value).map_err(|error| bad(error.to_string()))?;
    *into = Some(text.parse().map_err(|error: T::Err| bad(error.to_string()))?);
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ProxyError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(ProxyError::Short)?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
#[path = "proxy_v2/tests.rs"]
mod tests;
