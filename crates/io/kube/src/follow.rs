//! One kind, followed: list, watch from there, and again when the server has forgotten where we are.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use weir_manifest::{Kind, ObjectKey};

use crate::{
    Error, Event, Options,
    fetch::{Change, Fetch, Item, Version},
};

/// A watch that lived so long was no failure, even if nothing happened.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// What a follower tells.
pub(crate) enum Message {
    Event(Box<Event>),
    /// The first list of the kind has been told whole.
    Listed(Kind),
}

/// Why following stops for now.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// The server has forgotten the version we are at: only a new list helps.
    Gone,
    /// A request failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.status() {
            Some(410) => Self::Gone,
            Some(_) | None => Self::Failed(error),
        }
    }
}

/// What is remembered of an object.
struct Known {
    version: Version,
    /// The list it was last seen in.
    round: u32,
}

/// One kind, followed.
pub(crate) struct Follower {
    fetch: Fetch,
    options: Options,
    messages: mpsc::Sender<Message>,
    known: HashMap<ObjectKey, Known>,
    round: u32,
    listed: bool,
    lost: bool,
    /// How often in a row the kind was not installed.
    absences: u32,
    backoff: Backoff,
}

impl Follower {
    pub(crate) fn new(fetch: Fetch, options: Options, messages: mpsc::Sender<Message>) -> Self {
        let backoff = Backoff::new(options.backoff);
        let known = HashMap::new();
        Self { fetch, options, messages, known, round: 0, listed: false, lost: false, absences: 0, backoff }
    }

    /// Follows until nobody listens.
    pub(crate) async fn run(mut self) {
        loop {
            match self.follow().await {
                Stop::Closed => return,
                Stop::Gone => tracing::debug!(kind = %self.kind(), "the API server has forgotten our version"),
                Stop::Failed(error) => {
                    if self.lost(error).await.is_err() {
                        return;
                    }
                }
            }
            self.backoff.pause().await;
        }
    }

    fn kind(&self) -> Kind {
        self.fetch.reading.kind
    }

