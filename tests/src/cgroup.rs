//! Cgroups of pods, as a kubelet makes them.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use weir_testbed::{Process, Topology};

use crate::wait::eventually;

/// The cgroup of a pod, as a kubelet with `--cgroup-root` and the systemd driver makes it.
#[derive(Debug)]
pub struct Cgroup {
    /// The container's.
    at: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Errors
    /// When there is no cgroup v2 tree, or it cannot be written.
    pub fn new(topology: &Topology, uid: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        });
        let mut at = root.context("a cgroup v2 tree")?;
        let (root, uid) = (topology.prefix().replace('-', ""), uid.replace('-', "_"));
        let mut made = Vec::new();
        for name in [
            format!("{root}.slice"),
            format!("{root}-kubepods.slice"),
            format!("{root}-kubepods-burstable.slice"),
            format!("{root}-kubepods-burstable-pod{uid}.slice"),
            "cri-containerd-0123456789abcdef.scope".to_owned(),
        ] {
            at.push(name);
            match fs::create_dir(&at) {
                Ok(()) => made.push(at.clone()),
                // Another pod's, which must outlive this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| at.display().to_string()),
            }
        }
        Ok(Self { at, made })
    }

    /// The file that takes processes in, each by its id.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.at.join("cgroup.procs")
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, process: &Process) -> anyhow::Result<()> {
        Ok(fs::write(self.procs(), process.pid().to_string())?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // A process that was just killed may still be in it.
            let removed = eventually("the cgroup is empty", || Ok(fs::remove_dir(path).map(|()| true)?));
            if let Err(error) = removed {
                eprintln!("{error:#}");
            }
        }
    }
}
