//! A decision allocates nothing.

use allocation_counter::measure;
use weir_authz::Decision;
use weir_model::{Match, Policy};

use crate::scene::{
    accounts, allow, connection, deny, from, namespaces, one, policy, ports, principals, rejected, set, trust_domains,
};

#[test]
fn a_decision_allocates_nothing() {
    let texts: Vec<String> = (0..100).map(|n| format!("cluster.local/ns/n{n}/sa/s")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ranges: Vec<String> = (0..100).map(|n| format!("10.{n}.0.0/16")).collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    let denied = vec![one(principals(&["*/sa/evil"])), one(from(&["192.168.0.0/16"])), one(namespaces(&["evil-*"]))];
    let allowed = vec![
        one(principals(&texts)),
        one(from(&ranges)),
        one(accounts(&[("web", "front")], &[])),
        one(Match { trust_domains: trust_domains(&["!old.example"]).trust_domains, ..ports(&["80"]) }),
    ];
    let policies: Vec<Policy> = (0..50)
        .map(|n| match n % 2 {
            0 => deny(&format!("d{n}"), denied.clone()),
            _ => allow(&format!("a{n}"), allowed.clone()),
        })
        .collect();
    let set_of_all = set(&policies);
    let refusing = set(&[rejected(policy("r", weir_model::PolicyAction::Allow, Vec::new()))]);
    for (who, address) in [
        ("cluster.local/ns/n42/sa/s", "10.200.0.1"),
        ("cluster.local/ns/web/sa/front", "fd00::1"),
        ("cluster.local/ns/web/sa/evil", "fd00::1"),
        ("plain", "::ffff:10.42.0.1"),
        ("plain", "172.16.0.1"),
    ] {
        let connection = connection(who, address, "10.0.0.7:81");
        let peer = connection.peer();
        for set in [&set_of_all, &refusing] {
            let mut admitted = false;
            let counted =
                measure(|| admitted = matches!(set.decide(&peer, &connection.destination), Decision::Allow(_)));
            assert_eq!(counted.count_total, 0, "{who} at {address}, admitted: {admitted}");
        }
    }
}
