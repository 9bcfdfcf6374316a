//! HTTP/2 frames: their nine-byte head, their kinds, and how they are written. RFC 9113 §4, §6.

/// What a client sends first. RFC 9113 §3.4.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame head. RFC 9113 §4.1.
pub const HEAD: usize = 9;
/// The largest payload before SETTINGS say otherwise, in bytes. RFC 9113 §4.2.
pub const DEFAULT_MAX_FRAME: u32 = 16_384;
/// Initial flow-control window, in bytes. RFC 9113 §6.9.2.
pub const INITIAL_WINDOW: u32 = 65_535;
/// The largest window, in bytes. RFC 9113 §6.9.1.
pub const MAX_WINDOW: u32 = 0x7fff_ffff;

/// Frame kinds. RFC 9113 §6.
pub mod kind {
    /// Bytes of a stream.
    pub const DATA: u8 = 0;
    /// Opens a stream, or ends its head.
    pub const HEADERS: u8 = 1;
    /// Deprecated; read and dropped.
    pub const PRIORITY: u8 = 2;
    /// Ends a stream at once.
    pub const RST_STREAM: u8 = 3;
    /// Parameters of the connection.
    pub const SETTINGS: u8 = 4;
    /// Never legal here: pushing is off.
    pub const PUSH_PROMISE: u8 = 5;
    /// Is anybody there?
    pub const PING: u8 = 6;
    /// No more streams.
    pub const GOAWAY: u8 = 7;
    /// More bytes may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags. RFC 9113 §6.
pub mod flag {
    /// DATA, HEADERS: the last of its stream in this direction.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an answer.
    pub const ACK: u8 = 0x1;
    /// HEADERS, CONTINUATION: the block is whole.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS: padded.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: carries the deprecated priority fields.
    pub const PRIORITY: u8 = 0x20;
}

/// SETTINGS parameters. RFC 9113 §6.5.2.
pub mod setting {
    /// Bytes of the dynamic header table.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether the peer may push.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Window of a new stream, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Largest payload, in bytes.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// Largest header list, in bytes.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes. RFC 9113 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Code {
    /// A graceful end.
    #[error("NO_ERROR")]
    NoError,
    /// The peer broke the protocol.
    #[error("PROTOCOL_ERROR")]
    Protocol,
    /// Something broke inside.
    #[error("INTERNAL_ERROR")]
    Internal,
    /// More bytes than the window allowed.
    #[error("FLOW_CONTROL_ERROR")]
    FlowControl,
    /// SETTINGS were not acknowledged in time.
    #[error("SETTINGS_TIMEOUT")]
    SettingsTimeout,
    /// A frame for a stream that is over.
    #[error("STREAM_CLOSED")]
    StreamClosed,
    /// A frame of a wrong size.
    #[error("FRAME_SIZE_ERROR")]
    FrameSize,
    /// The stream was not begun: it may be tried again.
    #[error("REFUSED_STREAM")]
    Refused,
    /// The stream is no longer wanted.
    #[error("CANCEL")]
    Cancel,
    /// The header table is out of step.
    #[error("COMPRESSION_ERROR")]
    Compression,
    /// The connection behind a CONNECT was reset.
    #[error("CONNECT_ERROR")]
    Connect,
    /// The peer makes too much work.
    #[error("ENHANCE_YOUR_CALM")]
    Calm,
    /// TLS is too weak.
    #[error("INADEQUATE_SECURITY")]
    InadequateSecurity,
    /// HTTP/1.1 is wanted.
    #[error("HTTP_1_1_REQUIRED")]
    Http11Required,
    /// A code this version does not know.
    #[error("error code {0:#x}")]
    Unknown(u32),
}

const CODES: [Code; 14] = [
    Code::NoError,
    Code::Protocol,
    Code::Internal,
    Code::FlowControl,
    Code::SettingsTimeout,
    Code::StreamClosed,
    Code::FrameSize,
    Code::Refused,
    Code::Cancel,
    Code::Compression,
    Code::Connect,
    Code::Calm,
    Code::InadequateSecurity,
    Code::Http11Required,
];

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        usize::try_from(code).ok().and_then(|c| CODES.get(c).copied()).unwrap_or(Self::Unknown(code))
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::Unknown(code) => code,
            Code::NoError
            | Code::Protocol
            | Code::Internal
            | Code::FlowControl
            | Code::SettingsTimeout
            | Code::StreamClosed
            | Code::FrameSize
            | Code::Refused
            | Code::Cancel
            | Code::Compression
            | Code::Connect
            | Code::Calm
            | Code::InadequateSecurity
            | Code::Http11Required => {
                CODES.iter().position(|&c| c == code).and_then(|i| u32::try_from(i).ok()).expect("every code is listed")
            }
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload that follow, 24 bits.
    pub length: u32,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// The stream, 0 for the connection; 31 bits.
    pub stream: u32,
}

impl Head {
    /// The head as written.
    pub fn encode(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// The head as read; the reserved bit is ignored as RFC 9113 §4.1 asks.
    pub fn decode(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }
}

fn length(payload: usize) -> u32 {
    u32::try_from(payload).ok().filter(|&l| l < 1 << 24).expect("frames are built below 16 MiB")
}

/// Appends a whole frame.
pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: length(payload.len()), kind, flags, stream }.encode());
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    write(out, kind::SETTINGS, 0, 0, &payload);
}

/// Appends WINDOW_UPDATE. An increment of zero is illegal and not written.
pub fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    if increment > 0 {
        write(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }
}

/// Appends RST_STREAM.
pub fn write_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    write(out, kind::RST_STREAM, 0, stream, &u32::from(code).to_be_bytes());
}

/// Appends GOAWAY with a reason for people.
pub fn write_goaway(out: &mut Vec<u8>, last_stream: u32, code: Code, reason: &str) {
    let mut payload = Vec::with_capacity(8 + reason.len());
    payload.extend_from_slice(&last_stream.to_be_bytes());
    payload.extend_from_slice(&u32::from(code).to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    write(out, kind::GOAWAY, 0, 0, &payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_numbered_as_rfc_9113_numbers_them() {
        for (code, number) in [(Code::NoError, 0), (Code::Refused, 7), (Code::Calm, 11), (Code::Http11Required, 13)] {
            assert_eq!(u32::from(code), number);
            assert_eq!(Code::from(number), code);
        }
        assert_eq!(Code::from(99), Code::Unknown(99));
    }

    proptest! {
        #[test]
        fn a_head_reads_as_it_was_written(length in 0u32..1 << 24, kind: u8, flags: u8, stream in 0u32..1 << 31) {
            let head = Head { length, kind, flags, stream };
            prop_assert_eq!(Head::decode(head.encode()), head);
        }
    }
}
