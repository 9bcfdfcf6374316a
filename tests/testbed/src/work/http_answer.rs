//! Where an HTTP/1.1 message ends: enough for answers and requests of our own workloads, which always say their length.

/// The whole length of the message at the start of `bytes`, once its head is complete.
pub(crate) fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = head_length(bytes)?;
    Some(head + content_length(&bytes[..head]))
}

/// Length of the head with its empty line.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\r')?;
        if bytes.get(at..at + 4)? == b"\r\n\r\n" {
            return Some(at + 4);
        }
        from = at + 1;
    }
}

/// The value of a header, trimmed.
pub(crate) fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

fn content_length(head: &[u8]) -> usize {
    let value = header(head, "content-length").and_then(|value| str::from_utf8(value).ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_after_the_body_it_announces() {
        let message = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH: 5\r\n\r\nhelloHTTP";
        let whole = message.len() - 4;
        for cut in 0..=message.len() {
            let want = (cut >= whole - 5).then_some(whole);
            assert_eq!(message_length(&message[..cut]), want, "{cut}");
        }
        assert_eq!(message_length(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
    }
}
