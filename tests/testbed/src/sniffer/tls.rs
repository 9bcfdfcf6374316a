//! What of a TLS 1.3 handshake is in the clear. RFC 8446 §4.1.

use serde::Serialize;

/// A handshake as a bystander sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsSession {
    /// The version the server chose, such as `TLSv1.3`.
    pub version: String,
    /// The key exchange group of the server's share, such as `X25519MLKEM768`.
    pub key_exchange: String,
    /// The cipher suite the server chose.
    pub cipher: String,
    /// Whether the client named the server in the clear.
    pub server_name_sent: bool,
    /// Protocols the client offers.
    pub client_alpn: Vec<String>,
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HANDSHAKE_RECORD: u8 = 22;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// Reads both directions from their first bytes; none unless both hellos are there.
pub(crate) fn session(client: &[u8], server: &[u8]) -> Option<TlsSession> {
    let client = handshake_bytes(client);
    let server = handshake_bytes(server);
    let (kind, hello) = messages(&client).next()?;
    if kind != CLIENT_HELLO {
        return None;
    }
    // The last one: one before it would be a request to try again.
    let (_, answer) = messages(&server).filter(|(kind, _)| *kind == SERVER_HELLO).last()?;
    let offered = client_extensions(hello)?;
    let mut reader = Reader(answer);
    let legacy = reader.u16()?;
    reader.bytes(32)?;
    reader.with_u8_length()?;
    let cipher = reader.u16()?;
    reader.u8()?;
    let chosen = extensions(reader.with_u16_length().unwrap_or_default())?;
    let of = |kind| chosen.iter().find(|(k, _)| *k == kind).and_then(|(_, value)| Reader(value).u16());
    Some(TlsSession {
        version: version(of(SUPPORTED_VERSIONS).unwrap_or(legacy)),
        key_exchange: of(KEY_SHARE).map_or_else(|| "none".to_owned(), group),
        cipher: suite(cipher),
        server_name_sent: offered.iter().any(|(kind, _)| *kind == SERVER_NAME),
        client_alpn: offered.iter().find(|(kind, _)| *kind == ALPN).and_then(|(_, v)| protocols(v)).unwrap_or_default(),
    })
}

fn client_extensions(hello: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut reader = Reader(hello);
    reader.bytes(2 + 32)?;
    reader.with_u8_length()?;
    reader.with_u16_length()?;
    reader.with_u8_length()?;
    extensions(reader.with_u16_length()?)
}

fn extensions(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let (mut reader, mut found) = (Reader(bytes), Vec::new());
    while !reader.0.is_empty() {
        found.push((reader.u16()?, reader.with_u16_length()?));
    }
    Some(found)
}

fn protocols(extension: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(extension).with_u16_length()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        found.push(String::from_utf8_lossy(list.with_u8_length()?).into_owned());
    }
    Some(found)
}

/// Contents of the handshake records at the start of a stream, put together; what follows the first other record is encrypted, save
/// for a lone change_cipher_spec in between.
fn handshake_bytes(stream: &[u8]) -> Vec<u8> {
    let (mut reader, mut found) = (Reader(stream), Vec::new());
    while let (Some(kind), Some(_version)) = (reader.u8(), reader.u16()) {
        let Some(content) = reader.with_u16_length() else { break };
        if kind == HANDSHAKE_RECORD {
            found.extend_from_slice(content);
        }
    }
    found
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(move || {
        let kind = reader.u8()?;
        let [high, middle, low] = reader.bytes(3)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
        Some((kind, reader.bytes(length)?))
    })
}

fn version(number: u16) -> String {
    match number {
        0x0304 => "TLSv1.3".into(),
        0x0303 => "TLSv1.2".into(),
        other => format!("{other:#06x}"),
    }
}

/// IANA, TLS Supported Groups.
fn group(number: u16) -> String {
    match number {
        0x11ec => "X25519MLKEM768".into(),
        0x11eb => "SecP256r1MLKEM768".into(),
        0x001d => "X25519".into(),
        0x0017 => "secp256r1".into(),
        0x0018 => "secp384r1".into(),
        other => format!("{other:#06x}"),
    }
}

/// IANA, TLS Cipher Suites.
fn suite(number: u16) -> String {
    match number {
        0x1301 => "TLS_AES_128_GCM_SHA256".into(),
        0x1302 => "TLS_AES_256_GCM_SHA384".into(),
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        other => format!("{other:#06x}"),
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn with_u8_length(&mut self) -> Option<&'b [u8]> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    fn with_u16_length(&mut self) -> Option<&'b [u8]> {
        let length = self.u16()?;
        self.bytes(length.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    };

    use super::*;

    /// What client and server put on the wire until both are done.
    fn handshake(
        group: &'static dyn rustls::crypto::SupportedKxGroup,
        version: &'static SupportedProtocolVersion,
    ) -> [Vec<u8>; 2] {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let provider = Arc::new(rustls::crypto::CryptoProvider { kx_groups: vec![group], ..provider });
        let certified = rcgen::generate_simple_self_signed(["server.example".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let server =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.enable_sni = group.name() != rustls::NamedGroup::X25519MLKEM768;
        let mut client =
            ClientConnection::new(Arc::new(client), ServerName::try_from("server.example").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut heard = [Vec::new(), Vec::new()];
        while client.is_handshaking() || server.is_handshaking() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            server.read_tls(&mut flight.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            heard[0].append(&mut flight);
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            client.read_tls(&mut flight.as_slice()).unwrap();
            client.process_new_packets().unwrap();
            heard[1].append(&mut flight);
        }
        heard
    }

    #[test]
    fn version_group_cipher_name_and_protocols_are_read_from_real_handshakes() {
        use rustls::crypto::aws_lc_rs::kx_group;
        for (group, version, want, name_sent) in [
            (kx_group::X25519MLKEM768, &rustls::version::TLS13, "X25519MLKEM768", false),
            (kx_group::X25519, &rustls::version::TLS13, "X25519", true),
            (kx_group::SECP256R1, &rustls::version::TLS13, "secp256r1", true),
        ] {
            let [client, server] = handshake(group, version);
            let found = session(&client, &server).unwrap();
            assert_eq!((found.version.as_str(), found.key_exchange.as_str()), ("TLSv1.3", want));
            assert_eq!(found.cipher, "TLS_AES_256_GCM_SHA384");
            assert_eq!(found.server_name_sent, name_sent);
            assert_eq!(found.client_alpn, ["h2"]);
        }
    }

    #[test]
    fn whatever_is_cut_short_or_is_no_handshake_is_no_session_and_no_panic() {
        let [client, server] = handshake(rustls::crypto::aws_lc_rs::kx_group::X25519, &rustls::version::TLS13);
        let hello = server.len().min(120);
        for cut in 0..hello {
            assert_eq!(session(&client, &server[..cut]), None, "{cut}");
        }
        assert_eq!(session(b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
    }
}
