//! What the node must offer: capabilities, a kernel with the features, bpffs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_program_supported},
};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::Error;

/// Where bpffs belongs. Linux `Documentation/bpf`.
const BPFFS: &str = "/sys/fs/bpf";

// Numbers of capabilities. Linux `include/uapi/linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Helper functions the programs need: the kind of program, the function, what for, and since when.
const HELPERS: &[(ProgramType, BpfHelper, &str, &str)] = &[
    (ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_netns_cookie, "netns cookies at connect", "5.7"),
    (ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id, "cgroup ids at connect", "5.7"),
    (ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_sk_storage_get, "socket storage at connect", "5.8"),
    (ProgramType::SockOps, BpfHelper::BPF_FUNC_sk_storage_get, "socket storage in sock_ops", "5.8"),
    (ProgramType::SockOps, BpfHelper::BPF_FUNC_get_netns_cookie, "netns cookies in sock_ops", "5.15"),
];

/// Checks what can be checked before anything is loaded.
pub(crate) fn check() -> Result<(), Error> {
    judge(capabilities()?, is_program_supported, is_helper_supported)
}

/// What is missing first, given the capabilities held and what the kernel says of programs and helper functions.
fn judge(
    held: u64,
    program_is_supported: impl Fn(ProgramType) -> Result<bool, ProgramError>,
    helper_is_supported: impl Fn(ProgramType, BpfHelper) -> Result<bool, ProgramError>,
) -> Result<(), Error> {
    let has = |number: u32| held >> number & 1 == 1;
    if !has(CAP_NET_ADMIN) {
        return Err(Error::Capability("CAP_NET_ADMIN"));
    }
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        return Err(Error::Capability("CAP_BPF"));
    }
    let (feature, since) = ("sk_lookup programs", "5.9");
    match program_is_supported(ProgramType::SkLookup) {
        Ok(true) => {}
        Ok(false) => return Err(Error::Kernel { feature, since }),
        Err(source) => return Err(Error::Probe { feature, source }),
    }
    for &(program, helper, feature, since) in HELPERS {
        match helper_is_supported(program, helper) {
            Ok(true) => {}
            Ok(false) => return Err(Error::Kernel { feature, since }),
            Err(source) => return Err(Error::Probe { feature, source }),
        }
    }
    Ok(())
}

/// The effective capabilities, a bit each.
fn capabilities() -> Result<u64, Error> {
    let path = PathBuf::from("/proc/self/status");
    let status = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .ok_or(Error::File { path, source: io::ErrorKind::InvalidData.into() })
}

/// Makes sure that `pin_dir` is, or can be made, on bpffs, and that it and its folders exist.
pub(crate) fn make_pin_dir(pin_dir: &Path, folders: &[PathBuf]) -> Result<(), Error> {
    if !is_on_bpffs(pin_dir)? {
        if !pin_dir.starts_with(BPFFS) {
            return Err(Error::NotBpffs(pin_dir.to_owned()));
        }
        let nothing: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), nothing)
            .map_err(|errno| Error::Mount { path: BPFFS.into(), source: errno.into() })?;
        tracing::info!(path = BPFFS, "mounted bpffs");
    }
    for folder in folders {
        fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    }
    Ok(())
}

/// Is `path`, or the nearest folder above it that exists, on bpffs?
pub(crate) fn is_on_bpffs(path: &Path) -> Result<bool, Error> {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(existing).map_err(|errno| Error::File { path: existing.to_owned(), source: errno.into() })?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = u64::MAX;

    #[test]
    fn a_kernel_with_everything_will_do() {
        judge(ALL, |_| Ok(true), |_, _| Ok(true)).unwrap();
    }

    #[test]
    fn what_the_kernel_lacks_is_named_with_the_version_that_has_it() {
        let said = |result: Result<(), Error>| result.unwrap_err().to_string();
        let old = said(judge(ALL, |_| Ok(false), |_, _| Ok(true)));
        assert!(old.contains("sk_lookup programs") && old.contains("5.9"), "{old}");
        for (number, &(_, _, feature, since)) in HELPERS.iter().enumerate() {
            let asked = std::cell::Cell::new(0);
            let all_but_one = |_, _| Ok(asked.replace(asked.get() + 1) != number);
            let old = said(judge(ALL, |_| Ok(true), all_but_one));
            assert!(old.contains(feature) && old.contains(since), "{feature}: {old}");
        }
    }

    #[test]
    fn a_capability_that_is_not_held_is_named() {
        for (held, missing) in [
            (0, Some("CAP_NET_ADMIN")),
            (1 << CAP_NET_ADMIN, Some("CAP_BPF")),
            (1 << CAP_NET_ADMIN | 1 << CAP_BPF, None),
            (1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN, None),
        ] {
            let result = judge(held, |_| Ok(true), |_, _| Ok(true));
            match missing {
                Some(name) => assert!(result.unwrap_err().to_string().contains(name), "{held:b}"),
                None => result.unwrap(),
            }
        }
    }
}
