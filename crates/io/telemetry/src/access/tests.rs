//! Access log lines, to the character.

use proptest::prelude::*;

use super::*;
use crate::fixtures::workload;

/// What the entries below borrow from.
struct Scene {
    ui: Workload,
    db: Workload,
    ui_id: SpiffeId,
    db_id: SpiffeId,
    service: Hostname,
}

fn scene() -> Scene {
    let (ui, db) = (workload("ui", "todo"), workload("db", "todo"));
    let (ui_id, db_id) = (ui.identity(), db.identity());
    Scene { ui, db, ui_id, db_id, service: "db.todo.svc.cluster.local".parse().unwrap() }
}

impl Scene {
    fn entry(&self, event: AccessEvent) -> AccessEntry<'_> {
        AccessEntry {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_714_995_859_000_042),
            event,
            source: AccessParty {
                address: "[fd00::7]:40000".parse().unwrap(),
                workload: Some(&self.ui),
                identity: Some(&self.ui_id),
            },
            destination: AccessParty {
                address: "10.0.1.9:15008".parse().unwrap(),
                workload: Some(&self.db),
                identity: Some(&self.db_id),
            },
            hbone_address: Some("10.0.1.9:5432"),
            service: Some(&self.service),
            direction: Direction::Outbound,
            bytes_sent: 84,
            bytes_received: 358,
            duration: Duration::from_micros(12_900),
            error: None,
        }
    }
}

fn line(entry: &AccessEntry<'_>, format: LogFormat) -> String {
    let mut line = Vec::new();
    entry.write(format, &mut line);
    String::from_utf8(line).unwrap()
}

#[test]
fn lines_read_as_ztunnels_do() {
    let scene = scene();
    let stranger = AccessParty { address: "10.9.9.9:1".parse().unwrap(), workload: None, identity: None };
    let entries = [
        scene.entry(AccessEvent::Complete),
        AccessEntry { bytes_sent: 0, bytes_received: 0, ..scene.entry(AccessEvent::Opened) },
        AccessEntry {
            source: stranger,
            hbone_address: None,
            service: None,
            direction: Direction::Inbound,
            error: Some("denied by policy todo/db: \"forged\"\nsecond line \u{1b}[31m"),
            ..scene.entry(AccessEvent::Failed)
        },
    ];
    let all = |format| entries.iter().map(|entry| line(entry, format)).collect::<String>();
    insta::assert_snapshot!("text", all(LogFormat::Text));
    insta::assert_snapshot!("json", all(LogFormat::Json));
}

proptest! {
    #[test]
    fn whatever_a_peer_writes_stays_one_line_and_one_value(error: String, authority: String) {
        let scene = scene();
        let entry = AccessEntry { error: Some(&error), hbone_address: Some(&authority), ..scene.entry(AccessEvent::Failed) };
        let json = line(&entry, LogFormat::Json);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&parsed["error"], &serde_json::Value::from(error.as_str()));
        prop_assert_eq!(&parsed["dst.hbone_addr"], &serde_json::Value::from(authority.as_str()));
        for line in [json, line(&entry, LogFormat::Text)] {
            let body = line.strip_suffix('\n').unwrap();
            prop_assert!(!body.chars().any(|c| c.is_control() && c != '\t'), "{:?}", body);
        }
    }
}
