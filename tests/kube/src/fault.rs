//! What a test can do to the server that a real one only does now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// How a watch from a forgotten version is refused. Real servers do both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// By HTTP status 410.
    Status,
    /// By status 200 and an ERROR event in the stream.
    Event,
}

/// What is wrong with watches that are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection breaks.
    Drop,
    /// The server sends an ERROR event with 410 and ends.
    Expire,
    /// The server sends a bookmark, and goes on.
    Bookmark,
}

#[derive(Debug, Clone, Copy)]
struct Knobs {
    delay: Duration,
    delay_lists: Duration,
    down: bool,
    forgotten: Forgotten,
    tear: bool,
    /// How often watches were silenced: one that began before says nothing more.
    silenced: u64,
}

/// The knobs.
pub struct Faults {
    knobs: Mutex<Knobs>,
    cuts: watch::Sender<(u64, Option<Cut>)>,
    pub(crate) down: watch::Sender<bool>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        let knobs = Knobs {
            delay: Duration::ZERO,
            delay_lists: Duration::ZERO,
            down: false,
            forgotten: Forgotten::Event,
            tear: false,
            silenced: 0,
        };
        Self { knobs: Mutex::new(knobs), cuts: watch::channel((0, None)).0, down: watch::channel(false).0 }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Knobs) -> T) -> T {
        change(&mut self.knobs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Each answer begins so much later.
    pub fn delay(&self, delay: Duration) {
        self.with(|knobs| knobs.delay = delay);
    }

    /// Each page of a list begins so much later still.
    pub fn delay_lists(&self, delay: Duration) {
        self.with(|knobs| knobs.delay_lists = delay);
    }

    /// How a forgotten version is refused from now on.
    pub fn forgotten_as(&self, forgotten: Forgotten) {
        self.with(|knobs| knobs.forgotten = forgotten);
    }

    /// Breaks the connections of all watches.
    pub fn drop_watches(&self) {
        self.cut(Cut::Drop);
    }

    /// Ends all watches with an ERROR event of 410.
    pub fn expire_watches(&self) {
        self.cut(Cut::Expire);
    }

    /// Sends a bookmark to all watches that want them.
    pub fn bookmark(&self) {
        self.cut(Cut::Bookmark);
    }

    /// The next event is sent only half to whichever watch comes first, whose connection then breaks.
    pub fn tear_next_event(&self) {
        self.with(|knobs| knobs.tear = true);
    }

    /// Watches under way say nothing more, as if the network had swallowed them.
    pub fn silence_watches(&self) {
        self.with(|knobs| knobs.silenced += 1);
    }

    /// The server is gone: connections break and new ones are closed at once.
    pub fn go_down(&self) {
        self.with(|knobs| knobs.down = true);
        self.down.send_replace(true);
    }

    /// The server is back, with all it knew.
    pub fn come_back(&self) {
        self.with(|knobs| knobs.down = false);
        self.down.send_replace(false);
    }

    fn cut(&self, cut: Cut) {
        self.cuts.send_modify(|(count, last)| {
            *count += 1;
            *last = Some(cut);
        });
    }

    pub(crate) fn cuts(&self) -> watch::Receiver<(u64, Option<Cut>)> {
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        cuts
    }

    /// How much later the answer to a request begins.
    pub(crate) fn delayed(&self, is_list: bool) -> Duration {
        self.with(|knobs| knobs.delay + if is_list { knobs.delay_lists } else { Duration::ZERO })
    }

    pub(crate) fn is_down(&self) -> bool {
        self.with(|knobs| knobs.down)
    }

    pub(crate) fn forgotten(&self) -> Forgotten {
        self.with(|knobs| knobs.forgotten)
    }

    pub(crate) fn silenced(&self) -> u64 {
        self.with(|knobs| knobs.silenced)
    }

    pub(crate) fn tears(&self) -> bool {
        self.with(|knobs| std::mem::take(&mut knobs.tear))
    }
}
