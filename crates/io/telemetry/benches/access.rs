//! What one access log line costs a worker: `cargo bench -p weir-telemetry --bench access`.

use std::{
    hint::black_box,
    io,
    time::{Duration, Instant, SystemTime},
};

use weir_model::{Hostname, SpiffeId};
use weir_telemetry::{AccessEntry, AccessEvent, AccessLog, AccessParty, Direction, LogFormat};

const LINES: u32 = 200_000;

fn main() {
    let ui: SpiffeId = "spiffe://cluster.local/ns/todo/sa/ui".parse().expect("an identity");
    let service: Hostname = "db.todo.svc.cluster.local".parse().expect("a host name");
    let party = |address: &str| AccessParty {
        address: address.parse().expect("an address"),
        workload: None,
        identity: Some(&ui),
    };
    let entry = AccessEntry {
        at: SystemTime::now(),
        event: AccessEvent::Complete,
        source: party("10.0.0.7:40000"),
        destination: party("[fd00::9]:15008"),
        hbone_address: Some("[fd00::9]:5432"),
        service: Some(&service),
        direction: Direction::Outbound,
        bytes_sent: 84,
        bytes_received: 358,
        duration: Duration::from_millis(12),
        error: None,
    };
    for format in [LogFormat::Text, LogFormat::Json] {
        let mut line = Vec::new();
        let began = Instant::now();
        for _ in 0..LINES {
            line.clear();
            black_box(&entry).write(format, &mut line);
            black_box(&line);
        }
        let formatted = began.elapsed() / LINES;
        let log = AccessLog::start(format, io::sink()).expect("a thread");
        let began = Instant::now();
        (0..LINES).for_each(|_| log.log(black_box(&entry)));
        let logged = began.elapsed() / LINES;
        println!("{format:?}: {formatted:?} to format, {logged:?} to log, {} of {LINES} dropped", log.dropped());
        assert!(log.close(Duration::from_secs(10)));
    }
}
