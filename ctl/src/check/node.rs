//! This very node: its kernel, its cgroups, its network plugins. What only the kernel itself can say, such as single helper functions, the agent asks
//! when it starts, and names what is missing.

use std::{fs, io, path::Path};

use super::Finding;

/// The oldest Linux that has all that the programs of the agent need, as its loader names it: netns cookies in `sock_ops`.
pub(super) const KERNEL: (u32, u32) = (5, 15);
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Plugins of other meshes in the chain of a runtime, by their type.
const MESHES: [(&str, &str); 4] =
    [("istio-cni", "Istio"), ("linkerd-cni", "Linkerd"), ("kuma-cni", "Kuma"), ("cilium-cni", "Cilium")];

/// Looks at the node whose root is there.
pub(super) fn look(root: &Path) -> Vec<Finding> {
    let mut findings = vec![
        kernel(read(&root.join("proc/sys/kernel/osrelease")).as_deref().unwrap_or_default().trim()),
        mounts(read(&root.join("proc/self/mounts")).as_deref().unwrap_or_default()),
        bpffs(read(&root.join("proc/self/mounts")).as_deref().unwrap_or_default()),
        btf(root.join("sys/kernel/btf/vmlinux").exists()),
        ipv6(root.join("proc/sys/net/ipv6").exists()),
    ];
    findings.extend(plugins(&root.join("etc/cni/net.d")));
    findings
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The first two numbers of a kernel's release.
pub(super) fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether a kernel of that release will do.
pub(super) fn kernel(text: &str) -> Finding {
    let (major, minor) = KERNEL;
    match release(text) {
        Some(known) if known >= KERNEL => Finding::good("kernel", format!("Linux {text}")),
        Some(_) => {
            Finding::bad("kernel", format!("Linux {text}"), format!("the agent needs Linux {major}.{minor} or later"))
        }
        None => Finding::doubtful(
            "kernel",
            format!("{text:?} is no release of Linux"),
            "look at /proc/sys/kernel/osrelease",
        ),
    }
}

fn mounts(text: &str) -> Finding {
    let cgroup2 = text.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then_some(at)
    });
    match cgroup2 {
        Some(at) => Finding::good("cgroup v2", format!("mounted at {at}")),
        None => Finding::bad(
            "cgroup v2",
            "not mounted",
            "programs that catch connections are attached to the cgroup v2 tree: boot with systemd.unified_cgroup_hierarchy=1, or mount it",
        ),
    }
}

fn bpffs(text: &str) -> Finding {
    match text.lines().any(|line| line.split(' ').nth(2) == Some("bpf")) {
        true => Finding::good("bpffs", "mounted"),
        false => Finding::doubtful(
            "bpffs",
            "not mounted",
            "the agent mounts it at /sys/fs/bpf itself; in a container it needs the node's",
        ),
    }
}

fn btf(there: bool) -> Finding {
    match there {
        true => Finding::good("BTF", "/sys/kernel/btf/vmlinux"),
        false => Finding::doubtful("BTF", "none", "the agent runs without; tools that look at its programs say less"),
    }
}

fn ipv6(there: bool) -> Finding {
    match there {
        true => Finding::good("IPv6", "there"),
        false => Finding::doubtful("IPv6", "none", "pods are then caught over IPv4 only"),
    }
}

/// What runtimes run for each pod.
fn plugins(folder: &Path) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(folder) else {
        let next = "without a network plugin pods have no network; is this the node itself, and not a container on it?";
        return vec![Finding::doubtful("network plugins", format!("no {}", folder.display()), next)];
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "conf" || kind == "conflist"));
    files.sort();
    let Some(first) = files.first() else {
        return vec![Finding::bad(
            "network plugins",
            "none is configured",
            "install one first; weir-cni goes behind it",
        )];
    };
    let text = read(first).unwrap_or_default();
    let types = types(&text);
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut findings = vec![match types.iter().any(|one| one == "weir-cni") {
        true => Finding::good("network plugins", format!("{name}: {}", types.join(", "))),
        false => Finding::doubtful(
            "network plugins",
            format!("{name}: {}", types.join(", ")),
            "weir-cni is not among them: the agent puts it there, and until then pods start before they are caught",
        ),
    }];
    for (plugin, mesh) in MESHES.iter().filter(|(plugin, _)| types.iter().any(|one| one == plugin)) {
        findings.push(match *mesh {
            "Cilium" => Finding::doubtful("Cilium", *plugin, "set cni.exclusive=false and socketLB.hostNamespaceOnly=true: else it takes other plugins out, and translates addresses before the agent sees them"),
            _ => Finding::bad(*mesh, format!("{plugin} is in the chain"), "two meshes catch the same connections: take one off the nodes"),
        });
    }
    findings
}

/// The types of the plugins in a configuration.
fn types(text: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let one = |value: &serde_json::Value| value["type"].as_str().map(str::to_owned);
    match value["plugins"].as_array() {
        Some(all) => all.iter().filter_map(one).collect(),
        None => one(&value).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::State;

    #[test]
    fn a_kernel_will_do_from_the_release_on_that_has_everything() {
        for (text, want) in [
            ("5.15.0-91-generic", State::Good),
            ("6.1", State::Good),
            ("10.0.1", State::Good),
            ("5.14.21", State::Bad),
            ("4.19.0", State::Bad),
            ("", State::Doubtful),
            ("windows", State::Doubtful),
        ] {
            assert_eq!(kernel(text).state, want, "{text}");
        }
    }

    #[test]
    fn a_node_is_looked_at_through_its_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let states = || {
            let findings = look(root.path());
            findings.iter().map(|one| (one.what.clone(), one.state)).collect::<Vec<_>>()
        };
        let bare = states();
        assert!(bare.contains(&("cgroup v2".to_owned(), State::Bad)), "{bare:?}");
        put("proc/sys/kernel/osrelease", "6.1.0\n");
        put("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n");
        put("sys/kernel/btf/vmlinux", "");
        put("proc/sys/net/ipv6/x", "");
        put("etc/cni/net.d/10-a.conflist", r#"{"plugins": [{"type": "bridge"}, {"type": "weir-cni"}]}"#);
        put("etc/cni/net.d/20-b.conflist", r#"{"plugins": [{"type": "istio-cni"}]}"#);
        let good = states();
        assert!(good.iter().all(|(_, state)| *state == State::Good), "{good:?}");
        put("etc/cni/net.d/05-c.conflist", r#"{"plugins": [{"type": "bridge"}, {"type": "istio-cni"}]}"#);
        assert!(states().contains(&("Istio".to_owned(), State::Bad)));
        put("etc/cni/net.d/04-d.conf", r#"{"type": "cilium-cni"}"#);
        assert!(states().contains(&("Cilium".to_owned(), State::Doubtful)));
    }
}
