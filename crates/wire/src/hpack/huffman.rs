//! The Huffman code of HPACK. RFC 7541 Appendix B.
//!
//! The code is canonical: among codes of one length the values ascend with the symbol, so the lengths alone are the code.

/// Bits of the code of each symbol; the last is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;
const EOS: u16 = 256;

/// What decoding needs, worked out at compile time.
struct Code {
    /// Symbols in order of their codes.
    symbols: [u16; 257],
    /// For each length: the first value beyond its codes, left-aligned in 32 bits; 0 where there is no code of that length.
    limit: [u64; LONGEST + 1],
    /// For each length: the left-aligned value of its first code.
    first: [u64; LONGEST + 1],
    /// For each length: where its symbols start in `symbols`.
    offset: [usize; LONGEST + 1],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code =
        Code { symbols: [0; 257], limit: [0; LONGEST + 1], first: [0; LONGEST + 1], offset: [0; LONGEST + 1] };
    let mut next = 0u64;
    let mut filled = 0;
    let mut length: u8 = 1;
    let mut row = 1;
    while row <= LONGEST {
        next <<= 1;
        code.first[row] = next << (32 - row);
        code.offset[row] = filled;
        let mut symbol = 0u16;
        let mut index = 0;
        while index < LENGTHS.len() {
            if LENGTHS[index] == length {
                code.symbols[filled] = symbol;
                filled += 1;
                next += 1;
            }
            symbol += 1;
            index += 1;
        }
        code.limit[row] = next << (32 - row);
        length += 1;
        row += 1;
    }
    code
}

/// Why a text is not Huffman-coded as RFC 7541 §5.2 asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HuffmanError {
    /// The end-of-string symbol stands inside the text.
    #[error("huffman text contains the end-of-string symbol")]
    EndOfString,
    /// The last bits are not the beginning of the end-of-string symbol, or are eight or more.
    #[error("huffman text has illegal padding")]
    Padding,
}

/// Appends the decoded text to `out`.
///
/// # Errors
/// If the text is not legal; what was appended so far stays.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), HuffmanError> {
    let mut window = 0u64; // the next bits, left-aligned in the low 32 + 8 bits
    let mut held = 0usize;
    let mut bytes = text.iter();
    loop {
        while held <= 32 {
            let Some(&byte) = bytes.next() else { break };
            window = (window << 8) | u64::from(byte);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        // 32 bits with ones behind the end: padding decodes to nothing shorter than EOS.
        let peek = if held >= 32 { window >> (held - 32) } else { ((window + 1) << (32 - held)) - 1 } & 0xffff_ffff;
        let length = (5..=LONGEST).find(|&l| peek < CODE.limit[l]).unwrap_or(LONGEST);
        if length > held {
            let ones = (1u64 << held) - 1;
            return if held < 8 && window & ones == ones { Ok(()) } else { Err(HuffmanError::Padding) };
        }
        let index = usize::try_from((peek - CODE.first[length]) >> (32 - length)).expect("32 bits fit");
        let symbol = CODE.symbols[CODE.offset[length] + index];
        if symbol == EOS {
            return Err(HuffmanError::EndOfString);
        }
        out.push(u8::try_from(symbol).expect("symbols below EOS are bytes"));
        held -= length;
        window &= (1u64 << held) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_rfc_7541_appendix_c_decode() {
        for (hex, want) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            let mut out = Vec::new();
            decode(&text(hex), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn illegal_padding_and_end_of_string_are_refused() {
        for (bytes, want) in [
            (&[0b0001_1000][..], HuffmanError::Padding),
            (&[0b0001_1111, 0xff][..], HuffmanError::Padding),
            (&[0xff, 0xff, 0xff, 0xff][..], HuffmanError::EndOfString),
        ] {
            assert_eq!(decode(bytes, &mut Vec::new()), Err(want), "{bytes:x?}");
        }
    }
}
