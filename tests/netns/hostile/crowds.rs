//! Ten thousand connections that never become anything.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use weir_tests::peers::until;

use crate::scene::{ECHO, HBONE, Scene};

const CROWD: usize = 10_000;
/// What ten thousand half-open connections may cost the agent, in MiB.
const COST: u64 = 64;
/// Handshakes an agent holds at once for one pod: 1024 a worker, one worker a core; the rest gives way.
const HANDSHAKES: usize = 1_024;

/// The first half of a ClientHello's record.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// Ends the legal traffic also when the test fails: a scope waits for its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn crowd(scene: &Scene, to: SocketAddr, so_far: &mut Vec<TcpStream>, count: usize) {
    let netns = scene.topology.pod("stranger").netns();
    let made = netns.run(|| {
        let mut made = Vec::new();
        for number in 0..count {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.connect_timeout(&to.into(), Duration::from_secs(30))?;
            let mut stream = TcpStream::from(socket);
            if number % 2 == 0 {
                // It may have given way already.
                drop(stream.write_all(HALF));
            }
            made.push(stream);
        }
        std::io::Result::Ok(made)
    });
    so_far.extend(made.unwrap().unwrap());
}

#[test]
fn ten_thousand_half_open_connections_neither_stop_the_others_nor_stay() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let scene = Scene::new();
    scene.all_is_well();
    let (descriptors, memory) = (scene.descriptors(), scene.memory());
    let workers = std::thread::available_parallelism().unwrap().get();
    let over = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let legal = scope.spawn(|| {
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                scene.all_is_well();
                slowest = slowest.max(start.elapsed());
                rounds += 1;
            }
            (rounds, slowest)
        });
        let end = Over(&over);
        let mut streams = Vec::new();
        for server in scene.server() {
            crowd(&scene, SocketAddr::new(*server, HBONE), &mut streams, CROWD / 2);
            // A newcomer with a legal certificate is not lost in the crowd.
            let mut peer = scene.peer(*server);
            let (tunnel, status) = peer.connect(&SocketAddr::new(*server, ECHO).to_string()).unwrap();
            assert_eq!(status, 200);
            peer.echo(tunnel, b"among ten thousand").unwrap();
        }
        assert_eq!(streams.len(), CROWD);
        // Long before a deadline ends them; what gave way closes when its worker comes to it.
        let start = Instant::now();
        until("the rest's giving way", || Ok(scene.descriptors() <= descriptors + workers * HANDSHAKES + 64)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
        let (held, cost) = (scene.descriptors() - descriptors, scene.memory().saturating_sub(memory));
        println!("{held} descriptors and {cost} MiB for {CROWD} half-open connections");
        assert!(cost <= COST, "{cost} MiB");
        // They are still open on our side: the agent's deadlines alone must end them.
        until("the descriptors' coming back", || Ok(scene.descriptors() <= descriptors + 32)).unwrap();
        drop(streams);
        drop(end);
        legal.join().unwrap()
    });
    println!("{} rounds of legal traffic meanwhile, the slowest took {:?}", rounds.0, rounds.1);
    assert!(rounds.0 >= 3 && rounds.1 < Duration::from_secs(10), "{rounds:?}");
    scene.all_is_well();
}
