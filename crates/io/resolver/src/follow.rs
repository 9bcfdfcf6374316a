//! All names that are wanted, followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use weir_model::Hostname;

use crate::{
    Error, Servers,
    ask::{Answer, ask},
};

/// Most names that are followed; the others have no address.
const MOST: usize = 4_096;
/// Names that are asked for at once.
const AT_ONCE: usize = 32;
/// An answer is believed for this long at least and at most, whatever it says. Envoy `dns_min_refresh_rate`.
const HOLDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long until a name is asked for again that nobody knew: twice as long each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// With nothing to do.
const FAR: Duration = Duration::from_secs(3_600);

type Known = BTreeMap<Hostname, Arc<[IpAddr]>>;

/// The names that are wanted, and what is known of them. For all threads.
#[derive(Debug, Clone)]
pub struct Names {
    wanted: watch::Sender<Arc<BTreeSet<Hostname>>>,
    known: Arc<ArcSwap<Known>>,
    changed: watch::Sender<u64>,
}

impl Names {
    /// From now on these are wanted, and no others.
    pub fn want<'n>(&self, names: impl IntoIterator<Item = &'n Hostname>) {
        let names: BTreeSet<Hostname> = names.into_iter().cloned().collect();
        self.wanted.send_if_modified(|wanted| {
            let is_new = **wanted != names;
            if is_new {
                *wanted = Arc::new(names);
            }
            is_new
        });
    }

    /// The addresses of a name, as they are known; none of one that nobody answered for yet.
    pub fn addresses(&self, name: &Hostname) -> Arc<[IpAddr]> {
        self.known.load().get(name).cloned().unwrap_or_default()
    }

    /// Is told whenever addresses are others than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Follows what [`Names`] wants.
pub struct Follower {
    names: Names,
    wanted: watch::Receiver<Arc<BTreeSet<Hostname>>>,
    of: BTreeMap<Hostname, Following>,
}

/// A name that is followed.
struct Following {
    /// When it is asked for next; none while it is.
    due: Option<Instant>,
    failures: u32,
}

impl Follower {
    /// Nothing is wanted yet.
    pub fn new() -> (Self, Names) {
        let (wanted, receiver) = watch::channel(Arc::default());
        let names = Names { wanted, known: Arc::default(), changed: watch::Sender::new(0) };
        (Self { names: names.clone(), wanted: receiver, of: BTreeMap::new() }, names)
    }

    /// Asks these servers, until the future is dropped.
    ///
    /// # Errors
    /// No resolver can be made of them.
    pub async fn run(self, servers: Servers) -> Result<(), Error> {
        let resolver = Arc::new(servers.resolver()?);
        self.run_with(move |name: Hostname| {
            let resolver = resolver.clone();
            async move { ask(&resolver, &name).await }
        })
        .await;
        Ok(())
    }

