//! Ctrl-C and termination, turned into a value: what was begun is then ended in order.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, Signal};

/// Receives the first of the two signals. Must be made before any other thread, which inherit the blocked signals.
pub(crate) struct Interrupt {
    received: Receiver<Signal>,
}

impl Interrupt {
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().context("block signals")?;
        let (sender, received) = channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            if let Ok(signal) = signals.wait() {
                eprintln!("\nstopping in order; once more to stop at once");
                // Nobody listens any more: the task is ending by itself.
                let _late = sender.send(signal);
            }
            // The testbed's janitor removes what is left.
            if signals.wait().is_ok() {
                std::process::exit(130);
            }
        })?;
        Ok(Self { received })
    }

    /// An error once one has come.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.received.try_recv() {
            Ok(signal) => bail!("interrupted by {signal}"),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(()),
        }
    }

    /// Waits for one.
    pub(crate) fn wait(&self) -> anyhow::Result<Signal> {
        self.received.recv().context("wait for a signal")
    }
}
