//! Takes out of the kernel what an agent put in and left there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, cgroup, object::Pins, sys};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links: one for each program on the root cgroup, and one for each pod.
    pub links: usize,
    /// Pinned maps.
    pub maps: usize,
    /// Cgroups an agent had made for itself.
    pub cgroups: usize,
}

/// Detaches and unpins everything below `pin_dir` and removes the agent's own cgroup. Pods that were enrolled
/// are out of the mesh afterwards. Removes what there is, also after a cleanup that was cut short.
///
/// # Errors
/// [`Error::File`] when something cannot be removed; what is left can be removed by trying again.
pub fn cleanup(pin_dir: &Path) -> Result<Removed, Error> {
    let pins = Pins { root: pin_dir.to_owned() };
    // Pods first stop being sent to listeners, then stop being reached through them.
    let links = remove_links(&pins.links())? + remove_links(&pins.pods())?;
    let maps = files(&pins.maps())?;
    for map in &maps {
        fs::remove_file(map).map_err(|source| Error::File { path: map.clone(), source })?;
    }
    for folder in [pins.links(), pins.pods(), pins.maps(), pins.root] {
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path: folder, source }),
            Ok(()) => {}
        }
    }
    let mut cgroups = 0;
    for root in cgroup::mounted()? {
        cgroups += usize::from(cgroup::remove_own(&root, pin_dir)?);
    }
    Ok(Removed { links, maps: maps.len(), cgroups })
}

/// Detaches and unpins all links in `folder`.
fn remove_links(folder: &Path) -> Result<usize, Error> {
    let links = files(folder)?;
    for link in &links {
        remove_link(link)?;
    }
    Ok(links.len())
}

/// Detaches and unpins a link, if it is there.
pub(crate) fn remove_link(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    match sys::open(path) {
        Ok(link) => sys::detach(link).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    }
    fs::remove_file(path).map_err(failed)
}

/// The files in `folder`; none when there is no such folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}
