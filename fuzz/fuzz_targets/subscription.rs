//! What a subscriber says: whatever the bytes, it is answered or its stream ended, and no answer holds more than the mesh.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weir_world::Delta;
use weir_xds::{Address, Store, rehearse};

/// A small mesh, out of the seeds of the other target.
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let store = Store::new();
    let mut delta = Delta::default();
    let seeds: [(&str, &[u8]); 2] = [
        ("Kubernetes//v1/Pod/default/web", include_bytes!("../seeds/address/workload")),
        ("default/shop.default.svc.cluster.local", include_bytes!("../seeds/address/service")),
    ];
    for (name, bytes) in seeds {
        match Address::decode(name, bytes).expect("a seed that is read") {
            Address::Workload(workload) => delta.workloads.push((workload.uid.clone(), Some(*workload))),
            Address::Service(service) => delta.services.push((service.name.clone(), Some(*service))),
        }
    }
    store.apply(&delta);
    store
});

fuzz_target!(|bytes: &[u8]| {
    let node = "node-1".parse().expect("a node");
    // Each request begins with its length.
    let mut requests = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (request, after) = after.split_at(usize::from(*length).min(after.len()));
        requests.push(request);
        rest = after;
    }
    if let Ok(responses) = rehearse(&STORE, Some(&node), &requests, 200) {
        assert!(responses.len() <= requests.len());
        // A resource, or names that were asked for: both are bounded by what there is.
        assert!(responses.iter().all(|response| response.len() <= 4096 + bytes.len()), "{requests:?}");
    }
});
