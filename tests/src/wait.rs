//! Waiting for something to become true.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Patience with one thing, on a machine that is busy with others.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until `met` says yes.
///
/// # Errors
/// When it did not within [`PATIENCE`]: with `what` was awaited and the last error.
pub fn eventually(what: &str, mut met: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = match met() {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if Instant::now() > deadline {
            match last {
                Some(error) => bail!("not in {PATIENCE:?}: {what}: {error:#}"),
                None => bail!("not in {PATIENCE:?}: {what}"),
            }
        }
        thread::sleep(LOOK_AGAIN);
    }
}