    /// One list and the watches that go on from it.
    async fn follow(&mut self) -> Stop {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(stop) => return self.absent(stop).await,
        };
        loop {
            if let Err(stop) = self.watch(&mut version).await {
                match stop {
                    Stop::Closed | Stop::Gone => return stop,
                    // The watch may be asked for again, unless what it said is the trouble.
                    Stop::Failed(error) => match error {
                        Error::Malformed { .. }
                        | Error::Incomplete { .. }
                        | Error::TooLarge { .. }
                        | Error::TooMany { .. } => {
                            return Stop::Failed(error);
                        }
                        Error::Status { code: 404, .. } => return Stop::Gone,
                        Error::Config { .. }
                        | Error::Unreachable { .. }
                        | Error::Slow { .. }
                        | Error::Status { .. } => {
                            if let Err(stop) = self.lost(error).await {
                                return stop;
                            }
                        }
                    },
                }
            }
            self.backoff.pause().await;
        }
    }

    /// The whole kind. What is as it was is not told again; what is no longer there is.
    async fn list(&mut self) -> Result<String, Stop> {
        self.round = self.round.wrapping_add(1);
        let (mut limit, mut token) = (self.options.page.max(1), None);
        loop {
            let page = match self.fetch.page(limit, token.as_deref()).await {
                Err(Error::TooLarge { .. }) if limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                page => page?,
            };
            self.back().await?;
            for item in page.items {
                self.set(item).await?;
            }
            token = page.token;
            if token.is_none() {
                self.absences = 0;
                self.finish_list().await?;
                return Ok(page.version);
            }
        }
    }

    async fn finish_list(&mut self) -> Result<(), Stop> {
        let round = self.round;
        let gone: Vec<_> = self.known.extract_if(|_, known| known.round != round).map(|(key, _)| key).collect();
        for key in gone {
            self.tell(Event::Removed(key)).await?;
        }
        if !self.listed {
            self.listed = true;
            self.send(Message::Listed(self.kind())).await?;
        }
        Ok(())
    }

    /// A kind that is not installed has no objects. Those that are known already are given up only when it is still missing at
    /// the next look: a server that has just started may not know its custom kinds yet.
    async fn absent(&mut self, stop: Stop) -> Stop {
        let error = match stop {
            Stop::Failed(error) if self.kind().is_custom() && error.status() == Some(404) => error,
            Stop::Failed(_) | Stop::Closed | Stop::Gone => return stop,
        };
        self.absences = self.absences.saturating_add(1);
        if self.absences == 1 {
            tracing::info!(kind = %self.kind(), "the kind is not installed: {error}");
        }
        let told = async {
            self.back().await?;
            if self.absences > 1 || self.known.is_empty() {
                self.finish_list().await?;
            }
            Ok(())
        };
        if let Err(stop) = told.await {
            return stop;
        }
        tokio::select! {
            () = sleep(self.options.absent) => {}
            () = self.messages.closed() => return Stop::Closed,
        }
        Stop::Gone
    }

    /// One watch, as long as it lasts.
    async fn watch(&mut self, version: &mut String) -> Result<(), Stop> {
        let began = Instant::now();
        let fetch = self.fetch.clone();
        let mut watch = fetch.watch(version).await?;
        self.back().await?;
        let ended = loop {
            let next = tokio::select! {
                next = watch.next() => next,
                () = self.messages.closed() => return Err(Stop::Closed),
            };
            let change = match next {
                Ok(Some(change)) => change,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            version.clone_from(&watch.version);
            self.backoff.reset();
            match change {
                Change::Set(item) => self.set(*item).await?,
                Change::Removed(key) => {
                    if self.known.remove(&key).is_some() {
                        self.tell(Event::Removed(key)).await?;
                    }
                }
                Change::Bookmark => {}
            }
        };
        if began.elapsed() >= GOOD_LIFE {
            self.backoff.reset();
        }
        match ended {
            // It broke off, which only matters if the next one cannot be had.
            Err(error @ (Error::Unreachable { .. } | Error::Slow { .. })) => {
                tracing::debug!(kind = %self.kind(), %error, "a watch broke off");
                Ok(())
            }
            ended => ended.map_err(Stop::from),
        }
    }

    async fn set(&mut self, item: Item) -> Result<(), Stop> {
        let Item { key, version, object, document } = item;
        let before = self.known.insert(key.clone(), Known { version, round: self.round });
        if let Some(before) = before {
            if before.version == version {
                return Ok(());
            }
            if before.version.uid != version.uid {
                self.tell(Event::Removed(key.clone())).await?;
            }
        }
        self.tell(match object {
            Ok(object) => Event::Set { object: Box::new(object), document },
            Err(errors) => Event::Refused { key, errors },
        })
        .await
    }

    async fn lost(&mut self, reason: Error) -> Result<(), Stop> {
        if self.lost {
            return Ok(());
        }
        self.lost = true;
        let kind = self.kind();
        self.tell(Event::Lost { kind, reason }).await
    }

    async fn back(&mut self) -> Result<(), Stop> {
        if !self.lost {
            return Ok(());
        }
        self.lost = false;
        let kind = self.kind();
        self.tell(Event::Back { kind }).await
    }

    async fn tell(&mut self, event: Event) -> Result<(), Stop> {
        self.send(Message::Event(Box::new(event))).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Stop> {
        self.messages.send(message).await.map_err(|_| Stop::Closed)
    }
}

/// How long to wait before the next try: twice as long each time, but for chance, so that not all come at once.
struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    fn new((least, most): (Duration, Duration)) -> Self {
        Self { least, most, next: least }
    }

    fn reset(&mut self) {
        self.next = self.least;
    }

    fn step(&mut self, chance: f64) -> Duration {
        let wait = self.next.mul_f64(chance.mul_add(0.5, 0.5));
        self.next = (self.next * 2).min(self.most);
        wait
    }

    async fn pause(&mut self) {
        let wait = self.step(rand::random());
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_to_the_most_and_falls_back_to_the_least() {
        let (least, most) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut backoff = Backoff::new((least, most));
        let waits: Vec<_> = (0..10).map(|_| backoff.step(1.0)).collect();
        assert_eq!((waits[0], waits[1], waits[9]), (least, 2 * least, most));
        assert_eq!(backoff.step(0.0), most / 2, "half of it is left to chance");
        backoff.reset();
        assert_eq!(backoff.step(1.0), least);
    }
}
