//! The service, called as an agent and as others call it.

use std::sync::{Arc, Mutex};

use tonic::{Code, Request, Status, body::Body, client::Grpc};
use tonic_prost::ProstCodec;
use tower::{ServiceBuilder, util::MapRequestLayer};
use weir_model::NodeName;
use weir_rpc::{Caller, Credential};

use crate::{
    Caught, Reports, Sink,
    messages::{Heard, REPORT, Report},
};

#[derive(Default)]
struct Told(Mutex<Vec<(NodeName, Vec<Caught>)>>);

impl Sink for Told {
    fn admits(&self, caller: &Caller) -> bool {
        caller.service_account().as_str() == "agent"
    }

    fn heard(&self, node: &NodeName, pods: Vec<Caught>) {
        self.0.lock().unwrap().push((node.clone(), pods));
    }
}

fn caller(account: &str, node: Option<&str>, credential: Credential) -> Caller {
    Caller {
        identity: format!("spiffe://cluster.local/ns/mesh/sa/{account}").parse().unwrap(),
        node: node.map(|node| node.parse().unwrap()),
        pod: None,
        credential,
    }
}

async fn report(told: &Arc<Told>, caller: Option<Caller>, pods: Vec<Caught>) -> Result<(), Status> {
    let service = ServiceBuilder::new()
        .layer(MapRequestLayer::new(move |mut call: http::Request<Body>| {
            if let Some(caller) = caller.clone() {
                call.extensions_mut().insert(caller);
            }
            call
        }))
        .service(Reports::new(told.clone()));
    let mut grpc = Grpc::new(service);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<Report, Heard>::default();
    let request = Request::new(Report { pods });
    grpc.unary(request, http::uri::PathAndQuery::from_static(REPORT), codec).await.map(drop)
}

fn pod(name: &str) -> Caught {
    Caught { namespace: "a".to_owned(), name: name.to_owned(), uid: "u".to_owned() }
}

#[tokio::test]
async fn a_report_is_of_the_node_that_was_proven() {
    let told = Arc::new(Told::default());
    report(&told, Some(caller("agent", Some("n1"), Credential::Token)), vec![pod("p")]).await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), [("n1".parse().unwrap(), vec![pod("p")])]);
}

#[tokio::test]
async fn who_is_no_agent_of_a_node_is_not_heard() {
    let told = Arc::new(Told::default());
    for (caller, code) in [
        (None, Code::Unauthenticated),
        (Some(caller("web", Some("n1"), Credential::Token)), Code::PermissionDenied),
        (Some(caller("agent", None, Credential::Token)), Code::PermissionDenied),
        (Some(caller("agent", None, Credential::Certificate)), Code::PermissionDenied),
    ] {
        let status = report(&told, caller.clone(), vec![pod("p")]).await.unwrap_err();
        assert_eq!(status.code(), code, "{caller:?}");
    }
    let many = vec![pod("p"); 5_000];
    let status = report(&told, Some(caller("agent", Some("n1"), Credential::Token)), many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(told.0.lock().unwrap().is_empty());
}
