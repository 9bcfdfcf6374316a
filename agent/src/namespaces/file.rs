//! What the CNI plugin said, in a file beside its socket: a restarted agent still knows it, a restarted machine does not.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weir_model::{NameError, WorkloadUid, canonical_ip};

use super::{Added, PODS};

/// The largest file, in bytes.
const BOUND: u64 = 4 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not what an agent writes")]
    Shape {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} names a workload that cannot be")]
    Name {
        path: PathBuf,
        #[source]
        source: NameError,
    },
    #[error("{path} has more than {PODS} pods")]
    TooMany { path: PathBuf },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    pods: Vec<RawPod>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPod {
    workload: String,
    pod_uid: String,
    netns: PathBuf,
    ips: Vec<IpAddr>,
}

/// What is written there; nothing if there is no file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<WorkloadUid, Added>, FileError> {
    let failed = |source| FileError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        opened => opened.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(BOUND).read_to_end(&mut text).map_err(failed)?;
    let raw: RawFile =
        serde_json::from_slice(&text).map_err(|source| FileError::Shape { path: path.to_owned(), source })?;
    if raw.pods.len() > PODS {
        return Err(FileError::TooMany { path: path.to_owned() });
    }
    let pod = |raw: RawPod| {
        let addresses = raw.ips.into_iter().map(canonical_ip).collect();
        let added = Added { incarnation: raw.pod_uid.into(), netns: raw.netns, addresses };
        raw.workload.parse().map(|uid| (uid, added)).map_err(|source| FileError::Name { path: path.to_owned(), source })
    };
    raw.pods.into_iter().map(pod).collect()
}

/// Replaces the file at once. It is for the next agent on this machine as it runs: what a power cut takes, it takes with the pods.
pub(super) fn write(path: &Path, added: &BTreeMap<WorkloadUid, Added>) -> Result<(), FileError> {
    let raw = |(uid, added): (&WorkloadUid, &Added)| RawPod {
        workload: uid.to_string(),
        pod_uid: added.incarnation.to_string(),
        netns: added.netns.clone(),
        ips: added.addresses.clone(),
    };
    let file = RawFile { pods: added.iter().map(raw).collect() };
    let text = serde_json::to_vec(&file).map_err(|source| FileError::Shape { path: path.to_owned(), source })?;
    let new = path.with_added_extension("new");
    let replace = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        fs::rename(&new, path)
    };
    replace().map_err(|source| FileError::File { path: path.to_owned(), source })
}
