//! Cgroups as kubelets and runtimes write them, and a tree of files that stands for `/proc`.

use super::*;

const UID: &str = "7a1b7f2e-0c4d-4000-8000-00000000000a";
const LINED: &str = "7a1b7f2e_0c4d_4000_8000_00000000000a";
const OTHER: &str = "7a1b7f2e-0c4d-4000-8000-00000000000b";

#[test]
fn a_pod_is_found_in_each_form_of_its_cgroup_and_nobody_else_is() {
    let ours = [
        format!("/kubepods/burstable/pod{UID}/0123456789abcdef"),
        format!("/kubepods/besteffort/pod{UID}/0123456789abcdef/init"),
        format!("/kubepods/pod{UID}/0123456789abcdef"),
        format!("/kubepods/pod{UID}"),
        format!("/kubelet/kubepods/burstable/pod{UID}/x"),
        format!("/kubepods.slice/kubepods-pod{LINED}.slice/cri-containerd-01.scope"),
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{LINED}.slice/crio-01.scope"),
        format!(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod{LINED}.slice/cri-containerd-01.scope"
        ),
        format!("/docker/0a1b/kubepods/burstable/pod{UID}/x"),
        // As an agent in a cgroup namespace of its own sees it.
        format!("/../../pod{UID}/x"),
        format!("/../../../besteffort/pod{UID}/x"),
        format!("/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{LINED}.slice/cri-containerd-01.scope"),
        format!("/../../kubepods-burstable-pod{LINED}.slice/cri-containerd-01.scope"),
        // What a pod makes below its own cgroup changes nothing.
        format!("/kubepods/pod{UID}/x/kubepods/pod{OTHER}/x"),
        format!("/../../pod{UID}/x/pod{OTHER}/x"),
    ];
    for path in ours {
        assert_eq!(pod_of(&format!("0::{path}\n")).as_deref(), Some(UID), "{path}");
    }
    let nobody = [
        "/".to_owned(),
        "/init.scope".to_owned(),
        "/kubepods".to_owned(),
        "/kubepods.slice/kubepods-burstable.slice".to_owned(),
        format!("/user.slice/pod{UID}/x"),
        format!("/system.slice/kubepods-pod{LINED}.slice/x"),
        format!("/pod{UID}/x"),
        format!("/../pod{UID}/x"),
        format!("/kubepods/guaranteed/pod{UID}/x"),
        format!("/kubepods/burstable/besteffort/pod{UID}/x"),
        format!("/a/b/c/d/kubepods/pod{UID}/x"),
        format!("/mykubepods/pod{UID}/x"),
        format!("/kubepods/pod{UID}a/x"),
        format!("/kubepods/pod{}/x", UID.to_uppercase()),
        format!("/kubepods/pod{LINED}/x"),
        format!("/kubepods.slice/kubepods-pod{UID}.slice/x"),
        format!("/kubepods.slice/kubepods-special-pod{LINED}.slice/x"),
        format!("/kubepods.slice/x-pod{LINED}.slice/x"),
        "/kubepods/pod0123456789abcdef0123456789abcdef/x".to_owned(),
        format!("kubepods/pod{UID}/x"),
        format!("/../kubepods/../kubepods/pod{UID}/x"),
    ];
    for path in nobody {
        assert_eq!(pod_of(&format!("0::{path}\n")), None, "{path}");
    }
}

#[test]
fn hierarchies_that_name_different_pods_name_none() {
    let line = |number: u8, uid: &str| format!("{number}:cpu,cpuacct:/kubepods/burstable/pod{uid}/x\n");
    assert_eq!(pod_of(&(line(2, UID) + &line(1, UID) + "0::/\n")).as_deref(), Some(UID));
    assert_eq!(pod_of(&(line(2, UID) + &line(1, OTHER))), None);
    for bad in ["", "0\n", "0:/kubepods\n", "garbage"] {
        assert_eq!(pod_of(bad), None, "{bad:?}");
    }
}

#[test]
fn the_name_of_a_program_does_not_move_the_fields_after_it() {
    let fields = "S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
    for name in ["(sleep)", "(a) b)", "() S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0)"] {
        assert_eq!(began(&format!("7 {name} {fields}")), Some(4711), "{name}");
    }
    for bad in ["", "7 (sleep", "7 (sleep) S 1"] {
        assert_eq!(began(bad), None, "{bad:?}");
    }
}

struct Proc(tempfile::TempDir);

impl Proc {
    fn new() -> Self {
        let proc = Self(tempfile::tempdir().unwrap());
        proc.add(1, "node", "0::/init.scope\n", 1);
        proc
    }

    /// A process; namespaces of one name are one.
    fn add(&self, process: u32, netns: &str, cgroups: &str, began: u64) {
        let at = self.0.path().join(process.to_string());
        fs::create_dir_all(at.join("ns")).unwrap();
        let namespace = self.0.path().join(netns);
        fs::write(&namespace, "").unwrap();
        std::os::unix::fs::symlink(&namespace, at.join("ns/net")).unwrap();
        fs::write(at.join("cgroup"), cgroups).unwrap();
        let stat = format!("{process} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {began} 0 0");
        fs::write(at.join("stat"), stat).unwrap();
    }

    fn candidates(&self, uid: &str) -> Vec<u32> {
        let own = own(self.0.path()).unwrap();
        let wanted = Wanted {
            uid: "Kubernetes//v1/Pod/shop/web".parse().unwrap(),
            incarnation: uid.into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
        };
        let mut all = candidates(self.0.path(), &own, &[wanted]);
        all.remove(uid).unwrap_or_default().iter().map(|candidate| candidate.process).collect()
    }
}

#[test]
fn the_oldest_process_of_each_namespace_speaks_for_it_and_the_node_s_own_is_no_pod_s() {
    let proc = Proc::new();
    let of = |uid: &str| format!("0::/kubepods/pod{uid}/x\n");
    proc.add(20, "pod", &of(UID), 300);
    proc.add(21, "pod", &of(UID), 200);
    proc.add(22, "made-by-the-pod", &of(UID), 250);
    proc.add(23, "node", &of(UID), 100);
    proc.add(24, "other", &of(OTHER), 50);
    proc.add(25, "third", "0::/system.slice/x.service\n", 10);
    fs::create_dir(proc.0.path().join("26")).unwrap();
    assert_eq!(proc.candidates(UID), [21, 22]);
    assert_eq!(proc.candidates(OTHER), [24]);
    assert_eq!(proc.candidates("7a1b7f2e-0c4d-4000-8000-00000000000c"), [0_u32; 0]);
}

#[test]
fn a_pod_that_makes_many_namespaces_costs_no_more_than_a_few() {
    let proc = Proc::new();
    for process in 100..160 {
        proc.add(process, &format!("made{process}"), &format!("0::/kubepods/pod{UID}/x\n"), u64::from(process));
    }
    let tried = proc.candidates(UID);
    assert_eq!((tried.len(), tried[0]), (TRIED, 100));
}

#[test]
fn without_the_node_s_own_namespace_nobody_is_looked_for() {
    let proc = Proc::new();
    fs::remove_dir_all(proc.0.path().join("1")).unwrap();
    assert!(own(proc.0.path()).is_err());
    assert!(scan(proc.0.path(), &[]).is_empty());
}
