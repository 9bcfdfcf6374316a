//! Roots that others publish in a file, a ConfigMap that is mounted for one: believed before anything they sign is seen.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Identities, error::causes};

/// How often the file of roots is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Most it may have, in bytes.
const MAX_ROOTS: u64 = 1 << 20;

/// Follows a file of roots: what it holds is believed from the next handshake on. That lets a root be believed before anything it signed
/// is seen.
pub async fn follow_roots(path: PathBuf, identities: Arc<Identities>, ended: impl Future<Output = ()>) {
    let mut ended = std::pin::pin!(ended);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut complaint) = (Vec::new(), String::new());
    loop {
        tokio::select! {
            () = &mut ended => return,
            _ = look.tick() => {}
        }
        match read(&path) {
            Ok(pem) if pem == before => {}
            Ok(pem) => {
                let roots: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                let taken = roots.map_err(|error| error.to_string()).and_then(|roots| match roots.is_empty() {
                    true => Err("it holds no certificate".to_owned()),
                    false => identities.set_roots(&roots).map_err(|error| causes(&error)),
                });
                match taken {
                    Ok(()) => tracing::info!(path = %path.display(), at = ?SystemTime::now(), "roots read"),
                    Err(reason) => tracing::error!(path = %path.display(), reason, "the roots stay as they were"),
                }
                before = pem;
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != complaint {
                    tracing::error!(path = %path.display(), reason, "the roots stay as they were");
                    complaint = reason;
                }
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_ROOTS).read_to_end(&mut bytes)?;
    Ok(bytes)
}
