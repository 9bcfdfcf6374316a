//! `weir-agent cleanup`: takes out of the kernel all that the agents of one folder of pins put in.

use std::{os::fd::AsFd, path::Path};

use anyhow::Context;

use crate::{pod::ROUTING, routed::Routed, run::settings_in};

/// Takes the routing out of every pod that has it, then detaches and unpins everything below `bpf_dir`. Pods are found in `proc`.
pub(crate) fn run(bpf_dir: &Path, proc: &Path) -> anyhow::Result<()> {
    settings_in(proc);
    let routed = Routed::new(bpf_dir, proc);
    let cookies = routed.all().context("reading which pods have our routing")?;
    for netns in routed.find(&cookies) {
        let fd = netns.as_fd().try_clone_to_owned().context("opening a network namespace")?;
        ROUTING
            .remove(&weir_netlink::NetNs::from_fd(fd))
            .with_context(|| format!("taking the routing out of {}", netns.path().display()))?;
    }
    for cookie in &cookies {
        routed.forget(*cookie).context("forgetting a pod")?;
    }
    routed.close().context("removing the notes")?;
    let removed = weir_ebpf_loader::cleanup(bpf_dir).context("taking the programs out")?;
    println!(
        "removed {} links, {} maps, {} cgroups, the routing of {} pods",
        removed.links,
        removed.maps,
        removed.cgroups,
        cookies.len()
    );
    Ok(())
}
