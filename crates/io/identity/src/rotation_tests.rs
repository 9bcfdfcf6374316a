//! One root follows another under living workloads: after every single step, everybody still gets through to everybody.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::KeyPair;
use rustls::ClientConfig;
use weir_authority::{Authority, CaSecret, Step, Timing};
use weir_model::SpiffeId;

use crate::{
    Error, Identities, Issuer, Issuing, WorkloadCertificate, WorkloadTls,
    fixtures::{Authority as Signer, HOUR, dns, handshake, id, uri},
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const NAMES: [&str; 3] =
    ["spiffe://cluster.local/ns/a/sa/a", "spiffe://cluster.local/ns/b/sa/b", "spiffe://cluster.local/ns/c/sa/c"];

/// Signs by whatever the CA's Secret holds.
#[derive(Debug)]
struct Ca(Mutex<CaSecret>);

impl Ca {
    fn sign(&self, identity: &SpiffeId) -> WorkloadCertificate {
        let (secret, now) = (self.0.lock().unwrap().clone(), SystemTime::now());
        let ca = Authority::open(secret.files(), identity.trust_domain(), 24 * HOUR, now).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = ca.leaf(&key, identity, 24 * HOUR, now).unwrap();
        let roots = ca.roots().roots().to_vec();
        WorkloadCertificate::proven(vec![leaf], key.into(), roots, identity, now).unwrap()
    }
}

impl Issuer for Ca {
    fn certify<'a>(&'a self, identity: &'a SpiffeId) -> Issuing<'a> {
        Box::pin(async move { Ok(self.sign(identity)) })
    }
}

/// Three agents, with one workload each.
struct Mesh {
    ca: Arc<Ca>,
    agents: Vec<Identities>,
    /// Configurations from before anything changed: pools hold on to them. Their certificates are of the old root.
    early: Vec<Arc<ClientConfig>>,
}

impl Mesh {
    async fn new() -> Self {
        let secret = CaSecret::make(&"cluster.local".parse().unwrap(), SystemTime::now() - 7 * YEAR).unwrap();
        let ca = Arc::new(Ca(Mutex::new(secret)));
        let mut mesh = Self { agents: NAMES.map(|_| Identities::new(ca.clone())).into(), ca, early: Vec::new() };
        for at in 0..NAMES.len() {
            let tls = mesh.renew(at).await;
            mesh.early.push(tls.client(&NAMES.map(id)));
        }
        mesh
    }

    /// The agent gets a new certificate, and what roots come with it.
    async fn renew(&self, at: usize) -> Arc<WorkloadTls> {
        self.agents[at].retain(&HashSet::new());
        self.agents[at].fetch(&id(NAMES[at])).await.unwrap()
    }

    /// The agent sees the published bundle.
    fn see(&self, at: usize) {
        let bundle = self.ca.0.lock().unwrap().bundle().clone();
        self.agents[at].set_roots(bundle.roots()).unwrap();
    }

    /// The CA's next step, which is due `after` now.
    fn step(&self, after: Duration) {
        let mut secret = self.ca.0.lock().unwrap();
        let timing = Timing { spread: HOUR, retire: HOUR };
        let now = SystemTime::now() + after;
        let Step::Write(next, _) = secret.step(None, timing, &"cluster.local".parse().unwrap(), now).unwrap() else {
            panic!("there is nothing to do")
        };
        *secret = *next;
    }

    fn everybody_gets_through(&self, when: &str) {
        let held: Vec<_> = (0..NAMES.len()).map(|at| self.agents[at].current(&id(NAMES[at])).unwrap()).collect();
        for (from, tls) in held.iter().enumerate() {
            for (to, server) in held.iter().enumerate() {
                for client in self.early.get(from).into_iter().chain([&tls.client(&NAMES.map(id))]) {
                    if let Err(failed) = handshake(client.clone(), server.server()) {
                        panic!("{when}: {from} to {to}: {}", failed.reason());
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_rotation_costs_nobody_a_handshake() {
    let mut mesh = Mesh::new().await;
    let first = WorkloadTls::new(&mesh.ca.sign(&id(NAMES[0]))).unwrap();
    mesh.everybody_gets_through("in the beginning");

    mesh.step(Duration::ZERO);
    mesh.everybody_gets_through("the next root is published");
    // One by its file, one with a certificate, one by both.
    mesh.see(0);
    mesh.everybody_gets_through("one has it");
    mesh.renew(1).await;
    mesh.everybody_gets_through("two have it");
    mesh.renew(2).await;
    mesh.see(2);

    mesh.step(HOUR);
    mesh.everybody_gets_through("the next root signs");
    for at in [2, 0, 1] {
        mesh.renew(at).await;
        mesh.everybody_gets_through("one more is signed by it");
    }

    // The old certificates have expired by now.
    mesh.early.clear();
    mesh.step(HOUR);
    mesh.step(2 * HOUR);
    for at in [1, 0, 2] {
        mesh.see(at);
        mesh.everybody_gets_through("one more sees that the old one is gone");
        mesh.renew(at).await;
        mesh.everybody_gets_through("and has a certificate without it");
    }
    // It really is.
    for (agent, name) in mesh.agents.iter().zip(NAMES) {
        let server = agent.current(&id(name)).unwrap();
        let failed = handshake(first.client(&NAMES.map(id)), server.server()).unwrap_err();
        assert!(failed.reason().contains("not signed by a root of this mesh"), "{name}: {}", failed.reason());
    }
}

#[tokio::test]
async fn without_its_root_seen_a_new_certificate_is_refused() {
    let mesh = Mesh::new().await;
    mesh.step(Duration::ZERO);
    mesh.step(HOUR);
    mesh.renew(0).await;
    let (new, old) = (mesh.agents[0].current(&id(NAMES[0])).unwrap(), mesh.agents[1].current(&id(NAMES[1])).unwrap());
    assert!(handshake(new.client(&NAMES.map(id)), old.server()).is_err());
    mesh.see(1);
    handshake(new.client(&NAMES.map(id)), old.server()).unwrap();
    assert!(matches!(mesh.agents[1].set_roots(&[b"rubbish".as_slice().into()]), Err(Error::Root { .. })));
    handshake(new.client(&NAMES.map(id)), old.server()).unwrap();
    mesh.agents[1].set_roots(&[]).unwrap();
    assert!(handshake(new.client(&NAMES.map(id)), old.server()).is_err());
}

#[test]
fn of_an_issuer_elsewhere_nothing_is_taken_on_trust() {
    let (mesh, other, now) = (Signer::new("mesh"), Signer::new("other"), SystemTime::now());
    let (name, root) = (NAMES[0], mesh.root());
    let good = |names| mesh.sign(names, |_| {});
    let (chain, key) = good(vec![uri(name)]);
    WorkloadCertificate::proven(chain.clone(), key, vec![other.root(), root.clone()], &id(name), now).unwrap();
    let foreign_key = good(vec![uri(name)]).1;
    for (what, (chain, key), roots, at, says) in [
        ("another's key", (chain, foreign_key), &root, now, "TLS does not accept the key"),
        ("no chain", (vec![], good(vec![]).1), &root, now, "no certificate was presented"),
        ("somebody else", good(vec![uri(NAMES[1])]), &root, now, "instead of spiffe://cluster.local/ns/a/sa/a"),
        ("nobody", good(vec![]), &root, now, "names no identity"),
        ("two", good(vec![uri(name), uri(NAMES[1])]), &root, now, "2 URI SANs"),
        ("a name more", good(vec![uri(name), dns("bank.example")]), &root, now, "has 2 names"),
        ("of another root", good(vec![uri(name)]), &other.root(), now, "not signed by a root of this mesh"),
        ("expired", good(vec![uri(name)]), &root, now + 2 * HOUR, "it expired"),
        ("too early", good(vec![uri(name)]), &root, now - 2 * HOUR, "compare the clocks"),
        (
            "for clients only",
            mesh.sign(vec![uri(name)], |p| {
                p.extended_key_usages.remove(0);
            }),
            &root,
            now,
            "extended key usage",
        ),
        (
            "for servers only",
            mesh.sign(vec![uri(name)], |p| {
                p.extended_key_usages.pop();
            }),
            &root,
            now,
            "extended key usage",
        ),
    ] {
        let error = WorkloadCertificate::proven(chain, key, vec![roots.clone()], &id(name), at).expect_err(what);
        assert!(error.to_string().contains(says), "{what}: {error}");
    }
    let (chain, key) = good(vec![uri(name)]);
    let error = WorkloadCertificate::proven(chain, key, vec![b"x".as_slice().into()], &id(name), now).unwrap_err();
    assert!(matches!(error, Error::Root { .. }), "{error}");
}
