//! TLS 1.3 records, sealed and opened in place. RFC 8446 §5.
//!
//! ```text
//!   │ 5 head │ payload, at most 16,384 │ 1 kind │ 16 tag │
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

/// Bytes before the payload.
pub(crate) const HEAD: usize = 5;
/// Bytes behind the payload: its kind and the tag.
pub(crate) const TAIL: usize = 17;
/// The largest payload of a record. RFC 8446 §5.1.
pub(crate) const MAX_PAYLOAD: usize = 16_384;
/// The largest ciphertext taken. RFC 8446 §5.2.
const MAX_CIPHERTEXT: usize = MAX_PAYLOAD + 256;
/// The largest record taken, head included.
pub(crate) const MAX_RECORD: usize = HEAD + MAX_CIPHERTEXT;
/// Records under one AES-GCM key before it must be changed. RFC 8446 §5.5 allows 2^24.5.
pub(crate) const REKEY_AFTER: u64 = 1 << 23;

/// Content kinds. RFC 8446 §5.1.
pub(crate) mod kind {
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION: u8 = 23;
}

/// The key of one direction and its next sequence number.
pub(crate) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

/// A suite we never offer was negotiated; cannot happen with our own configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownSuite;

impl RecordKey {
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, UnknownSuite> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } | _ => return Err(UnknownSuite),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| UnknownSuite)?;
        let iv = iv.as_ref().try_into().map_err(|_| UnknownSuite)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// Records under this key so far.
    pub(crate) fn used(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (n, s) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *n ^= s;
        }
        // Keys are changed long before 2^64 records.
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a record whose payload already stands behind `HEAD` bytes, with `TAIL` bytes of room behind it.
    pub(crate) fn seal(&mut self, record: &mut [u8], kind: u8) {
        let body = record.len() - HEAD;
        let [hi, lo] = u16::try_from(body).expect("a record is below 2^15 bytes").to_be_bytes();
        let head = [kind::APPLICATION, 3, 3, hi, lo];
        record[..HEAD].copy_from_slice(&head);
        let plain = record.len() - 16;
        record[plain - 1] = kind;
        let nonce = self.nonce();
        let (text, tag) = record[HEAD..].split_at_mut(body - 16);
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(head), text)
            .expect("AES-GCM seals any text below 64 GiB");
        tag.copy_from_slice(sealed.as_ref());
    }

    /// Opens a whole record in place: the kind and the length of its payload, which stands behind the head.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, usize), &'static str> {
        let head: [u8; HEAD] = record[..HEAD].try_into().expect("a record has a head");
        if head[0] != kind::APPLICATION {
            return Err("unprotected record behind the handshake");
        }
        let nonce = self.nonce();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(head), &mut record[HEAD..])
            .map_err(|_| "a record is not authentic")?;
        // The kind is the last byte that is not zero: what follows is padding.
        let at = plain.iter().rposition(|&b| b != 0).ok_or("a record without a kind")?;
        if at > MAX_PAYLOAD {
            return Err("a record is too long");
        }
        Ok((plain[at], at))
    }
}

/// How long the record at the front of `bytes` is, once its head is there.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(&[kind, major, _, hi, lo]) = bytes.first_chunk::<HEAD>() else {
        return match bytes.first() {
            Some(kind) if !(kind::CHANGE_CIPHER_SPEC..=kind::APPLICATION).contains(kind) => Err("not a TLS record"),
            _ => Ok(None),
        };
    };
    if !(kind::CHANGE_CIPHER_SPEC..=kind::APPLICATION).contains(&kind) || major != 3 {
        return Err("not a TLS record");
    }
    let body = usize::from(u16::from_be_bytes([hi, lo]));
    if body > MAX_CIPHERTEXT {
        return Err("a record is too long");
    }
    Ok(Some(HEAD + body))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::UnboundKey;
    use proptest::prelude::*;

    use super::*;

    fn key() -> RecordKey {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap();
        RecordKey { key: LessSafeKey::new(key), iv: [9; 12], sequence: 0 }
    }

    fn sealed(key: &mut RecordKey, text: &[u8], kind: u8) -> Vec<u8> {
        let mut record = [&[0; HEAD][..], text, &[0; TAIL]].concat();
        key.seal(&mut record, kind);
        record
    }

    #[test]
    fn a_changed_bit_a_lost_or_a_repeated_record_is_not_authentic() {
        let (mut seal, mut open) = (key(), key());
        let first = sealed(&mut seal, b"one", kind::APPLICATION);
        let second = sealed(&mut seal, b"two", kind::APPLICATION);
        assert!(open.open(&mut second.clone()).is_err(), "the first was lost");
        let mut open = key();
        assert_eq!(open.open(&mut first.clone()), Ok((kind::APPLICATION, 3)));
        assert!(open.open(&mut first.clone()).is_err(), "repeated");
        for bit in [5 * 8, first.len() * 8 - 1, 3 * 8] {
            let mut broken = first.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(key().open(&mut broken).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_not_tls_is_told_by_its_first_byte() {
        assert!(length(b"G").is_err());
        assert!(length(b"GET / HTTP/1.1\r\n").is_err());
        assert!(length(&[23, 3, 3, 0xff, 0xff]).is_err());
        assert_eq!(length(&[23, 3, 3]), Ok(None));
        assert_eq!(length(&[23, 3, 3, 0, 7]), Ok(Some(12)));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(text in proptest::collection::vec(any::<u8>(), 0..2_000), kind in 21u8..=23) {
            let mut record = sealed(&mut key(), &text, kind);
            prop_assert_eq!(length(&record), Ok(Some(record.len())));
            let (got, len) = key().open(&mut record).unwrap();
            prop_assert_eq!((got, &record[HEAD..HEAD + len]), (kind, &text[..]));
        }
    }
}
