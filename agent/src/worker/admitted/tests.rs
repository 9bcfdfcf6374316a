//! What a change of policy ends, and what it leaves alone.

use weir_model::{Policy, PolicyAction};

use super::*;
use crate::testing::{from, identity, policy, socket, to, uid, world};

/// More than are asked in one turn.
const MANY: usize = 3 * SLICE + 1;

fn table(policies: Vec<Policy>) -> Rc<Admitted> {
    Rc::new(Admitted::new(Arc::new(ArcSwap::new(world(policies, Tunnel::Hbone)))))
}

fn mesh(account: &str) -> Rc<Who> {
    Rc::new(Who { source: Source::Mesh(identity(account)), client: socket("10.0.0.9:4000") })
}

fn plain(client: &str) -> Rc<Who> {
    Rc::new(Who { source: Source::Plaintext, client: socket(client) })
}

fn denies(what: weir_model::Match) -> Vec<Policy> {
    vec![policy("deny", PolicyAction::Deny, [what])]
}

/// Why it may not stay, if it was told.
fn told(entered: &mut Entered) -> Option<String> {
    entered.end.try_recv().ok().map(|why| why.to_string())
}

async fn change(table: &Admitted, policies: Vec<Policy>, a: Tunnel) {
    table.world.store(world(policies, a));
    table.enforce().await;
}

#[tokio::test]
async fn a_change_ends_what_it_forbids_and_nothing_else() {
    let table = table(Vec::new());
    let (x, y, four, six) = (mesh("x"), mesh("y"), plain("10.0.0.9:1"), plain("[fd00::9]:1"));
    let mut open = Vec::new();
    for number in 0..MANY {
        for who in [&x, &y, &four, &six] {
            for (pod, target) in [("a", "10.0.0.1:80"), ("a", "[fd00::1]:81"), ("b", "10.0.0.2:80")] {
                let gone = table.enter(&uid(pod), who.clone(), socket(target));
                // Numbers are given again.
                if number % 3 != 0 {
                    open.push((who.clone(), socket(target), table.enter(&uid(pod), who.clone(), socket(target))));
                }
                drop(gone);
            }
        }
    }
    let x_of_80 = weir_model::Match { principals: from("x").principals, ..to(80) };
    for (policies, ends) in [
        (Vec::new(), "nothing"),
        (denies(x_of_80), "x at 80"),
        (vec![policy("allow", PolicyAction::Allow, [from("x"), from("y")])], "plaintext"),
        (denies(to(81)), "81"),
        (denies(weir_model::Match { principals: from("y").principals, ..to(80) }), "y at 80"),
    ] {
        change(&table, policies, Tunnel::Hbone).await;
        open.retain_mut(|(who, target, entered)| {
            let is = |account| who.source == Source::Mesh(identity(account));
            let forbidden = match ends {
                "x at 80" => is("x") && target.port() == 80,
                "plaintext" => who.source == Source::Plaintext,
                "81" => target.port() == 81,
                "y at 80" => is("y") && target.port() == 80,
                _ => false,
            };
            assert_eq!(told(entered).is_some(), forbidden, "{ends} is to end, {who:?} to {target}");
            !forbidden
        });
    }
    assert_eq!(open.len(), 0);
}

#[tokio::test]
async fn why_it_ends_names_the_policy_and_its_rule() {
    let table = table(Vec::new());
    let mut entered = table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"));
    change(&table, denies(from("x")), Tunnel::Hbone).await;
    let why = entered.forbidden().await;
    assert_eq!((why.http_status(), why.response_flag().as_str()), (401, "DENY"));
    let why = why.to_string();
    assert!(why.contains("AuthorizationPolicy ns/deny, spec.rules[0] (p.yaml:7)"), "{why}");
}

#[tokio::test]
async fn a_pod_that_left_the_mesh_keeps_what_is_open_until_it_is_back() {
    let table = table(Vec::new());
    let mut entered = table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"));
    change(&table, denies(from("x")), Tunnel::None).await;
    assert_eq!(told(&mut entered), None);
    change(&table, denies(from("x")), Tunnel::Hbone).await;
    assert!(told(&mut entered).is_some());

    // It leaves while its connections are asked.
    drop(entered);
    let mut open: Vec<_> = (0..MANY).map(|_| table.enter(&uid("a"), mesh("y"), socket("10.0.0.1:80"))).collect();
    table.world.store(world(denies(from("y")), Tunnel::Hbone));
    let leaves = async { table.world.store(world(denies(from("y")), Tunnel::None)) };
    tokio::join!(biased; table.enforce(), leaves);
    let first = open.iter_mut().filter_map(told).count();
    assert!((1..=SLICE).contains(&first), "{first}");
    change(&table, denies(from("y")), Tunnel::Hbone).await;
    assert_eq!(open.iter_mut().filter_map(told).count(), MANY - first);
}

#[tokio::test]
async fn what_the_newest_world_admits_is_not_ended_by_the_one_before() {
    let table = table(Vec::new());
    let mut old: Vec<_> = (0..MANY).map(|_| table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"))).collect();
    table.world.store(world(denies(from("x")), Tunnel::Hbone));
    let meanwhile = async {
        // The first of them have been asked by now.
        table.world.store(world(Vec::new(), Tunnel::Hbone));
        table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"))
    };
    let ((), mut new) = tokio::join!(biased; table.enforce(), meanwhile);
    assert!(told(&mut old[0]).is_some(), "the world in between was in force");
    assert_eq!(told(&mut new), None);
    table.enforce().await;
    assert_eq!(told(&mut new), None);
}

#[tokio::test]
async fn no_change_slips_between_entering_asking_and_the_next_change() {
    let table = table(Vec::new());
    let (x, y) = (|| denies(from("x")), || denies(from("y")));
    // The world in force and enforced, the one it is asked by, the one after: workers hear of the last alone.
    for (first, asked, after) in
        [(Vec::new(), Vec::new(), x()), (y(), y(), x()), (x(), y(), x()), (x(), Vec::new(), x())]
    {
        change(&table, first, Tunnel::Hbone).await;
        let _other = table.enter(&uid("a"), mesh("z"), socket("10.0.0.1:80"));
        table.enforce().await;
        let mut entered = table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"));
        table.world.store(world(asked, Tunnel::Hbone));
        assert!(entered.world().policies_of(&uid("a")).is_some());
        change(&table, after, Tunnel::Hbone).await;
        assert!(told(&mut entered).is_some(), "it would be relayed by a world that is no more");
    }
    table.enforce().await;
    assert_eq!(table.pods.borrow().len(), 0, "a pod without connections is forgotten");
}

#[tokio::test]
async fn policies_that_stayed_the_same_are_not_held_against_anything() {
    let table = table(denies(from("y")));
    let _open = table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80"));
    assert_eq!(table.changed(), [uid("a")], "nothing was asked yet");
    assert_eq!(table.changed(), []);
    table.world.store(world(denies(from("y")), Tunnel::Hbone));
    let _more = table.enter(&uid("a"), mesh("x"), socket("10.0.0.1:80")).world();
    assert_eq!(table.changed(), []);
    table.world.store(world(denies(from("z")), Tunnel::Hbone));
    assert_eq!(table.changed(), [uid("a")]);
}
