//! An answer that the rule itself gives.

/// The longest body of such an answer, in bytes. Istio `HTTPBody`.
pub const MAX_BODY: usize = 1024 * 1024;

/// Why a rule cannot answer so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not the status of an answer.
    #[error("status {0} of an answer, expected 200 to 599")]
    Status(u16),
    /// Too long.
    #[error("a body of {len} bytes, at most {MAX_BODY} are allowed")]
    Body {
        /// Its length.
        len: usize,
    },
}

/// An answer that the rule itself gives. Istio `HTTPDirectResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    status: u16,
    body: Box<[u8]>,
}

impl DirectResponse {
    /// An answer.
    ///
    /// # Errors
    /// When the status is none of an answer, or the body too long.
    pub fn new(status: u16, body: &[u8]) -> Result<Self, ResponseError> {
        match (status, body.len()) {
            (_, len) if len > MAX_BODY => Err(ResponseError::Body { len }),
            (200..=599, _) => Ok(Self { status, body: body.into() }),
            (_, _) => Err(ResponseError::Status(status)),
        }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, empty if there is none.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_final_and_bounded() {
        for (status, len, want) in [
            (200, 0, true),
            (503, 10, true),
            (599, MAX_BODY, true),
            (100, 0, false),
            (600, 0, false),
            (200, MAX_BODY + 1, false),
        ] {
            assert_eq!(DirectResponse::new(status, &vec![b'x'; len]).is_ok(), want, "{status} {len}");
        }
    }
}
