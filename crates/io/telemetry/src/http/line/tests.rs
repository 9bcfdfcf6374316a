//! Lines of requests, to the character.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;
use weir_model::Flag;

use super::*;
use crate::{HttpProtocol, fixtures::Scene};

fn line(record: &HttpRecord<'_>, format: LogFormat) -> String {
    let mut line = Vec::new();
    record.write(format, &mut line);
    String::from_utf8(line).unwrap()
}

#[test]
fn lines_read_as_envoys_do() {
    let scene = Scene::new();
    let unreached = UpstreamRecord {
        failure: Some("connect error: Connection refused"),
        service_time: None,
        local: None,
        host: Some("[fd00:1::9]:8080".parse().unwrap()),
        ..scene.record().upstream.unwrap()
    };
    let records = [
        scene.record(),
        HttpRecord {
            code: Some(503),
            flags: [Flag::UpstreamRetryLimitExceeded, Flag::UpstreamConnectionFailure].into_iter().collect(),
            code_details: Some("upstream_reset_before_response_started{connection failure}"),
            upstream: Some(unreached),
            original_path: None,
            protocol: HttpProtocol::Http2,
            ..scene.record()
        },
        // Nothing at all is known, and the client writes what it likes.
        HttpRecord {
            path: "/\" 200 - via_upstream",
            original_path: None,
            authority: Some("a\nb"),
            code: None,
            flags: Flag::DownstreamConnectionTermination.into(),
            code_details: None,
            termination_details: Some("rbac access denied"),
            upstream: None,
            forwarded_for: Some(b"\x1b[31m\xff"),
            user_agent: Some(b"\"\\"),
            request_id: None,
            server_name: Some(""),
            route_name: None,
            protocol: HttpProtocol::Http10,
            ..scene.record()
        },
    ];
    let all = |format| records.iter().map(|record| line(record, format)).collect::<String>();
    insta::assert_snapshot!("text", all(LogFormat::Text));
    insta::assert_snapshot!("json", all(LogFormat::Json));
}

/// The columns of a line: what stands between blanks, or in brackets, or in quotes.
fn columns(line: &str) -> usize {
    let (mut columns, mut quotes, mut escaped) = (1, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quotes => escaped = true,
            '"' => quotes = !quotes,
            ' ' if !quotes => columns += 1,
            _ => {}
        }
    }
    assert!(!quotes, "quotes are not closed in {line}");
    columns
}

proptest! {
    #[test]
    fn whatever_a_peer_writes_stays_one_line_of_as_many_columns(
        path: String, authority: String, name: String, details: String, agent: Vec<u8>, forwarded: Vec<u8>,
    ) {
        let scene = Scene::new();
        let record = HttpRecord {
            method: &name,
            original_path: Some(&path),
            authority: Some(&authority),
            server_name: Some(&name),
            route_name: Some(&details),
            code_details: Some(&details),
            termination_details: Some(&name),
            user_agent: Some(&agent),
            forwarded_for: Some(&forwarded),
            ..scene.record()
        };
        let text = line(&record, LogFormat::Text);
        prop_assert_eq!(text.trim_end_matches('\n').chars().filter(|c| c.is_control()).count(), 0);
        prop_assert!(text.ends_with('\n'));
        prop_assert_eq!(columns(&text), columns(&line(&scene.record(), LogFormat::Text)));
        let json: serde_json::Value = serde_json::from_str(&line(&record, LogFormat::Json)).unwrap();
        prop_assert_eq!(json["path"].as_str(), Some(&*path));
        prop_assert_eq!(json["authority"].as_str(), Some(&*authority));
        prop_assert_eq!(json["user_agent"].as_str(), Some(&*String::from_utf8_lossy(&agent)));
        prop_assert_eq!(json.as_object().unwrap().len(), 24);
    }

    #[test]
    fn any_moment_and_any_address_is_written(millis in 0..4_000_000_000_000_u64, address: SocketAddr) {
        let scene = Scene::new();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let record = HttpRecord { at, downstream_remote: address, ..scene.record() };
        let json: serde_json::Value = serde_json::from_str(&line(&record, LogFormat::Json)).unwrap();
        let read = OffsetDateTime::parse(
            json["start_time"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        );
        prop_assert_eq!(SystemTime::from(read.unwrap()), at);
        prop_assert_eq!(json["downstream_remote_address"].as_str().unwrap().parse::<SocketAddr>().unwrap().port(), address.port());
    }
}

#[test]
fn keys_stand_in_their_order() {
    let scene = Scene::new();
    let line = line(&scene.record(), LogFormat::Json);
    let keys: Vec<&str> = line.split("\":").filter_map(|part| part.rsplit('"').next()).collect();
    assert!(keys[..24].is_sorted(), "{keys:?}");
}
