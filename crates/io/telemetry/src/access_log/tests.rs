//! Lines on their way out: none lost silently, no worker held up.

use std::{net::SocketAddr, sync::mpsc, time::SystemTime};

use super::*;
use crate::{AccessParty, Direction};

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> usize {
        self.0.lock().unwrap().split_inclusive(|&b| b == b'\n').count()
    }
}

/// A sink that takes nothing until the sender is dropped.
struct Stuck(mpsc::Receiver<()>, Sink);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        while self.0.recv().is_ok() {}
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn entry(event: AccessEvent) -> AccessEntry<'static> {
    let party =
        |text: &str| AccessParty { address: text.parse::<SocketAddr>().unwrap(), workload: None, identity: None };
    AccessEntry {
        at: SystemTime::UNIX_EPOCH,
        event,
        source: party("10.0.0.1:1"),
        destination: party("[fd00::2]:2"),
        hbone_address: None,
        service: None,
        direction: Direction::Inbound,
        bytes_sent: 1,
        bytes_received: 2,
        duration: Duration::ZERO,
        error: None,
    }
}

#[test]
fn every_line_of_every_worker_is_written() {
    let sink = Sink::default();
    let log = AccessLog::start(LogFormat::Text, sink.clone()).unwrap();
    thread::scope(|scope| {
        for worker in (0..4).map(|_| log.clone()) {
            scope.spawn(move || (0..500).for_each(|_| worker.log(&entry(AccessEvent::Complete))));
        }
    });
    assert!(log.flush(DEADLINE));
    assert_eq!((sink.lines(), log.dropped()), (2000, 0));
    log.log(&entry(AccessEvent::Failed));
    assert!(log.close(DEADLINE), "what was logged last is written, too");
    assert_eq!(sink.lines(), 2001);
    log.log(&entry(AccessEvent::Complete));
    assert_eq!((sink.lines(), log.dropped()), (2001, 1), "nothing is taken any more");
    assert!(log.flush(DEADLINE) && log.close(DEADLINE));
}

#[test]
fn a_stuck_sink_costs_lines_and_never_a_worker() {
    let (stuck, receiver) = mpsc::channel();
    let sink = Sink::default();
    let log = AccessLog::start(LogFormat::Json, Stuck(receiver, sink.clone())).unwrap();
    let mut count = 0;
    while log.dropped() < 1000 {
        log.log(&entry(AccessEvent::Complete));
        count += 1;
        assert!(count < 1_000_000, "the queue has no end");
    }
    assert!(!log.flush(Duration::from_millis(50)), "flush gives up, too");
    drop(stuck);
    assert!(log.close(DEADLINE));
    assert_eq!(u64::try_from(sink.lines()).unwrap() + log.dropped(), count);
}

#[test]
fn opened_connections_are_logged_when_asked_for() {
    let sink = Sink::default();
    let log = AccessLog::start(LogFormat::Text, sink.clone()).unwrap();
    let worker = log.clone();
    worker.log(&entry(AccessEvent::Opened));
    assert!(!worker.wants(AccessEvent::Opened));
    log.set_detail(AccessDetail::OpensAndEnds);
    assert!(worker.wants(AccessEvent::Opened));
    worker.log(&entry(AccessEvent::Opened));
    assert!(log.close(DEADLINE));
    assert_eq!((sink.lines(), log.dropped()), (1, 0));
}

#[test]
fn a_sink_that_fails_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = AccessLog::start(LogFormat::Text, Broken).unwrap();
    (0..3).for_each(|_| log.log(&entry(AccessEvent::Complete)));
    assert!(log.close(DEADLINE));
    assert_eq!(log.dropped(), 3);
}
