//! `weir-testbed`: the workloads and load generators that run in the pods of a test. Results are JSON, one line on standard output.

use std::io::{stdin, stdout};
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use weir_netlink::NetNs;
use weir_testbed::work::{
    ConnectLoad, Direction, Hold, HttpServer, RequestLoad, StreamLoad, TcpMode, TcpServer, raise_file_limit,
};
use weir_testbed::{http_get, sum_by};

#[derive(Parser)]
#[command(about = "Workloads and load generators for the pods of a test")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP: name, version, and the client's address as seen from here.
    ServeHttp {
        /// Address to listen on; may be given several times.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        #[arg(long, default_value = "todo")]
        name: String,
        #[arg(long, default_value = "0.1")]
        version: String,
        /// Answer with so many bytes of text instead.
        #[arg(long)]
        body_bytes: Option<usize>,
    },
    /// Serve TCP.
    ServeTcp {
        /// Address to listen on; may be given several times.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        #[arg(long, value_enum)]
        mode: Mode,
        /// For a source: close after so many bytes.
        #[arg(long, default_value_t = 0)]
        bytes: u64,
    },
    /// Throughput: from or to `serve-tcp --mode source|sink`.
    Stream {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        streams: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(long, value_enum, default_value = "up")]
        direction: Way,
    },
    /// Requests over kept-alive connections.
    Request {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value = "/")]
        path: String,
        #[arg(long, default_value_t = 1)]
        connections: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Requests per second; without it as fast as the answers come.
        #[arg(long)]
        rate: Option<u32>,
        /// Stop after so many requests.
        #[arg(long)]
        most: Option<u64>,
    },
    /// A new connection for every request.
    Connect {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value = "/")]
        path: String,
        #[arg(long, default_value_t = 1)]
        at_once: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Get one page and print it.
    Get {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value = "/")]
        path: String,
    },
    /// Read a program's metrics and add up the series of one, by the values of a label: what PromQL calls `sum by (LABEL) (METRIC{NAME="VALUE"})`.
    Sum {
        /// Where the metrics are served.
        #[arg(long, default_value = "[::1]:15020")]
        of: SocketAddr,
        /// The metric.
        metric: String,
        #[arg(long, value_name = "LABEL")]
        by: String,
        /// Only series with this label; may be given several times.
        #[arg(long, value_name = "NAME=VALUE")]
        with: Vec<String>,
    },
    /// Open connections and hold them until standard input ends.
    Hold {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Echo,
    Sink,
    Source,
    Banner,
    HalfClose,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Up,
    Down,
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    match Arguments::parse().command {
        Command::ServeHttp { listen, name, version, body_bytes } => {
            HttpServer { listen, name, version, body_bytes }.run()
        }
        Command::ServeTcp { listen, mode, bytes } => TcpServer { listen, mode: mode.with(bytes) }.run(),
        Command::Stream { to, streams, seconds, direction } => {
            let direction = match direction {
                Way::Up => Direction::Up,
                Way::Down => Direction::Down,
            };
            print(&StreamLoad { to, streams, time: Duration::try_from_secs_f64(seconds)?, direction }.run()?)
        }
        Command::Request { to, path, connections, seconds, rate, most } => {
            let time = Duration::try_from_secs_f64(seconds)?;
            print(&RequestLoad { to, path, connections, time, rate, most }.run()?)
        }
        Command::Connect { to, path, at_once, seconds } => {
            print(&ConnectLoad { to, path, at_once, time: Duration::try_from_secs_f64(seconds)? }.run()?)
        }
        Command::Get { to, path } => {
            let answer = http_get(&NetNs::current()?, to, &path)?;
            anyhow::ensure!(answer.status == 200, "status {}: {}", answer.status, answer.body.trim_end());
            println!("{}", answer.body.trim_end());
            Ok(())
        }
        Command::Sum { of, metric, by, with } => {
            let answer = http_get(&NetNs::current()?, of, "/metrics")?;
            anyhow::ensure!(answer.status == 200, "metrics: status {}", answer.status);
            for (value, sum) in sum_by(&answer.body, &metric, &by, &with)? {
                println!("{value} {sum}");
            }
            Ok(())
        }
        Command::Hold { to, connections } => Hold { to, connections }.run(&mut stdout(), &mut stdin().lock()),
    }
}

impl Mode {
    fn with(self, bytes: u64) -> TcpMode {
        match self {
            Self::Echo => TcpMode::Echo,
            Self::Sink => TcpMode::Sink,
            Self::Source => TcpMode::Source(bytes),
            Self::Banner => TcpMode::Banner,
            Self::HalfClose => TcpMode::HalfClose,
        }
    }
}

fn print(report: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
