//! Copies of requests, whose answers nobody waits for.

use std::{future::poll_fn, pin::Pin, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Body;
use tokio::task::spawn_local;
use weir_balance::{Ask, Choice};
use weir_model::Port;
use weir_route::{Destination, Forward};

use crate::{
    answer::Answer,
    around::{Around, Snapshot},
    attempt::{Attempt, Got, Head, Watch},
    cluster::{Cluster, KeyOf},
    engine::Engine,
    serve::Talk,
    upload::Source,
};

/// The longest that a copy may take. Ours; Envoy takes the timeout of the route.
const LONGEST: Duration = Duration::from_secs(15);

/// A copy under way.
struct Copying<A: Around>(Rc<Engine<A>>);

impl<A: Around> Copying<A> {
    fn begin(engine: &Rc<Engine<A>>) -> Option<Self> {
        let count = engine.mirrors.get();
        (count < engine.settings.mirrors).then(|| {
            engine.mirrors.set(count + 1);
            Self(Rc::clone(engine))
        })
    }
}

impl<A: Around> Drop for Copying<A> {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get().saturating_sub(1));
    }
}

/// Sends the copies that the rule wants of a request. A copy too many is not sent.
pub(crate) fn send<A: Around>(
    talk: &Rc<Talk<A>>,
    snapshot: &Snapshot,
    (forward, port): (&Forward<'_>, Port),
    head: &Head,
) {
    let engine = &talk.engine;
    let wanted: Vec<&Destination> = forward.mirrors(&mut *engine.rng()).collect();
    for destination in wanted {
        let port = destination.port.unwrap_or(port);
        let key = KeyOf { host: &destination.host, port, subset: destination.subset.as_deref() };
        let (Ok(cluster), Some(copying)) = (engine.cluster(snapshot, key), Copying::begin(engine)) else { continue };
        if let Some(source) = &head.source {
            source.copy(engine.settings.mirror_bytes);
        }
        let copy = copy_of(head);
        let talk = Rc::clone(talk);
        spawn_local(async move {
            let _copying = copying;
            let whole = tokio::time::timeout(LONGEST, sent(&talk, &cluster, copy));
            // Whatever becomes of it, nobody waits.
            whole.await.unwrap_or_default();
        });
    }
}

/// The same head, to `-shadow`, as Envoy names a copy's host.
fn copy_of(head: &Head) -> Head {
    let authority = head.authority.to_str().unwrap_or_default();
    let shadow = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => format!("{host}-shadow:{port}"),
        Some(_) | None => format!("{authority}-shadow"),
    };
    Head {
        method: head.method.clone(),
        target: head.target.clone(),
        headers: head.headers.clone(),
        authority: HeaderValue::from_str(&shadow).unwrap_or_else(|_| head.authority.clone()),
        upgrade: None,
        tunnel: None,
        client: head.client,
        source: head.source.clone(),
        body: None,
    }
}

async fn sent<A: Around>(talk: &Rc<Talk<A>>, cluster: &Rc<Cluster<A>>, mut head: Head) {
    let whole = match head.source.take() {
        None => None,
        Some(source) => match whole(&source).await {
            Some(bytes) => Some(bytes),
            // Too much, or it never came to its end.
            None => return,
        },
    };
    head.body = whole;
    let engine = &talk.engine;
    let choice = cluster.balancer.borrow_mut().pick(&Ask::default(), engine.now(), &mut *engine.rng());
    let upstream = match choice {
        Choice::Endpoint(chosen) => cluster.member(&chosen.name).cloned(),
        Choice::Original | Choice::Nowhere(_) => None,
    };
    let Some(upstream) = upstream else { return };
    let attempt = Attempt { talk, cluster, upstream: &upstream, head: &head, number: 1 };
    let mut watch = Watch::new(None, None, None);
    let mut answer = match attempt.make(None, &mut watch).await {
        Ok(Got::Link(_, link)) => Answer::<A>::of_link(link, upstream, None, None),
        Ok(Got::Ride(answer, ride)) => Answer::of_ride(answer.into_body(), ride, None, None),
        Err(_) => return,
    };
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(_))) => {}
            }
        }
    })
    .await;
}

async fn whole(source: &Rc<Source>) -> Option<Bytes> {
    poll_fn(|cx| if source.poll_ended(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    source.whole()
}
