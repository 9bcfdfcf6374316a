//! Waiting that ends: work goes to a thread of its own, and is left behind when its time is over.

use std::{
    io::Read,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::error::Error;

/// The largest configuration, in bytes. Those of real clusters have a few thousand, most of it the result of the plugin before.
pub(crate) const INPUT_BOUND: u64 = 1 << 20;
/// How long the runtime may take to write it.
const INPUT: Duration = Duration::from_secs(20);

/// The whole of `input`.
pub(crate) fn read(input: impl Read + Send + 'static) -> Result<Vec<u8>, Error> {
    within("the configuration", Instant::now() + INPUT, move || {
        let mut text = Vec::new();
        let read = input.take(INPUT_BOUND + 1).read_to_end(&mut text).map_err(Error::Input)?;
        if u64::try_from(read).is_ok_and(|read| read <= INPUT_BOUND) {
            Ok(text)
        } else {
            Err(Error::TooLong(INPUT_BOUND))
        }
    })
}

/// What `work` answers, or [`Error::Late`]. A thread that is late lives until the process ends, which is soon.
pub(crate) fn within<T: Send + 'static>(
    what: &'static str,
    by: Instant,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let after = by.saturating_duration_since(Instant::now());
    let started = thread::Builder::new().spawn(move || {
        // Nobody waits any more: nothing to tell.
        drop(sender.send(work()));
    });
    started.map_err(Error::Input)?;
    match receiver.recv_timeout(after) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Error::Late { what, after }),
    }
}
