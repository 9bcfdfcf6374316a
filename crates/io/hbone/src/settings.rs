//! The numbers both sides tell each other, and the times they keep.

use std::time::Duration;

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It opened the connection and opens streams.
    Client,
    /// It accepted both.
    Server,
}

/// How a connection behaves. The defaults are those of Istio's ztunnel, so that either side can be exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Window of a stream, in bytes. Bounds what one stalled application can make us hold.
    pub stream_window: u32,
    /// Window of a connection, in bytes.
    pub connection_window: u32,
    /// Bytes held for stalled applications beyond which the connection window shrinks by as much.
    pub held: u32,
    /// Largest frame taken, in bytes.
    pub max_frame: u32,
    /// Streams the peer may have open at once.
    pub max_streams: u32,
    /// Streams we open on one connection before another is made.
    pub max_open: u32,
    /// Largest header list taken, in bytes.
    pub max_header_list: u32,
    /// How often a PING asks whether the peer is there.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// How long a connection without streams is kept.
    pub idle: Duration,
    /// How long TCP, TLS and the preface may take.
    pub handshake: Duration,
    /// How long the answer to CONNECT may take.
    pub answer: Duration,
    /// TCP keepalive: idle time and interval, probes.
    pub tcp_keepalive: (Duration, u32),
}

impl Settings {
    /// The settings of one side.
    pub fn new(role: Role) -> Self {
        Self {
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            held: 4 << 20,
            max_frame: 1 << 20,
            max_streams: 200,
            max_open: 100,
            max_header_list: match role {
                Role::Client => 16 << 10,
                Role::Server => 64 << 10,
            },
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            idle: match role {
                Role::Client => Duration::from_secs(300),
                Role::Server => Duration::from_secs(600),
            },
            handshake: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            tcp_keepalive: (Duration::from_secs(180), 9),
        }
    }
}