    async fn run_with<F>(mut self, ask: impl Fn(Hostname) -> F)
    where
        F: Future<Output = Result<Answer, Error>> + Send + 'static,
    {
        let mut asking: JoinSet<(Hostname, Result<Answer, Error>)> = JoinSet::new();
        self.follow();
        loop {
            let next = self.ask_due(&mut asking, &ask);
            tokio::select! {
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow(),
                    Err(_) => return,
                },
                Some(answered) = asking.join_next() => match answered {
                    Ok((name, answer)) => self.take(&name, answer),
                    // A name whose question was lost is asked for again.
                    Err(_) => self.of.values_mut().for_each(|one| one.due = one.due.or(Some(Instant::now() + AGAIN.0))),
                },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Takes over what is wanted.
    fn follow(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.of.retain(|name, _| wanted.contains(name));
        for (count, name) in wanted.iter().enumerate() {
            if count >= MOST {
                tracing::warn!(count = wanted.len(), most = MOST, first = %name, "more names than are resolved");
                break;
            }
            let new = || Following { due: Some(Instant::now()), failures: 0 };
            self.of.entry(name.clone()).or_insert_with(new);
        }
        let known = self.names.known.load_full();
        if known.keys().any(|name| !self.of.contains_key(name)) {
            let kept = known.iter().filter(|(name, _)| self.of.contains_key(*name));
            self.publish(kept.map(|(name, ips)| (name.clone(), ips.clone())).collect());
        }
    }

    /// Asks for what is due, as far as there is room. When to look again.
    fn ask_due<F>(
        &mut self,
        asking: &mut JoinSet<(Hostname, Result<Answer, Error>)>,
        ask: &impl Fn(Hostname) -> F,
    ) -> Instant
    where
        F: Future<Output = Result<Answer, Error>> + Send + 'static,
    {
        let now = Instant::now();
        let mut next = now + FAR;
        for (name, following) in &mut self.of {
            match following.due {
                Some(due) if due <= now && asking.len() < AT_ONCE => {
                    following.due = None;
                    let (name, answer) = (name.clone(), ask(name.clone()));
                    asking.spawn(async move { (name, answer.await) });
                }
                // Those without room are looked at when an answer makes some.
                Some(due) if due > now => next = next.min(due),
                Some(_) | None => {}
            }
        }
        next
    }

    fn take(&mut self, name: &Hostname, answer: Result<Answer, Error>) {
        let Some(following) = self.of.get_mut(name) else { return };
        let known = self.names.known.load_full();
        match answer {
            Ok(Answer { addresses, holds }) => {
                following.due = Some(Instant::now() + holds.clamp(HOLDS.0, HOLDS.1));
                following.failures = 0;
                if known.get(name).is_none_or(|known| **known != *addresses) {
                    tracing::info!(%name, ?addresses, "resolved");
                    let mut all = Known::clone(&known);
                    all.insert(name.clone(), addresses.into());
                    self.publish(all);
                }
            }
            Err(error) => {
                following.due = Some(Instant::now() + backoff(following.failures));
                following.failures = following.failures.saturating_add(1);
                if following.failures == 1 {
                    let last = known.get(name).map(|known| known.len());
                    tracing::warn!(%error, last, "not resolved: what was known last stays");
                }
            }
        }
    }

    fn publish(&self, all: Known) {
        self.names.known.store(Arc::new(all));
        self.names.changed.send_modify(|version| *version += 1);
    }
}

fn backoff(failures: u32) -> Duration {
    AGAIN.0.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(AGAIN.1)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    /// What is asked for, and what is answered.
    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<Said>>);

    #[derive(Default)]
    struct Said {
        asked: Vec<String>,
        /// Addresses, and how many seconds they hold.
        answers: BTreeMap<String, (Vec<&'static str>, u64)>,
    }

    impl Script {
        fn say(&self, name: &str, addresses: &[&'static str], seconds: u64) {
            self.0.lock().unwrap().answers.insert(name.to_owned(), (addresses.to_vec(), seconds));
        }

        fn forget(&self, name: &str) {
            self.0.lock().unwrap().answers.remove(name);
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap().asked)
        }

        fn start(&self) -> Names {
            let (follower, names) = Follower::new();
            let script = self.clone();
            tokio::spawn(follower.run_with(move |name: Hostname| {
                let mut script = script.0.lock().unwrap();
                script.asked.push(name.to_string());
                let answer = script.answers.get(name.as_str()).cloned();
                async move {
                    let unknown = || Error::Lookup { name: name.to_string(), why: "nobody knows".to_owned() };
                    let (addresses, seconds) = answer.ok_or_else(unknown)?;
                    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
                    Ok(Answer { addresses, holds: Duration::from_secs(seconds) })
                }
            }));
            names
        }
    }

    fn host(name: &str) -> Hostname {
        name.parse().unwrap()
    }

    fn known(names: &Names, name: &str) -> Vec<String> {
        names.addresses(&host(name)).iter().map(ToString::to_string).collect()
    }

    /// Lets everybody do what they can do now.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn after(seconds: u64) {
        settle().await;
        advance(Duration::from_secs(seconds)).await;
        settle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_when_its_answer_no_longer_holds() {
        let script = Script::default();
        script.say("a.example", &["192.0.2.1", "2001:db8::1"], 30);
        let names = script.start();
        let mut changes = names.changes();
        names.want([&host("a.example")]);
        settle().await;
        assert_eq!(known(&names, "a.example"), ["192.0.2.1", "2001:db8::1"]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(script.asked(), ["a.example"]);
        after(29).await;
        assert_eq!(script.asked(), [""; 0]);
        after(1).await;
        assert_eq!(script.asked(), ["a.example"]);
        assert!(!changes.has_changed().unwrap(), "nothing is new");
        script.say("a.example", &["192.0.2.2"], 0);
        after(30).await;
        assert_eq!(known(&names, "a.example"), ["192.0.2.2"]);
        assert!(changes.has_changed().unwrap());
        // However short it holds: not more often than that.
        script.asked();
        after(4).await;
        assert_eq!(script.asked(), [""; 0]);
        after(1).await;
        assert_eq!(script.asked(), ["a.example"]);
        script.say("a.example", &["192.0.2.2"], 86_400);
        after(5).await;
        script.asked();
        after(300).await;
        assert_eq!(script.asked(), ["a.example"], "nor less often");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_last_stays_while_nobody_answers() {
        let script = Script::default();
        script.say("a.example", &["192.0.2.1"], 5);
        let names = script.start();
        names.want([&host("a.example"), &host("b.example")]);
        settle().await;
        assert_eq!((known(&names, "a.example"), known(&names, "b.example")), (vec!["192.0.2.1".to_owned()], vec![]));
        script.forget("a.example");
        for _ in 0..40 {
            after(5).await;
            assert_eq!(known(&names, "a.example"), ["192.0.2.1"]);
        }
        // Asked for less and less often, and never given up.
        script.asked();
        after(60).await;
        let mut asked = script.asked();
        asked.sort();
        assert_eq!(asked, ["a.example", "b.example"]);
        script.say("b.example", &["2001:db8::2"], 5);
        after(60).await;
        assert_eq!(known(&names, "b.example"), ["2001:db8::2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_wanted_any_more_is_forgotten() {
        let script = Script::default();
        script.say("a.example", &["192.0.2.1"], 5);
        script.say("b.example", &["192.0.2.2"], 5);
        let names = script.start();
        names.want([&host("a.example"), &host("b.example")]);
        settle().await;
        names.want([&host("b.example")]);
        settle().await;
        script.asked();
        after(5).await;
        assert_eq!((known(&names, "a.example"), known(&names, "b.example")), (vec![], vec!["192.0.2.2".to_owned()]));
        assert_eq!(script.asked(), ["b.example"]);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_are_wanted_all_are_asked_for_in_their_turn() {
        let script = Script::default();
        let all: Vec<Hostname> = (0..MOST + 5).map(|number| host(&format!("n{number:04}.example"))).collect();
        let names = script.start();
        names.want(&all);
        for _ in 0..200 {
            settle().await;
        }
        let asked: BTreeSet<String> = script.asked().into_iter().collect();
        assert_eq!(asked.len(), MOST, "and not those beyond the bound");
    }

    proptest! {
        #[test]
        fn the_pause_grows_and_ends(failures: u32) {
            prop_assert!(backoff(failures) <= backoff(failures.saturating_add(1)));
            prop_assert!((AGAIN.0..=AGAIN.1).contains(&backoff(failures)));
        }
    }
}
