//! Tokens whose keys are fetched from an issuer that rotates them.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weir_compile::{Settings, WaypointName};
use weir_manifest::{FileName, parse};
use weir_model::AppProtocol;
use weir_request::{Header, Normalization, Parts};

use super::*;
use crate::compiled::State;

/// An issuer of tokens, which answers with the key that it signs with by now.
struct Issuer {
    address: SocketAddr,
    key: Arc<Mutex<(String, Ed25519KeyPair)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn new(at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = Arc::new(Mutex::new(("one".to_owned(), Ed25519KeyPair::generate().unwrap())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (own, count) = (key.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
                let body = {
                    let key = own.lock().unwrap();
                    let public = URL_SAFE_NO_PAD.encode(key.1.public_key());
                    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{public}"}}]}}"#, key.0)
                };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, key, asked }
    }

    fn rotate(&self, kid: &str) {
        *self.key.lock().unwrap() = (kid.to_owned(), Ed25519KeyPair::generate().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A token signed with the key of now, under a name.
    fn token(&self, kid: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#));
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://issuer.example","sub":"alice","exp":9999999999}"#);
        let said = format!("{header}.{claims}");
        let signature = self.key.lock().unwrap().1.sign(said.as_bytes());
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// What guards a service whose requests may bear its tokens.
    fn guard(&self) -> Guard {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, labels: {{istio.io/use-waypoint: gate}}}}\n\
             spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gate, namespace: shop}}\n\
             spec: {{gatewayClassName: weir-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: gate, namespace: shop}}\n\
             spec: {{clusterIP: 10.96.0.2, selector: {{app: gate}}, ports: [{{port: 15008}}]}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: shop}}\n\
             spec: {{targetRefs: [{{group: '', kind: Service, name: web}}], jwtRules: [{{issuer: 'https://issuer.example', jwksUri: 'http://{}/keys'}}]}}\n",
            self.address
        );
        let objects = parse(&[(FileName::new("f.yaml"), text.as_str())]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            cluster: "Kubernetes".parse().unwrap(),
            network: "".parse().unwrap(),
            node: None,
            cluster_domain: Default::default(),
            root_namespace: weir_compile::default_root_namespace(),
        };
        let name = WaypointName { namespace: "shop".parse().unwrap(), name: "gate".into() };
        let state = State::of(objects, &settings, &name);
        let host = state.serving.host(&"web.shop.svc.cluster.local".parse().unwrap()).cloned();
        host.unwrap_or_else(|| panic!("nothing is served: {:?}", state.notes)).guard.as_ref().clone()
    }
}

/// A gate, and what guards what is behind it.
struct Scene {
    gate: Gate,
    guard: Guard,
}

impl Scene {
    fn new(issuer: &Issuer, pause: Duration) -> Self {
        let allowed = weir_jwks::Allowed::new(["127.0.0.0/8", "::1"]).unwrap();
        let config = weir_jwks::Config { allowed, pause, ..weir_jwks::Config::default() };
        let (fetcher, keys) = weir_jwks::Fetcher::new(config).unwrap();
        tokio::spawn(fetcher.run());
        let guard = issuer.guard();
        keys.follow(guard.tokens.sources());
        Self { gate: Gate::new(keys, Arc::default()), guard }
    }

    fn ask(&self, token: &str) -> Admission {
        let arrival = Arrival {
            client: "10.0.0.1:4000".parse().unwrap(),
            identity: None,
            workload: None,
            labels: None,
            destination: "10.96.0.1:80".parse().unwrap(),
            target: Target::Service {
                host: "web.shop.svc.cluster.local".parse().unwrap(),
                port: Port::new(80).unwrap(),
                protocol: AppProtocol::Http11,
            },
            trusted_hops: 0,
        };
        let bearer = format!("Bearer {token}");
        let headers = [Header { name: "authorization", value: bearer.as_bytes() }];
        let parts = Parts { method: "GET", scheme: "http", authority: "web", target: "/", headers: &headers };
        let request = Request::read(parts, Normalization::Base).unwrap();
        self.gate.ask(&self.guard, &arrival, &request)
    }

    /// The status of a request, as the engine asks for it: once, and once more.
    async fn status(&self, token: &str) -> u16 {
        let last = match self.ask(token) {
            Admission::Later(fetched, _) => {
                timeout(Duration::from_secs(20), fetched).await.expect("it waits for no longer than a fetch");
                self.ask(token)
            }
            now @ (Admission::Pass(_) | Admission::Answer(_)) => now,
        };
        match last {
            Admission::Pass(_) => 200,
            Admission::Answer(refusal) | Admission::Later(_, refusal) => refusal.status,
        }
    }
}

#[tokio::test]
async fn the_first_token_of_a_new_key_is_good() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let issuer = Issuer::new(at).await;
        let scene = Scene::new(&issuer, Duration::ZERO);
        // The very first keys are waited for, too.
        let first = issuer.token("one");
        assert_eq!(scene.status(&first).await, 200);
        for kid in ["two", "three"] {
            let before = issuer.asked();
            issuer.rotate(kid);
            let tokens = [issuer.token(kid), issuer.token(kid)];
            assert_eq!(scene.status(&tokens[0]).await, 200, "{kid}");
            assert_eq!(scene.status(&tokens[1]).await, 200, "{kid}");
            assert_eq!(issuer.asked(), before + 1, "one fetch does");
        }
        // What was signed with a key that is gone is bad, and so is what nobody signed.
        assert_eq!(scene.status(&first).await, 401);
        assert_eq!(scene.status(&issuer.token("four")).await, 401);
    }
}

#[tokio::test]
async fn all_who_wait_have_one_fetch() {
    let issuer = Issuer::new("127.0.0.1:0").await;
    let scene = Scene::new(&issuer, Duration::ZERO);
    assert_eq!(scene.status(&issuer.token("one")).await, 200);
    issuer.rotate("two");
    let (token, before) = (issuer.token("two"), issuer.asked());
    let statuses = futures_util::future::join_all((0..100).map(|_| scene.status(&token))).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(issuer.asked(), before + 1);
}

#[tokio::test]
async fn keys_that_are_nobodys_make_nobody_ask_nor_wait() {
    let issuer = Issuer::new("127.0.0.1:0").await;
    let scene = Scene::new(&issuer, Duration::from_secs(3_600));
    assert_eq!(scene.status(&issuer.token("one")).await, 200);
    let before = issuer.asked();
    for number in 0..200 {
        assert_eq!(scene.status(&issuer.token(&format!("junk-{number}"))).await, 401);
    }
    assert_eq!(issuer.asked(), before, "the issuer was asked for junk");
}
