//! Whether the program can do its work yet, and what it still waits for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What must be done before the program is ready. Ready when nothing is open.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, usize>>>);

/// One thing to be done. Dropped before it was [`done`](Self::done), it stays open for ever: a part that failed never counts as
/// ready.
#[derive(Debug)]
#[must_use = "the program does not become ready until this is done"]
pub struct Unready {
    readiness: Readiness,
    task: &'static str,
}

impl Readiness {
    /// Names something that must be done first.
    pub fn wait_for(&self, task: &'static str) -> Unready {
        *self.open().entry(task).or_default() += 1;
        Unready { readiness: self.clone(), task }
    }

    /// What is still open, in alphabetical order.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.open().keys().copied().collect()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unready {
    /// It is done.
    pub fn done(self) {
        let mut open = self.readiness.open();
        if let Some(count) = open.get_mut(self.task) {
            *count -= 1;
            if *count == 0 {
                open.remove(self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_everything_named_is_done() {
        let readiness = Readiness::default();
        assert!(readiness.waiting_for().is_empty());
        let (config, one, two) =
            (readiness.wait_for("config"), readiness.wait_for("worker"), readiness.wait_for("worker"));
        assert_eq!(readiness.waiting_for(), ["config", "worker"]);
        config.done();
        one.done();
        assert_eq!(readiness.waiting_for(), ["worker"]);
        two.done();
        assert!(readiness.waiting_for().is_empty());
    }

    #[test]
    fn a_part_that_failed_never_counts_as_ready() {
        let readiness = Readiness::default();
        drop(readiness.wait_for("config"));
        assert_eq!(readiness.waiting_for(), ["config"]);
    }
}
