//! Which processes of the node reach pods without the mesh: the kubelet must, to probe.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use weir_ebpf_loader::HostExemption;

/// How deep below the cgroup root `kubepods` may be: kind and systemd put it below a slice or two.
const DEPTH: usize = 4;

/// Where cgroups tell pods from the node, every process of the node outside `kubepods`; else those named, or nobody.
pub(crate) fn exemption(cgroup_root: Option<&Path>, processes: &[u32]) -> HostExemption {
    let root = cgroup_root.map(Path::to_owned).or_else(mounted_cgroup2);
    let mut found = Vec::new();
    if let Some(root) = root {
        search(&root, DEPTH, &mut found);
    }
    match (found.is_empty(), processes.is_empty()) {
        (false, _) => HostExemption::NotInPods(found),
        (true, false) => HostExemption::Processes(processes.to_vec()),
        (true, true) => HostExemption::Nobody,
    }
}

fn search(folder: &Path, depth: usize, found: &mut Vec<u64>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if !meta.is_dir() {
            continue;
        }
        if holds_pods(&entry.file_name().to_string_lossy()) {
            found.push(meta.ino());
        } else if depth > 1 {
            search(&entry.path(), depth - 1, found);
        }
    }
}

/// `kubepods`, or with systemd `kubepods.slice`; below a `--cgroup-root` of the kubelet systemd puts that one's name before.
fn holds_pods(name: &str) -> bool {
    name.starts_with("kubepods") || name.ends_with("-kubepods") || name.ends_with("-kubepods.slice")
}

fn mounted_cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubepods_wins_over_named_processes_and_nothing_exempts_nobody() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(exemption(Some(root.path()), &[]), HostExemption::Nobody);
        assert_eq!(exemption(Some(root.path()), &[7]), HostExemption::Processes(vec![7]));
        let deep = root.path().join("kubelet.slice/kubelet-kubepods.slice");
        fs::create_dir_all(deep.join("kubelet-kubepods-pod1.slice")).unwrap();
        let id = fs::metadata(&deep).unwrap().ino();
        assert_eq!(exemption(Some(root.path()), &[7]), HostExemption::NotInPods(vec![id]));
    }

    #[test]
    fn what_holds_pods_is_known_by_its_name() {
        for (name, holds) in [
            ("kubepods", true),
            ("kubepods.slice", true),
            ("kubelet-kubepods.slice", true),
            ("own-kubepods.slice", true),
            ("kubelet.slice", false),
            ("system.slice", false),
            ("kubelet.service", false),
        ] {
            assert_eq!(holds_pods(name), holds, "{name}");
        }
    }
}
