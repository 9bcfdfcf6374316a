//! Ready once every pod that is to be caught has been, and not before.

use std::net::SocketAddr;

use weir_netlink::{NetNs, Rtnl};
use weir_testbed::{PodSpec, Topology, TopologySpec, http_get};
use weir_tests::peers::{Agent, until};

use crate::scene::own;

#[test]
fn an_agent_is_not_ready_until_it_has_caught_every_pod() {
    let mut topology = Topology::new(TopologySpec::default()).unwrap();
    topology.add_pod(PodSpec::new("good", 0)).unwrap();
    let netns = topology.work_dir().join("late-netns");
    let late = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: late\n  namespace: default\n  uid: 00000000-0000-4000-8000-00000000abcd\n  \
         annotations:\n    weir.dev/netns: {}\nspec:\n  nodeName: node1\n  serviceAccountName: late\n  containers:\n  - name: late\n    \
         image: x\nstatus:\n  phase: Running\n  podIP: 10.244.1.200\n  podIPs:\n  - ip: 10.244.1.200\n",
        netns.display()
    );
    topology.add_manifest("late.yaml", &late).unwrap();
    let mut agent = Agent::start(&topology, 0, &[]).unwrap();
    let node = topology.nodes()[0].netns();
    let ready = |at: SocketAddr| http_get(node, at, "/healthz/ready").ok().map(|answer| (answer.status, answer.body));
    agent.process.wait_log("weir-agent is running", std::time::Duration::from_secs(60)).unwrap();
    let not_yet = Some((503, "not ready, waiting for: pods of this node\n".to_owned()));
    // On both servers that tell it, and for longer than a look around takes.
    assert_eq!(ready(own(15021)), not_yet);
    agent.process.wait_log("late-netns", std::time::Duration::from_secs(30)).unwrap();
    assert_eq!([ready(own(15021)), ready(own(15000))], [not_yet.clone(), not_yet]);
    let good = http_get(node, own(15000), "/config_dump").unwrap().body;
    assert!(good.contains("\"state\": \"Enrolled\"") && good.contains("\"state\": \"Failing\""), "{good}");
    // The namespace comes into being: the pod can be caught.
    let made = NetNs::create(&netns).unwrap();
    let mut rtnl = Rtnl::open_in(&made).unwrap();
    rtnl.set_up("lo").unwrap();
    rtnl.add_address("lo", "10.244.1.200".parse().unwrap(), 32).unwrap();
    let done = until("readiness", || Ok(ready(own(15021)) == Some((200, "ready\n".into()))));
    NetNs::delete(&netns).unwrap();
    done.unwrap_or_else(|error| panic!("{error}\n{}", agent.process.log()));
    // Kubernetes probes it from outside the pod: the port is open on every address.
    for address in topology.nodes()[0].addresses() {
        assert_eq!(ready(SocketAddr::new(address, 15021)), Some((200, "ready\n".into())), "{address}");
    }
}
