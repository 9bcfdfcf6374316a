//! How many handshakes may be under way at once.

use std::collections::VecDeque;

use tokio::{
    sync::oneshot,
    task::{AbortHandle, spawn_local},
};

/// Handshakes under way at one listener, oldest first. A flood of half-open ones pushes out its own, not a neighbour's.
pub struct Handshakes {
    most: usize,
    under_way: VecDeque<(AbortHandle, oneshot::Receiver<()>)>,
}

impl Handshakes {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { most, under_way: VecDeque::new() }
    }

    /// Begins one; if too many are under way, the oldest gives way. `serve` gets what to drop when its handshake is done.
    pub fn begin<F: Future<Output = ()> + 'static>(&mut self, serve: impl FnOnce(oneshot::Sender<()>) -> F) {
        if self.under_way.len() >= self.most {
            self.under_way.retain_mut(|(_, done)| done.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        }
        while self.under_way.len() >= self.most {
            if let Some((oldest, _)) = self.under_way.pop_front() {
                oldest.abort();
            }
        }
        let (done, waits) = oneshot::channel();
        let task = spawn_local(serve(done));
        self.under_way.push_back((task.abort_handle(), waits));
    }
}
