//! A plain reverse proxy over the engine, with one worker: what is measured against other proxies. `reverse LISTEN BACKEND`.

use std::{env, fmt, net::SocketAddr, rc::Rc, sync::Arc};

use http::HeaderMap;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use weir_balance::{Client, Place, Weight};
use weir_http::{
    Admission, Around, Arrival, ConnectError, Dial, Edits, Endpoint, Engine, Record, Settings, Snapshot, Target,
};
use weir_model::{AppProtocol, Health, Hostname, Port};
use weir_request::Request;
use weir_serving::{Host, Serving, Subset};

/// One backend, and nothing said of it.
struct Plain {
    backend: SocketAddr,
    snapshot: Rc<Snapshot>,
}

impl Plain {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: Arc::from("backend"),
            address: self.backend,
            weight: Weight::ONE,
            health: Health::Healthy,
            place: Arc::new(Place::default()),
            protocol: AppProtocol::Http11,
        }
    }
}

impl Around for Plain {
    type Io = TcpStream;
    type Span = ();

    fn snapshot(&self) -> Rc<Snapshot> {
        Rc::clone(&self.snapshot)
    }

    fn place(&self) -> Client {
        Client::default()
    }

    fn endpoints(&self, _: &Hostname, _: Port, _: Option<&Subset>) -> Vec<Endpoint> {
        vec![self.endpoint()]
    }

    fn original(&self, _: &Arrival) -> Option<Endpoint> {
        Some(self.endpoint())
    }

    async fn connect(&self, to: &Endpoint, _: Dial<'_>) -> Result<TcpStream, ConnectError> {
        let stream = TcpStream::connect(to.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn admit(&self, _: &Arrival, _: Option<&Host>, _: &Request<'_>) -> Admission {
        Admission::Pass(Edits::default())
    }

    fn admit_connection(&self, _: &Arrival, _: Option<&Host>) -> Result<(), Box<str>> {
        Ok(())
    }

    fn begin(&self, _: &Arrival, _: &mut HeaderMap) {}

    fn opened(&self, (): &mut (), _: &Record<'_>) {}

    fn end(&self, (): (), _: &Record<'_>) {}
}

/// What was given is not what is expected.
#[derive(Debug)]
struct Usage;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected: reverse LISTEN BACKEND, both as address:port")
    }
}

impl std::error::Error for Usage {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut given = env::args().skip(1);
    let (Some(listen), Some(backend)) = (given.next(), given.next()) else { return Err(Usage.into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(listen.parse()?, backend.parse()?))
}

async fn run(listen: SocketAddr, backend: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let snapshot = Rc::new(Snapshot { serving: Arc::new(Serving::default()), version: 1 });
    let engine = Engine::new(Settings::default(), Rc::new(Plain { backend, snapshot }));
    let listener = TcpListener::bind(listen).await?;
    let target = Target::Service {
        host: "backend.default.svc.cluster.local".parse()?,
        port: Port::try_from(i64::from(listen.port()))?,
        protocol: AppProtocol::Http11,
    };
    loop {
        let (stream, client) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let arrival = Arrival {
            client,
            identity: None,
            workload: None,
            labels: None,
            destination: listen,
            target: target.clone(),
            trusted_hops: 0,
        };
        spawn_local(Rc::clone(&engine).serve(stream, arrival));
    }
}
