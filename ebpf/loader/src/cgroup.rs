//! The cgroup v2 tree: its root, where programs are attached, and the agent's own place in it.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::Error;

/// The root of the cgroup v2 tree: the one named, or the first mount of it that is the root.
pub(crate) fn root(named: Option<&Path>) -> Result<PathBuf, Error> {
    let candidates = match named {
        Some(path) => vec![path.to_owned()],
        None => mounted()?,
    };
    let mut cgroups = candidates.into_iter().filter(|path| path.join("cgroup.procs").exists()).peekable();
    let first = cgroups.peek().cloned();
    let first = first.or_else(|| named.map(Path::to_owned)).ok_or(Error::NoCgroup2)?;
    // Only the root has no events of its own. A container sees its own cgroup mounted, and with luck the node's.
    cgroups.find(|path| !path.join("cgroup.events").exists()).ok_or(Error::NotRootCgroup(first))
}

/// Where cgroup v2 is mounted.
pub(crate) fn mounted() -> Result<Vec<PathBuf>, Error> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let mounts = fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    Ok(mount_points(&mounts))
}

/// Mount points of kind cgroup2 in the text of a mountinfo file. proc_pid_mountinfo(5).
fn mount_points(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next()? == "cgroup2").then_some(())?;
            Some(PathBuf::from(before.split(' ').nth(4)?))
        })
        .collect()
}

/// The agent's own cgroup, by its folder for pins: agents side by side have one each.
pub(crate) fn own(root: &Path, pin_dir: &Path) -> PathBuf {
    // FNV-1a, 64 bits.
    let hash = pin_dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    root.join(format!("weir-agent-{hash:016x}"))
}

/// Moves this process out of the root cgroup into its own, if it is there: in the root it could not be told from
/// the node's other processes.
pub(crate) fn leave_root(root: &Path, pin_dir: &Path) -> Result<(), Error> {
    let me = std::process::id().to_string();
    let procs = root.join("cgroup.procs");
    let members = fs::read_to_string(&procs).map_err(|source| Error::File { path: procs, source })?;
    if !members.lines().any(|pid| pid == me) {
        return Ok(());
    }
    let own = own(root, pin_dir);
    match fs::create_dir(&own) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(Error::File { path: own, source }),
        Ok(()) | Err(_) => {}
    }
    // 0 stands for the process that writes.
    let procs = own.join("cgroup.procs");
    fs::write(&procs, "0").map_err(|source| Error::File { path: procs, source })
}

/// Removes the agent's own cgroup, if it is there. Who is still in it goes back to the root.
pub(crate) fn remove_own(root: &Path, pin_dir: &Path) -> Result<bool, Error> {
    let own = own(root, pin_dir);
    let procs = own.join("cgroup.procs");
    let members = match fs::read_to_string(&procs) {
        Ok(members) => members,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::File { path: procs, source }),
    };
    let above = root.join("cgroup.procs");
    for pid in members.lines() {
        match fs::write(&above, pid) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(source) => return Err(Error::File { path: above, source }),
            Ok(()) => {}
        }
    }
    fs::remove_dir(&own).map_err(|source| Error::File { path: own, source })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_on_hybrid_and_on_unified_hosts() {
        let hybrid = "25 22 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            30 25 0:26 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
            31 25 0:27 / /sys/fs/cgroup/unified rw shared:10 master:1 - cgroup2 cgroup2 rw\n";
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        for (mounts, want) in
            [(hybrid, vec!["/sys/fs/cgroup/unified"]), (unified, vec!["/sys/fs/cgroup"]), ("", vec![])]
        {
            let want: Vec<_> = want.into_iter().map(PathBuf::from).collect();
            assert_eq!(mount_points(mounts), want);
        }
    }

    #[test]
    fn agents_with_different_pins_have_different_cgroups() {
        let root = Path::new("/r");
        let (one, two) = (own(root, Path::new("/sys/fs/bpf/a")), own(root, Path::new("/sys/fs/bpf/b")));
        assert_ne!(one, two);
        assert_eq!(one, own(root, Path::new("/sys/fs/bpf/a")));
        assert!(one.starts_with(root));
    }
}
