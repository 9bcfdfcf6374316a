//! An answer of HTTP/1.1 from an endpoint: however its bytes are cut, it is the same answer, or none.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_http::{Malformed, Part, Reader};

const LIMIT: usize = 4_096;

/// Status, body, whether there were trailers, whether another request may follow; nothing if it breaks off.
type Read = Option<(u16, Vec<u8>, bool, bool)>;

fn read<'p>(is_head: bool, pieces: impl Iterator<Item = &'p [u8]>) -> Result<Read, Malformed> {
    let mut reader = Reader::new(LIMIT);
    reader.begin(is_head);
    let (mut status, mut body, mut is_trailed, mut is_over) = (None, Vec::new(), false, false);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        if status.is_none() {
            status = reader.head(&mut input)?.map(|head| head.status().as_u16());
        }
        while status.is_some() && !is_over {
            match reader.body(&mut input)? {
                Part::More => break,
                Part::Data(data) => body.extend_from_slice(&data),
                Part::Trailers(_) => is_trailed = true,
                Part::End => is_over = true,
            }
        }
    }
    is_over |= reader.ends_with_connection();
    Ok(status.filter(|_| is_over).map(|status| (status, body, is_trailed, reader.keeps_alive())))
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([how], bytes)) = bytes.split_first_chunk() else { return };
    let (is_head, size) = (how & 1 == 1, usize::from(how >> 1).max(1));
    let whole = read(is_head, [bytes].into_iter());
    if let Ok(Some((status, body, ..))) = &whole {
        assert!((100..1_000).contains(status), "status {status}");
        assert!(body.len() < bytes.len(), "a body of {} bytes out of {}", body.len(), bytes.len());
    }
    // Whether it is known to be none, or not yet, may depend on it.
    let cut = read(is_head, bytes.chunks(size));
    assert_eq!(cut.ok().flatten(), whole.ok().flatten(), "in pieces of {size}");
});
