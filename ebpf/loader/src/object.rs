//! The embedded object: its programs, where each is pinned, and the loading of it.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapInfo, MapType},
    programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SkLookup, SockOps, links::FdLink},
};
use weir_ebpf_common::{Address, AgentCgroup, Config, Enrolled, Flow, LAYOUT, Note, Origin, OriginKey, Owner, Slot};

use crate::{Error, maps, sys};

/// `ebpf/redirect`, as `cargo xtask ebpf` built it.
static OBJECT: &[u8] = include_bytes_aligned!("weir-redirect.o");

/// The program attached to each pod's netns.
pub(crate) const SK_LOOKUP: &str = "weir_sk_lookup";

/// The programs attached to the root cgroup, in the order of attachment: who reads notes comes before who writes them.
pub(crate) const CGROUP_PROGRAMS: [&str; 5] =
    ["weir_sock_ops", "weir_getpeername4", "weir_getpeername6", "weir_connect4", "weir_connect6"];

/// A map as this version wants it.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
}

const fn layout<K, V>(name: &'static str, kind: MapType) -> Layout {
    Layout { name, kind, key: size_of::<K>(), value: size_of::<V>() }
}

/// Every map of the object.
static MAPS: &[Layout] = &[
    layout::<u32, Config>("CONFIG", MapType::Array),
    layout::<u64, Enrolled>("ENROLLED", MapType::Hash),
    layout::<Address, Owner>("OWN", MapType::Hash),
    layout::<Slot, u32>("LISTENERS", MapType::SockHash),
    layout::<OriginKey, Origin>("ORIGINS", MapType::LruHash),
    layout::<Flow, u32>("FLOWS", MapType::LruHash),
    layout::<u32, Note>("NOTES", MapType::SkStorage),
    layout::<u32, AgentCgroup>("AGENTS", MapType::Hash),
    layout::<u64, u32>("POD_CGROUPS", MapType::Hash),
    layout::<u32, u32>("HOST_PROCESSES", MapType::Hash),
    layout::<u32, u64>("COUNTERS", MapType::PerCpuArray),
];

/// The folders below the folder of pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    pub(crate) root: PathBuf,
}

impl Pins {
    /// Where maps are pinned.
    pub(crate) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the links to the root cgroup are pinned.
    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where the links to pods' netns are pinned, each named as the netns cookie.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, cookie: u64) -> PathBuf {
        self.pods().join(cookie.to_string())
    }

    /// The pinned map, if any, which this version cannot use.
    pub(crate) fn foreign_map(&self) -> Result<Option<&'static str>, Error> {
        for want in MAPS {
            let path = self.maps().join(want.name);
            if !path.exists() {
                continue;
            }
            let map = want.name;
            let found = MapInfo::from_pin(&path).map_err(|source| Error::Map { map, source })?;
            let kind = found.map_type().map_err(|source| Error::Map { map, source })?;
            let sizes = (usize::try_from(found.key_size()), usize::try_from(found.value_size()));
            if kind != want.kind || sizes != (Ok(want.key), Ok(want.value)) {
                return Ok(Some(map));
            }
            if map == "CONFIG" && !matches!(maps::pinned_layout(&path)?, LAYOUT | 0) {
                return Ok(Some(map));
            }
        }
        Ok(None)
    }

    /// Loads the object on the pinned maps; those which are not there yet are made and pinned.
    pub(crate) fn load(&self, max_flows: u32) -> Result<Ebpf, Error> {
        let mut loader = EbpfLoader::new();
        for map in MAPS {
            loader.map_pin_path(map.name, self.maps().join(map.name));
        }
        for map in ["FLOWS", "ORIGINS"] {
            loader.map_max_entries(map, max_flows);
        }
        let mut object = loader.load(OBJECT).map_err(|error| Error::Load(Box::new(error)))?;
        for name in CGROUP_PROGRAMS.into_iter().chain([SK_LOOKUP]) {
            let program = object.program_mut(name).ok_or(Error::NotInObject(name))?;
            load(program).map_err(|source| Error::Program { program: name, source: Box::new(source) })?;
        }
        Ok(object)
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    if let Ok(program) = <&mut CgroupSockAddr>::try_from(&mut *program) {
        return program.load();
    }
    if let Ok(program) = <&mut SockOps>::try_from(&mut *program) {
        return program.load();
    }
    <&mut SkLookup>::try_from(program)?.load()
}

/// Attaches the program `name` to a cgroup; the link lives as long as its fd, or its pin.
pub(crate) fn attach(object: &mut Ebpf, name: &'static str, cgroup: &File) -> Result<FdLink, Error> {
    // A link shares the cgroup with others by nature; asking for that is refused.
    let mode = CgroupAttachMode::Single;
    let failed = |source| Error::Program { program: name, source: Box::new(source) };
    let program = object.program_mut(name).ok_or(Error::NotInObject(name))?;
    let link = if let Ok(program) = <&mut SockOps>::try_from(&mut *program) {
        let id = program.attach(cgroup, mode).map_err(failed)?;
        program.take_link(id).map_err(failed)?.try_into()
    } else {
        let program = <&mut CgroupSockAddr>::try_from(program).map_err(failed)?;
        let id = program.attach(cgroup, mode).map_err(failed)?;
        program.take_link(id).map_err(failed)?.try_into()
    };
    link.map_err(|source| Error::Link { program: name, source })
}

/// Puts `program` in the pinned link at `path`, if that link is there and alive.
pub(crate) fn exchange(program: &Program, name: &'static str, path: &Path) -> Result<bool, Error> {
    let failed = |source| Error::Exchange { path: path.to_owned(), source };
    let link = match sys::open(path) {
        Ok(link) => link,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(failed(source)),
    };
    let fd = program.fd().map_err(|source| Error::Program { program: name, source: Box::new(source) })?;
    match sys::update(link, fd) {
        Ok(()) => Ok(true),
        // What it was attached to is gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(source) => Err(failed(source)),
    }
}
