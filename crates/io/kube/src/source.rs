//! An API server, followed.
//!
//! In: a client. Out: what changed, in an order in which each object's own changes are never swapped. It keeps of an object no more
//! than its name and two numbers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use weir_manifest::{Kind, ManifestError, Object, ObjectKey};

use crate::{
    Error,
    fetch::{Fetch, Reading},
    follow::{Follower, Message},
};

/// Changes that may wait to be taken. When it is full the server is no longer read from.
const WAITING: usize = 1024;

/// What changed.
#[derive(Debug)]
pub enum Event {
    /// An object is new or another than it was.
    Set {
        /// As it is now.
        object: Box<Object>,
        /// What waypoints are told of it, JSON.
        document: Option<Arc<str>>,
    },
    /// An object is gone. One that was deleted and made anew is gone first.
    Removed(ObjectKey),
    /// An object is there that cannot be read. What it was before is out of date: whoever relied on it decides what is safe, and for
    /// pods, services and policies that is to refuse, not to keep the last good form.
    Refused {
        /// Which.
        key: ObjectKey,
        /// Everything that is wrong with it.
        errors: Vec<ManifestError>,
    },
    /// Everything that was there at the start has been told. Said once.
    Synced,
    /// A kind cannot be followed now; what was told of it may be out of date. Said once until it is back.
    Lost {
        /// Which.
        kind: Kind,
        /// Why, the first time.
        reason: Error,
    },
    /// A lost kind is followed again.
    Back {
        /// Which.
        kind: Kind,
    },
}

/// How a server is followed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which kinds.
    pub kinds: Vec<Kind>,
    /// Objects asked for at once.
    pub page: u32,
    /// How long a page, or the beginning of a watch, may take.
    pub answer: Duration,
    /// How long a watch may be silent before it is taken for dead. Servers send a bookmark every minute.
    pub silence: Duration,
    /// Between looks for a kind that is not installed.
    pub absent: Duration,
    /// Least and most to wait after a failure.
    pub backoff: (Duration, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kinds: Kind::ALL.to_vec(),
            page: 500,
            answer: Duration::from_secs(60),
            silence: Duration::from_secs(150),
            absent: Duration::from_secs(30),
            backoff: (Duration::from_millis(200), Duration::from_secs(30)),
        }
    }
}

/// An API server that is followed until this is dropped.
pub struct Source {
    followers: JoinSet<()>,
    messages: mpsc::Receiver<Message>,
    unlisted: HashSet<Kind>,
    synced: bool,
}

impl Source {
    /// Begins to follow. Needs a runtime.
    pub fn start(client: Client, options: Options) -> Self {
        let (sender, messages) = mpsc::channel(WAITING);
        let mut followers = JoinSet::new();
        let unlisted: HashSet<Kind> = options.kinds.iter().copied().collect();
        for &kind in &unlisted {
            let reading = Reading::new(kind);
            let (answer, silence) = (options.answer, options.silence);
            let fetch = Fetch { client: client.clone(), reading, answer, silence };
            followers.spawn(Follower::new(fetch, options.clone(), sender.clone()).run());
        }
        Self { followers, messages, unlisted, synced: false }
    }

    /// What changed next. May be dropped while it waits: nothing is lost.
    ///
    /// # Panics
    /// When the task that follows a kind has panicked: a mesh that no longer hears of a kind must not look well.
    pub async fn next(&mut self) -> Event {
        loop {
            if !self.synced && self.unlisted.is_empty() {
                self.synced = true;
                return Event::Synced;
            }
            tokio::select! {
                Some(ended) = self.followers.join_next() => propagate(ended),
                message = self.messages.recv() => match message {
                    Some(message) => if let Some(event) = self.told(message) { return event },
                    None => std::future::pending().await,
                }
            }
        }
    }

    /// What changed next, if that is known already: for taking many changes at once.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            if !self.synced && self.unlisted.is_empty() {
                self.synced = true;
                return Some(Event::Synced);
            }
            let message = self.messages.try_recv().ok()?;
            if let Some(event) = self.told(message) {
                return Some(event);
            }
        }
    }

    fn told(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Event(event) => Some(*event),
            Message::Listed(kind) => {
                self.unlisted.remove(&kind);
                None
            }
        }
    }
}

fn propagate(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
