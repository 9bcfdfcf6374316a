//! ZDS, by which a CNI node agent hands pods to its mesh agent: requests in, acknowledgements out. The descriptor of an added pod's
//! namespace travels beside the bytes. Istio `istio.workload.zds`, proto3.

use std::fmt;

/// The longest message, in bytes. Istio's own buffers hold 1024.
pub const MESSAGE_BOUND: usize = 4_096;
/// What is sent first: `ZdsHello { version: V1 }`.
pub const HELLO: [u8; 2] = [0x08, 0x01];
/// The longest reason in an acknowledgement, in bytes: the whole must fit Istio's buffer.
const REASON_BOUND: usize = 960;

/// What is asked for. Istio `WorkloadRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Catch this pod, in the namespace whose descriptor comes along.
    Add(AddedPod),
    /// This pod is still there; its namespace cannot be sent again.
    Keep {
        /// `metadata.uid`.
        uid: String,
    },
    /// Let go of this pod.
    Del {
        /// `metadata.uid`.
        uid: String,
    },
    /// All pods have been sent: those that were not are to be forgotten.
    SnapshotSent,
}

/// A pod as a request names it. Istio `AddWorkload`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddedPod {
    /// `metadata.uid`.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Why a message is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZdsError {
    /// More than [`MESSAGE_BOUND`].
    #[error("a message of {0} bytes, expected {MESSAGE_BOUND} at most")]
    TooLong(usize),
    /// It ends within a field.
    #[error("the message ends within a field")]
    Short,
    /// A number that no field or length can have.
    #[error("a varint of more than 64 bits, or a length or field number out of range")]
    Number,
    /// A wire type that proto3 does not have.
    #[error("wire type {0}, which proto3 does not have")]
    WireType(u8),
    /// A field of another type.
    #[error("field {field} of {message} has wire type {found}, expected 2")]
    FieldType {
        /// The message.
        message: &'static str,
        /// Its field.
        field: u64,
        /// What it has.
        found: u8,
    },
    /// Text that is none.
    #[error("field {field} of {message} is not UTF-8")]
    Text {
        /// The message.
        message: &'static str,
        /// Its field.
        field: u64,
    },
    /// No request, or one that this version does not know.
    #[error("no request that is known: expected add, keep, del or snapshot_sent")]
    Unknown,
    /// A request that does not say which pod.
    #[error("{0} without a {1}")]
    Missing(&'static str, &'static str),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it. Fields that are not known are passed over, as proto3 says.
    pub fn parse(message: &[u8]) -> Result<Self, ZdsError> {
        if message.len() > MESSAGE_BOUND {
            return Err(ZdsError::TooLong(message.len()));
        }
        let mut request = None;
        let mut reader = Reader(message);
        while let Some((number, value)) = reader.field()? {
            // The last one of a oneof counts.
            match number {
                1 => request = Some(Self::Add(added(value.message("WorkloadRequest", number)?)?)),
                2 => {
                    request = Some(Self::Del { uid: uid("DelWorkload", 2, value.message("WorkloadRequest", number)?)? })
                }
                3 => {
                    Reader(value.message("WorkloadRequest", number)?).skip()?;
                    request = Some(Self::SnapshotSent);
                }
                5 => {
                    request =
                        Some(Self::Keep { uid: uid("KeepWorkload", 1, value.message("WorkloadRequest", number)?)? });
                }
                _ => {}
            }
        }
        request.ok_or(ZdsError::Unknown)
    }
}

fn added(message: &[u8]) -> Result<AddedPod, ZdsError> {
    let mut pod = AddedPod::default();
    let mut reader = Reader(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => pod.uid = value.text("AddWorkload", 1)?,
            2 => {
                let mut about = Reader(value.message("AddWorkload", 2)?);
                while let Some((number, value)) = about.field()? {
                    match number {
                        1 => pod.name = value.text("WorkloadInfo", 1)?,
                        2 => pod.namespace = value.text("WorkloadInfo", 2)?,
                        3 => pod.service_account = value.text("WorkloadInfo", 3)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    for (value, name) in
        [(&pod.uid, "uid"), (&pod.name, "workload_info.name"), (&pod.namespace, "workload_info.namespace")]
    {
        if value.is_empty() {
            return Err(ZdsError::Missing("AddWorkload", name));
        }
    }
    Ok(pod)
}

/// The one field of a message that has nothing but a uid.
fn uid(message: &'static str, field: u64, bytes: &[u8]) -> Result<String, ZdsError> {
    let mut uid = String::new();
    let mut reader = Reader(bytes);
    while let Some((number, value)) = reader.field()? {
        if number == field {
            uid = value.text(message, field)?;
        }
    }
    if uid.is_empty() { Err(ZdsError::Missing(message, "uid")) } else { Ok(uid) }
}

/// `WorkloadResponse { ack }`: done, or not and why. A reason that is too long is cut.
pub fn ack(error: Option<&str>) -> Vec<u8> {
    let mut inner = Vec::new();
    if let Some(reason) = error {
        let reason = &reason[..reason.floor_char_boundary(REASON_BOUND)];
        put(&mut inner, reason.as_bytes());
    }
    let mut message = Vec::new();
    put(&mut message, &inner);
    message
}

/// Field 1, of bytes.
fn put(message: &mut Vec<u8>, bytes: &[u8]) {
    message.push(0x0a);
    let mut length = bytes.len();
    while let Some(low) = u8::try_from(length & 0x7f).ok().filter(|_| length > 0x7f) {
        message.push(low | 0x80);
        length >>= 7;
    }
    message.extend(u8::try_from(length));
    message.extend_from_slice(bytes);
}

/// A value as it stands in a message. The numbers count for nothing in ZDS.
enum Value<'m> {
    Number(u8),
    Bytes(&'m [u8]),
}

impl<'m> Value<'m> {
    fn message(self, message: &'static str, field: u64) -> Result<&'m [u8], ZdsError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(found) => Err(ZdsError::FieldType { message, field, found }),
        }
    }

    fn text(self, message: &'static str, field: u64) -> Result<String, ZdsError> {
        let bytes = self.message(message, field)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ZdsError::Text { message, field })
    }
}

/// The fields of a message, in their order.
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    fn field(&mut self) -> Result<Option<(u64, Value<'m>)>, ZdsError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, kind) = (key >> 3, u8::try_from(key & 7).map_err(|_| ZdsError::Number)?);
        // Field numbers have 29 bits, and 0 is none.
        if number == 0 || number >= 1 << 29 {
            return Err(ZdsError::Number);
        }
        let value = match kind {
            0 => {
                self.varint()?;
                Value::Number(kind)
            }
            1 => {
                self.take(8)?;
                Value::Number(kind)
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ZdsError::Number)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Number(kind)
            }
            _ => return Err(ZdsError::WireType(kind)),
        };
        Ok(Some((number, value)))
    }

    fn skip(mut self) -> Result<(), ZdsError> {
        while self.field()?.is_some() {}
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, ZdsError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { return Err(ZdsError::Short) };
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(ZdsError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ZdsError::Number)
    }

    fn take(&mut self, length: usize) -> Result<&'m [u8], ZdsError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ZdsError::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl fmt::Display for AddedPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}

#[cfg(test)]
mod tests;
