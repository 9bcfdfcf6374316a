//! Policies: any text is legal policies, which are printed and read again as they are, or refused with reasons; and what a server
//! sends as a policy is one, or a rejected one with reasons that are bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_manifest::{FileName, Kind, Object, Origin, PolicyObject, PolicySpec, Sent, parse};

/// A policy without the places it was read from.
fn nowhere(mut policy: PolicyObject) -> PolicyObject {
    policy.origin = Origin { file: FileName::new("fuzz.yaml"), document: 1, line: 0 };
    match &mut policy.spec {
        PolicySpec::Authorization(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::RequestAuthentication(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::PeerAuthentication(_) | PolicySpec::Rejected(_) => {}
    }
    policy
}

fn printed_and_read(policy: PolicyObject) {
    let policy = nowhere(policy);
    for text in policy.to_yaml().into_iter().chain(policy.to_json()) {
        let read = parse(&[(FileName::new("fuzz.yaml"), &text)]).expect("what was printed is legal");
        let read: Vec<_> = read.policies.into_iter().map(nowhere).collect();
        assert_eq!(read, [policy.clone()], "{text}");
    }
}

fuzz_target!(|text: &str| {
    let file = FileName::new("fuzz.yaml");
    match parse(&[(file.clone(), text)]) {
        Ok(objects) => objects.policies.into_iter().for_each(printed_and_read),
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
    let Ok(sent) = serde_json::from_str::<Sent>(text) else { return };
    for kind in [Kind::AuthorizationPolicy, Kind::PeerAuthentication, Kind::RequestAuthentication] {
        match sent.read(kind, &file) {
            Ok(Object::Policy(policy)) => {
                assert_eq!(sent.key(kind), Some(Object::Policy(policy.clone()).key()));
                if let PolicySpec::Rejected(why) = &policy.spec {
                    assert!(!why.is_empty() && why.len() <= 4_096, "{why}");
                } else {
                    printed_and_read(policy);
                }
            }
            Ok(other) => panic!("no policy: {other:?}"),
            Err(errors) => assert!(!errors.is_empty() && sent.key(kind).is_none(), "{errors:?}"),
        }
    }
});
