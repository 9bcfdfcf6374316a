//! One question to the node's agent, over HTTP/1.1 on a unix socket.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown},
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{
    deadline::within,
    environment::{Environment, PodName},
    error::Error,
};

/// The longest answer, head and body, in bytes.
const ANSWER_BOUND: u64 = 64 << 10;

/// What the agent is asked.
pub(crate) enum Question<'q> {
    /// Whether it is there.
    Status,
    /// Whether a pod is caught.
    Pod { command: &'static str, environment: &'q Environment, pod: &'q PodName, ips: &'q [IpAddr] },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawQuestion<'q> {
    command: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pod: Option<RawPod<'q>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawPod<'q> {
    #[serde(flatten)]
    name: &'q PodName,
    container_id: &'q str,
    netns: &'q Path,
    ips: &'q [IpAddr],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
    enrolled: Option<bool>,
    error: Option<String>,
}

/// Returns when the agent says that all is well: the pod is caught, or is not to be.
///
/// # Errors
/// If the agent is away, late or says no.
pub(crate) fn ask(socket: &Path, question: &Question<'_>, by: Instant) -> Result<(), Error> {
    let raw = match *question {
        Question::Status => RawQuestion { command: "STATUS", pod: None },
        Question::Pod { command, environment: Environment { container_id, netns, .. }, pod: name, ips } => {
            RawQuestion { command, pod: Some(RawPod { name, container_id, netns, ips }) }
        }
    };
    let body = serde_json::to_vec(&raw).map_err(Error::Decode)?;
    let path = socket.to_owned();
    // Not only reading may block: connecting waits while the agent's queue is full.
    let answer = within("the agent's answer", by, move || {
        exchange(&path, &body).map_err(|source| Error::Away { socket: path, source })
    })?;
    parse(&answer).map_err(|expected| Error::Answer { socket: socket.to_owned(), expected })?.map_err(Error::Refused)
}

fn exchange(socket: &Path, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    let head = format!(
        "POST /cni HTTP/1.1\r\nhost: weir-agent\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    (&stream).take(ANSWER_BOUND + 1).read_to_end(&mut answer)?;
    // It may have closed already.
    drop(stream.shutdown(Shutdown::Both));
    Ok(answer)
}

/// All is well, or the agent's reason why not; an error says what was expected of an answer.
fn parse(answer: &[u8]) -> Result<Result<(), String>, &'static str> {
    if u64::try_from(answer.len()).is_ok_and(|length| length > ANSWER_BOUND) {
        return Err("at most 65536 bytes");
    }
    let text = std::str::from_utf8(answer).map_err(|_| "UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("a whole head of HTTP/1.1")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or("HTTP/1.1 and a status")?;
    let raw: RawAnswer =
        serde_json::from_str(body).map_err(|_| "a body of {\"enrolled\": BOOL} or {\"error\": TEXT}")?;
    match (raw, status) {
        (RawAnswer { enrolled: Some(_), error: None }, "200") => Ok(Ok(())),
        (RawAnswer { enrolled: None, error: Some(reason) }, _) => Ok(Err(reason)),
        _ => Err("either \"enrolled\" with status 200 or \"error\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_or_none() {
        let answer = |status: &str, body: &str| parse(format!("HTTP/1.1 {status}\r\n\r\n{body}").as_bytes());
        assert_eq!(answer("200 OK", r#"{"enrolled": true}"#), Ok(Ok(())));
        assert_eq!(answer("200 OK", r#"{"enrolled": false}"#), Ok(Ok(())));
        assert_eq!(answer("503 Service Unavailable", r#"{"error": "no"}"#), Ok(Err("no".to_owned())));
        for (status, body) in [
            ("500 Oh", r#"{"enrolled": true}"#),
            ("200 OK", r#"{"enrolled": true"#),
            ("200 OK", r#"{"enrolled": true, "error": "no"}"#),
            ("200 OK", r#"{"enrolled": 1}"#),
            ("200 OK", "{}"),
            ("200 OK", r#"{"enrolled": true, "more": 1}"#),
            ("2", r#"{"enrolled": true}"#),
        ] {
            assert!(answer(status, body).is_err(), "{status} {body} was taken");
        }
        for bad in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n\r\n{\"enrolled\":true}", "{\"enrolled\":true}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
    }
}
