//! Who gets which identity, one by one.

use super::*;

#[test]
fn an_identity_is_given_to_who_runs_it_and_to_nobody_else() {
    let own: TrustDomain = "cluster.local".parse().unwrap();
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    let name = |account: &str| {
        id(&format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            account.split_once('/').unwrap().0,
            account.split_once('/').unwrap().1
        ))
    };
    let (one, two): (NodeName, NodeName) = ("one".parse().unwrap(), "two".parse().unwrap());
    let pods: Vec<(Namespace, ServiceAccount, &NodeName)> =
        [("shop", "till", &one), ("shop", "store", &two), ("bank", "till", &two)]
            .map(|(namespace, account, node)| (namespace.parse().unwrap(), account.parse().unwrap(), node))
            .into();
    let live = || pods.iter().map(|(namespace, service_account, node)| LivePod { namespace, service_account, node });
    let (agent, waypoint) = (name("weir-system/agent"), name("shop/waypoint"));
    let agent_of = |node| Requester::NodeAgent { identity: &agent, node };
    for (what, requester, asked, want) in [
        ("a pod of its node", agent_of(&one), name("shop/till"), None),
        ("its own", agent_of(&one), agent.clone(), None),
        ("its own", Requester::Workload(&waypoint), waypoint.clone(), None),
        (
            "another node's",
            agent_of(&one),
            name("shop/store"),
            Some(
                "spiffe://cluster.local/ns/weir-system/sa/agent on node one may not have the identity spiffe://cluster.local/ns/shop/sa/store: no live pod of that service account runs there",
            ),
        ),
        (
            "the account of the same name in another namespace",
            agent_of(&one),
            name("bank/till"),
            Some(
                "spiffe://cluster.local/ns/weir-system/sa/agent on node one may not have the identity spiffe://cluster.local/ns/bank/sa/till: no live pod of that service account runs there",
            ),
        ),
        (
            "a pod that does not live",
            agent_of(&two),
            name("shop/gone"),
            Some(
                "spiffe://cluster.local/ns/weir-system/sa/agent on node two may not have the identity spiffe://cluster.local/ns/shop/sa/gone: no live pod of that service account runs there",
            ),
        ),
        (
            "a workload for another",
            Requester::Workload(&waypoint),
            name("shop/till"),
            Some(
                "spiffe://cluster.local/ns/shop/sa/waypoint may not have the identity spiffe://cluster.local/ns/shop/sa/till, only its own",
            ),
        ),
        (
            "another mesh",
            agent_of(&one),
            id("spiffe://other.example/ns/shop/sa/till"),
            Some("spiffe://other.example/ns/shop/sa/till is not of the trust domain cluster.local"),
        ),
    ] {
        let got = entitled(requester, &asked, &own, live()).err().map(|refusal| refusal.to_string());
        assert_eq!(got.as_deref(), want, "{what}");
    }
}
