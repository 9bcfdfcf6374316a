//! HPACK: header lists in HTTP/2 blocks. RFC 7541.
//!
//! Reading is complete (both tables, Huffman); writing uses only the static table and plain literals, so that an encoder has
//! no state and two connections can share one encoded block.

mod huffman;
mod table;

pub use huffman::HuffmanError;
use table::Table;

/// The dynamic table size both sides start with, in bytes. RFC 9113 §6.5.2, `SETTINGS_HEADER_TABLE_SIZE`.
pub const DEFAULT_TABLE_SIZE: usize = 4_096;

/// Why a block is not legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Truncated,
    /// An integer beyond what any header needs.
    #[error("header block has an integer that is too large")]
    Integer,
    /// An index with no entry.
    #[error("header block names index {0}, which has no entry")]
    Index(usize),
    /// A table size update where none may be, or beyond what was allowed.
    #[error("header block resizes the table illegally")]
    Resize,
    /// A text that is not legal Huffman code.
    #[error("header text")]
    Huffman(#[from] HuffmanError),
    /// The list is larger than the limit given.
    #[error("header list is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes as RFC 9113 §6.5.2 counts them.
        limit: usize,
    },
}

/// Reads header blocks; holds the peer's dynamic table.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    allowed: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(DEFAULT_TABLE_SIZE), allowed: DEFAULT_TABLE_SIZE, name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Gives each field of a block to `field`, in order. `limit` bounds the list, counted as RFC 9113 §6.5.2 does.
    ///
    /// # Errors
    /// If the block is not legal or the list too large. The table is then unusable: the connection must end.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut rest = block;
        let mut size = 0;
        let mut fields_seen = false;
        while let Some(&head) = rest.first() {
            if head & 0xe0 == 0x20 {
                let max = integer(&mut rest, 5)?;
                if fields_seen || max > self.allowed {
                    return Err(HpackError::Resize);
                }
                self.table.resize(max);
                continue;
            }
            fields_seen = true;
            let mut count = |name: &[u8], value: &[u8]| {
                size += name.len() + value.len() + 32;
                if size > limit { Err(HpackError::TooLarge { limit }) } else { Ok(()) }
            };
            if head & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value) = self.table.entry(index).ok_or(HpackError::Index(index))?;
                count(name, value)?;
                field(name, value);
                continue;
            }
            let indexed = head & 0x40 != 0;
            let index = integer(&mut rest, if indexed { 6 } else { 4 })?;
            self.name.clear();
            if index == 0 {
                string(&mut rest, limit, &mut self.name)?;
            } else {
                let (name, _) = self.table.entry(index).ok_or(HpackError::Index(index))?;
                self.name.extend_from_slice(name);
            }
            self.value.clear();
            string(&mut rest, limit, &mut self.value)?;
            count(&self.name, &self.value)?;
            field(&self.name, &self.value);
            if indexed {
                self.table.add(&self.name, &self.value);
            }
        }
        Ok(())
    }
}

/// An integer with a prefix of `bits` bits. RFC 7541 §5.1. At most 28 bits follow the prefix: no header is larger.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, HpackError> {
    let mask = (1usize << bits) - 1;
    let (&first, mut tail) = rest.split_first().ok_or(HpackError::Truncated)?;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, more) = tail.split_first().ok_or(HpackError::Truncated)?;
            tail = more;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(HpackError::Integer);
            }
        }
    }
    *rest = tail;
    Ok(value)
}

fn string(rest: &mut &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), HpackError> {
    let coded = rest.first().ok_or(HpackError::Truncated)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
    if length > limit {
        return Err(HpackError::TooLarge { limit });
    }
    *rest = tail;
    if coded {
        huffman::decode(text, out)?;
    } else {
        out.extend_from_slice(text);
    }
    Ok(())
}

/// Indices of the static table that Weir writes. RFC 7541 Appendix A.
pub mod index {
    /// `:authority`, name only.
    pub const AUTHORITY: u8 = 1;
    /// `:method`, name only.
    pub const METHOD: u8 = 2;
    /// `:status: 200`, name and value.
    pub const STATUS_200: u8 = 8;
    /// `:status: 400`.
    pub const STATUS_400: u8 = 12;
    /// `:status`, name only.
    pub const STATUS: u8 = 8;
}

/// Writes a field that the static table has whole.
pub fn write_indexed(out: &mut Vec<u8>, index: u8) {
    debug_assert!(index > 0 && index < 0x7f);
    out.push(0x80 | index);
}

/// Writes a field whose name the static table has; the peer is told not to remember it.
pub fn write_named(out: &mut Vec<u8>, index: u8, value: &[u8]) {
    write_integer(out, 0, 4, usize::from(index));
    write_string(out, value);
}

/// Writes a field as two plain literals; the peer is told not to remember it. `name` must be lower case.
pub fn write_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    write_string(out, name);
    write_string(out, value);
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

fn write_integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let low = |v: usize| u8::try_from(v).expect("masked to a byte");
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(pattern | low(value));
        return;
    }
    out.push(pattern | low(mask));
    let mut left = value - mask;
    while left >= 0x80 {
        out.push(low(left & 0x7f) | 0x80);
        left >>= 7;
    }
    out.push(low(left));
}

#[cfg(test)]
mod tests;
