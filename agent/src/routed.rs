//! Which pods have our routing, noted where it outlives the agent: an empty folder per namespace cookie beside the pins. Only
//! what is noted there is ever taken out, so that two agents on one kernel never touch each other's pods.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use weir_net::Netns;

/// The notes of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Routed {
    folder: PathBuf,
    /// Where processes are.
    proc: PathBuf,
}

impl Routed {
    /// The notes beside the pins in `bpf_dir`. Namespaces are looked for in `proc`.
    pub(crate) fn new(bpf_dir: &Path, proc: &Path) -> Self {
        Self { folder: bpf_dir.join("routed"), proc: proc.to_owned() }
    }

    /// Notes a pod before its routing is put in.
    pub(crate) fn note(&self, cookie: u64) -> io::Result<()> {
        fs::create_dir_all(self.folder.join(cookie.to_string()))
    }

    /// Forgets a pod after its routing was taken out.
    pub(crate) fn forget(&self, cookie: u64) -> io::Result<()> {
        ignore_absent(fs::remove_dir(self.folder.join(cookie.to_string())))
    }

    /// Every pod that was noted.
    pub(crate) fn all(&self) -> io::Result<HashSet<u64>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries
                .map(|e| Ok(e?.file_name().to_str().and_then(|name| name.parse().ok())))
                .filter_map(Result::transpose)
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(error),
        }
    }

    /// Removes the folder of the notes, when all is forgotten.
    pub(crate) fn close(&self) -> io::Result<()> {
        ignore_absent(fs::remove_dir(&self.folder))
    }

    /// The network namespaces with these cookies, among all that a process is in or that are mounted somewhere. One that is not
    /// found is gone, and its routing with it.
    pub(crate) fn find(&self, cookies: &HashSet<u64>) -> Vec<Netns> {
        if cookies.is_empty() {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for path in paths(&self.proc) {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            found.extend(Netns::open(&path).ok().filter(|netns| cookies.contains(&netns.cookie())));
        }
        found
    }
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn paths(proc: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") {
        paths.extend(mounts.lines().filter_map(mounted_namespace));
    }
    if let Ok(processes) = fs::read_dir(proc) {
        let numbered = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
        paths.extend(
            processes
                .flatten()
                .filter(|entry| numbered(&entry.file_name().to_string_lossy()))
                .map(|entry| entry.path().join("ns/net")),
        );
    }
    paths
}

/// The mount point of a line of mountinfo that mounts a network namespace. proc_pid_mountinfo(5).
fn mounted_namespace(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (after.starts_with("nsfs ") && root.starts_with("net:")).then(|| PathBuf::from(point.replace("\\040", " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_namespace_is_found_in_mountinfo() {
        let line = "91 25 0:4 net:[4026532177] /run/netns/my\\040pod rw shared:49 - nsfs nsfs rw";
        assert_eq!(mounted_namespace(line), Some(PathBuf::from("/run/netns/my pod")));
        let other = "91 25 0:4 mnt:[4026532177] /run/x rw - nsfs nsfs rw";
        assert_eq!(mounted_namespace(other), None);
        assert_eq!(mounted_namespace("36 35 98:0 / /mnt rw - ext4 /dev/root rw"), None);
    }

    #[test]
    fn what_is_noted_is_known_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let routed = Routed::new(folder.path(), Path::new("/proc"));
        assert!(routed.all().unwrap().is_empty());
        routed.note(7).unwrap();
        routed.note(7).unwrap();
        routed.note(8).unwrap();
        assert_eq!(routed.all().unwrap(), HashSet::from([7, 8]));
        routed.forget(7).unwrap();
        routed.forget(7).unwrap();
        assert_eq!(Routed::new(folder.path(), Path::new("/proc")).all().unwrap(), HashSet::from([8]));
        routed.forget(8).unwrap();
        routed.close().unwrap();
        routed.close().unwrap();
    }
}
