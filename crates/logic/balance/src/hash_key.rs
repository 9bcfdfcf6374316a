//! Bytes of a request, hashed: what ring and table are asked with.

use std::net::IpAddr;

use twox_hash::XxHash64;
use weir_model::canonical_ip;

/// A hash that is the same in every process, here and in Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(u64);

impl HashKey {
    /// The key of some bytes: XXH64 without a seed.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash64::oneshot(0, bytes))
    }

    /// The key of an address, as it is written. An IPv4 address in IPv6 form is the same client.
    pub fn of_address(address: IpAddr) -> Self {
        Self::of(canonical_ip(address).to_string().as_bytes())
    }

    /// The key of several values, whatever order they come in; of one, the same as its own. None of none.
    pub fn of_all<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Option<Self> {
        let mut values: Vec<&[u8]> = values.into_iter().collect();
        values.sort_unstable();
        values.into_iter().fold(None, |seed, value| Some(XxHash64::oneshot(seed.unwrap_or(0), value))).map(Self)
    }

    /// A hash that was made elsewhere.
    pub fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub fn value(self) -> u64 {
        self.0
    }

    /// A number that depends on the key and the question alone, so that the answer to one does not follow from that to another.
    pub(crate) fn below(self, question: u64, bound: u64) -> u64 {
        XxHash64::oneshot(question, &self.0.to_be_bytes()).checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh64() {
        // Vectors of the reference implementation; the third is in Envoy's hash_test.cc.
        for (bytes, want) in [
            (b"".as_slice(), 0xef46_db37_51d8_e999),
            (b"a", 0xd24e_c4f1_a98c_6e5b),
            (b"foo", 3_728_699_739_546_630_719),
        ] {
            assert_eq!(HashKey::of(bytes).value(), want, "{bytes:?}");
        }
    }

    #[test]
    fn several_values_are_one_key_in_any_order() {
        assert_eq!(HashKey::of_all([]), None);
        assert_eq!(HashKey::of_all([b"foo".as_slice()]), Some(HashKey::of(b"foo")));
        let (one, other) = (HashKey::of_all([b"a".as_slice(), b"b"]), HashKey::of_all([b"b".as_slice(), b"a"]));
        assert_eq!(one, other);
        assert_ne!(one, HashKey::of_all([b"a".as_slice()]));
        assert_ne!(one, HashKey::of_all([b"ab".as_slice()]));
    }

    #[test]
    fn an_address_is_hashed_as_it_is_written() {
        for (address, text) in
            [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:DB8:0:0::1", "2001:db8::1")]
        {
            assert_eq!(HashKey::of_address(address.parse().unwrap()), HashKey::of(text.as_bytes()), "{address}");
        }
    }
}
