//! Taking away what a run left behind: at its end, after its death, or later.
//!
//! Every run has a prefix that names its process and when that started. A shell, in a session of its own, waits for the run's end
//! in whatever way that comes, and removes the run's namespaces, pins and files. [`sweep`] finds what even that shell could not remove.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

/// Where named namespaces are. ip-netns(8).
pub(crate) const NETNS_DIR: &str = "/run/netns";
/// Where eBPF objects are pinned.
pub(crate) const BPF_DIR: &str = "/sys/fs/bpf";
/// Where manifests and logs of runs are.
const WORK_DIR: &str = "/run";
/// First part of every name.
const FAMILY: &str = "wt";

/// Waits for the end of its input, then removes all of one prefix. Only programs that every Debian has.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for netns in "$1"-*; do umount -l "$netns" 2>/dev/null; rm -f "$netns"; done
rm -rf "$2" "$3"-*
"#;

/// A run's name and the shell that cleans up after it.
#[derive(Debug)]
pub(crate) struct Run {
    prefix: String,
    janitor: Child,
}

impl Run {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let pid = std::process::id();
        let started = start_time(pid).context("no /proc/self/stat")?;
        let prefix = format!("{FAMILY}-{pid}-{started}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let work_dir = Path::new(WORK_DIR).join(&prefix);
        fs::create_dir_all(&work_dir).with_context(|| format!("create {}", work_dir.display()))?;
        let janitor = Command::new("/bin/sh")
            .args(["-c", JANITOR, "weir-testbed-janitor"])
            .arg(Path::new(NETNS_DIR).join(&prefix))
            .arg(&work_dir)
            .arg(Path::new(BPF_DIR).join(&prefix))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start /bin/sh")?;
        Ok(Self { prefix, janitor })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        Path::new(WORK_DIR).join(&self.prefix)
    }

    pub(crate) fn netns_path(&self, name: &str) -> PathBuf {
        Path::new(NETNS_DIR).join(format!("{}-{name}", self.prefix))
    }

    pub(crate) fn bpf_path(&self, name: &str) -> PathBuf {
        Path::new(BPF_DIR).join(format!("{}-{name}", self.prefix))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Closing its input is the sign to begin.
        drop(self.janitor.stdin.take());
        if let Err(error) = self.janitor.wait() {
            eprintln!("nobody cleaned up {}: {error}", self.prefix);
        }
    }
}

/// Removes what runs that are dead left behind, and returns what that was.
///
/// # Errors
/// When something is there and cannot be removed.
pub fn sweep() -> anyhow::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for dir in [NETNS_DIR, WORK_DIR, BPF_DIR] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            if !is_of_a_dead_run(&path) {
                continue;
            }
            if dir == NETNS_DIR {
                weir_netlink::NetNs::delete(&path)?;
            } else {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
            removed.push(path);
        }
    }
    Ok(removed)
}

fn is_of_a_dead_run(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.split('-');
    let (family, pid, started) = (parts.next(), parts.next(), parts.next());
    let (Some(FAMILY), Some(Ok(pid)), Some(Ok(started))) = (family, pid.map(str::parse), started.map(str::parse))
    else {
        return false;
    };
    start_time(pid) != Some(started)
}

/// When a process started, in clock ticks since boot; none when there is no such process. proc(5), field 22 of stat.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may have spaces and brackets in it: count from its last bracket.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
