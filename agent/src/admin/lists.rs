//! Lists of the admin server, in parts: what is a page of `/config_dump` in a small mesh may be a hundred thousand lines in a large one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use weir_explain::listing::{self, Part};
use weir_telemetry::{Answering, Inquiry, Query, Question};
use weir_world::World;

use crate::{
    refusals::{self, Ends, Refusals},
    worker::{Asked, Order},
};

/// Everything the mesh holds of one kind.
type List = fn(&World, &Part) -> Value;

/// What can be asked of the agent, by path.
pub(crate) fn questions(world: &Arc<ArcSwap<World>>, refusals: Refusals) -> Vec<(&'static str, Question)> {
    let lists: [(&'static str, List); 3] = [
        ("/debug/workloads", listing::workloads),
        ("/debug/services", listing::services),
        ("/debug/policies", listing::policies),
    ];
    let mut questions: Vec<(&'static str, Question)> = Vec::new();
    for (path, list) in lists {
        let world = world.clone();
        let answer = move |query: &Query| Ok(list(&world.load(), &Part::read(query.fields(Part::FIELDS)?)?));
        questions.push((path, Box::new(answer)));
    }
    let world = world.clone();
    questions.push(("/debug/refusals", Box::new(move |query| refusals::answer(&refusals, &world.load(), query))));
    questions
}

/// `/debug/connections`: what is open now, worker by worker.
pub(crate) fn connections(workers: Vec<mpsc::Sender<Order>>) -> (&'static str, Inquiry) {
    let workers: Arc<[mpsc::Sender<Order>]> = workers.into();
    let inquiry = move |query: Query| -> Answering { Box::pin(open(workers.clone(), query)) };
    ("/debug/connections", Box::new(inquiry))
}

async fn open(workers: Arc<[mpsc::Sender<Order>]>, query: Query) -> Result<Value, String> {
    let [namespace, name, after, limit] = query.fields(Part::FIELDS)?;
    let ends = Ends::read(namespace, name)?;
    let most = listing::limit_of(limit)?;
    let (mut worker, mut from) = place(after)?;
    let mut items: Vec<Value> = Vec::new();
    while let Some(orders) = workers.get(worker) {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { ends: ends.clone(), from, most: most - items.len() };
        let gone = |_| format!("worker {worker} has ended");
        orders.send(Order::Connections { asked, answer }).await.map_err(|_| gone(()))?;
        let (some, next) = answered.await.map_err(|_| gone(()))?;
        items.extend(some);
        (worker, from) = next.map_or((worker + 1, 0), |next| (worker, next));
        if items.len() >= most {
            break;
        }
    }
    let next = (worker < workers.len()).then(|| format!("{worker}.{from}"));
    Ok(json!({ "items": items, "next": next }))
}

/// The worker, and the number of its connection, to go on from.
fn place(after: Option<&str>) -> Result<(usize, usize), String> {
    let Some(text) = after else { return Ok((0, 0)) };
    let place = text.split_once('.').and_then(|(worker, from)| Some((worker.parse().ok()?, from.parse().ok()?)));
    place.ok_or_else(|| format!("after: expected the \"next\" of an earlier answer, as 1.500, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use weir_model::Tunnel;

    use super::*;
    use crate::testing;

    #[test]
    fn lists_are_asked_for_by_their_paths() {
        let world = Arc::new(ArcSwap::new(testing::world([], Tunnel::Hbone)));
        let questions = questions(&world, refusals::rings(1));
        let ask = |path: &str, query: &str| {
            let (_, question) = questions.iter().find(|(at, _)| *at == path).unwrap();
            question(&query.parse().unwrap())
        };
        let names = |answer: Value| -> Vec<String> {
            let items = answer["items"].as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(ask("/debug/workloads", "").unwrap()), ["a", "b"]);
        assert_eq!(names(ask("/debug/workloads", "namespace=ns&limit=1").unwrap()), ["a"]);
        assert!(names(ask("/debug/services", "").unwrap()).is_empty());
        for (path, query, said) in [
            ("/debug/workloads", "name_=x", "is no field of this query, there is: namespace, name, after, limit"),
            ("/debug/refusals", "limit=0", "limit: expected a number from 1"),
            ("/debug/refusals", "after=x", "expected the \"cursor\" of an earlier answer"),
        ] {
            let why = ask(path, query).unwrap_err();
            assert!(why.contains(said), "{path}?{query}: {why}");
        }
    }

    #[tokio::test]
    async fn connections_are_asked_of_one_worker_after_the_other_until_there_are_enough() {
        let (orders, mut received): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel(4)).unzip();
        tokio::spawn(async move {
            for (worker, orders) in received.iter_mut().enumerate() {
                // The first has more than it says at once.
                for next in if worker == 0 { vec![Some(7), None] } else { vec![None] } {
                    let Some(Order::Connections { asked, answer }) = orders.recv().await else { panic!("no order") };
                    answer.send((vec![json!(format!("{worker}.{}", asked.from))], next)).unwrap();
                }
            }
        });
        let workers: Arc<[_]> = orders.into();
        let first = open(workers.clone(), "limit=1".parse().unwrap()).await.unwrap();
        assert_eq!((&first["items"], &first["next"]), (&json!(["0.0"]), &json!("0.7")));
        let rest = open(workers.clone(), "after=0.7".parse().unwrap()).await.unwrap();
        assert_eq!((&rest["items"], &rest["next"]), (&json!(["0.7", "1.0"]), &Value::Null));
        let gone = open(workers.clone(), Query::default()).await.unwrap_err();
        assert_eq!(gone, "worker 0 has ended");
        assert!(open(workers, "after=x".parse().unwrap()).await.unwrap_err().contains("as 1.500"));
    }
}
