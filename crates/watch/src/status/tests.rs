use std::time::Duration;

use postern_refs::objects::ParentRef;
use postern_refs::status::{Condition, ParentStatus, RouteStatus, Status, Truth};
use postern_refs::{Key, Kind};
use serde_json::json;

use super::*;
use crate::kube::{KubeSource, Options};
use crate::mock::Mock;
use crate::scope::{Scope, Watch};

const ROUTES: &str = "gateway.networking.k8s.io/v1/httproutes";

struct World {
    mock: Mock,
    source: KubeSource,
    writer: StatusWriter,
    leader: watch::Sender<bool>,
}

/// A server with `routes` routes, a source that has read them, and a writer.
async fn world(routes: usize, leads: bool) -> World {
    let mock = Mock::gateway_api();
    for number in 0..routes {
        mock.put(ROUTES, &route(&format!("r{number}")));
    }
    let scope = Scope::from([Watch::namespace(Kind::HttpRoute, "n")]);
    let source = KubeSource::spawn(mock.clients(), scope, Options::new(Some("n".into())));
    source
        .snapshots()
        .wait_for(Option::is_some)
        .await
        .expect("the source lives");
    let leader = watch::Sender::new(leads);
    let writer = StatusWriter::spawn(
        mock.client(),
        source.kinds(),
        source.observed(),
        leader.subscribe(),
    );
    World {
        mock,
        source,
        writer,
        leader,
    }
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"namespace": "n", "name": name}, "spec": {"parentRefs": [{"name": "g"}]},
    })
}

fn statuses(routes: usize, reason: &str) -> Arc<Statuses> {
    let status = Status::Route(RouteStatus {
        parents: vec![ParentStatus {
            parent: ParentRef {
                group: postern_api::GATEWAY_GROUP.into(),
                kind: "Gateway".into(),
                namespace: None,
                name: "g".into(),
                section: None,
                port: None,
            },
            conditions: vec![Condition {
                kind: "Accepted".into(),
                status: Truth::True,
                reason: reason.into(),
                message: "m".into(),
                observed_generation: 1,
            }],
        }],
    });
    let status = Arc::new(status);
    let of = |number| {
        (
            (Kind::HttpRoute, Key::new("n", format!("r{number}"))),
            Arc::clone(&status),
        )
    };
    Arc::new((0..routes).map(of).collect())
}

/// That nothing happens shows in no event.
async fn longer_than_any_hold_off() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

impl World {
    /// Waits until so much was done.
    async fn done(&self, meets: impl Fn(&Written) -> bool) -> Written {
        let mut written = self.writer.written();
        let wait = written.wait_for(|written| meets(written));
        *tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("in time")
            .expect("the writer lives")
    }

    fn reason(&self, name: &str) -> Option<String> {
        let object = self.mock.get(ROUTES, "n", name)?;
        Some(
            object
                .pointer("/status/parents/0/conditions/0/reason")?
                .as_str()?
                .into(),
        )
    }

    fn writes(&self) -> usize {
        self.mock
            .requests()
            .iter()
            .filter(|request| request.starts_with("PUT"))
            .count()
    }

    /// Waits until the watch has told the writer of everything that it wrote.
    async fn settled(&self, meant: &Statuses) {
        let observed = self.source.observed();
        let mut changes = observed.changes();
        let same = |observed: &Observed| {
            meant.iter().all(|((kind, key), status)| {
                observed
                    .get(*kind, key)
                    .is_some_and(|seen| seen.digest == Some(crate::digest(status)))
            })
        };
        while !same(&observed) {
            tokio::time::timeout(Duration::from_secs(30), changes.changed())
                .await
                .expect("in time")
                .expect("alive");
        }
    }
}

#[tokio::test]
async fn each_status_is_written_once_and_an_idle_writer_writes_nothing() {
    let world = world(100, true).await;
    let meant = statuses(100, "First");
    world.writer.set(Arc::clone(&meant));
    world.done(|written| written.written == 100).await;
    world.settled(&meant).await;
    // The same again, as new values: nothing to say.
    world.writer.set(statuses(100, "First"));
    let meant = statuses(100, "Second");
    world.writer.set(Arc::clone(&meant));
    let written = world.done(|written| written.written == 200).await;
    assert_eq!(
        written,
        Written {
            written: 200,
            ..Written::default()
        }
    );
    world.settled(&meant).await;
    assert_eq!(
        (world.writes(), world.reason("r99").as_deref()),
        (200, Some("Second"))
    );
}

#[tokio::test]
async fn only_the_leader_writes() {
    let world = world(3, false).await;
    world.writer.set(statuses(3, "First"));
    // Something that the writer must have seen by the time the last of it arrives.
    let mut changes = world.source.observed().changes();
    changes.borrow_and_update();
    world.mock.put(ROUTES, &route("another"));
    changes.changed().await.expect("alive");
    longer_than_any_hold_off().await;
    assert_eq!(world.writes(), 0);
    world.leader.send_replace(true);
    world.done(|written| written.written == 3).await;
    world.leader.send_replace(false);
    world.writer.set(statuses(3, "Second"));
    world.mock.put(ROUTES, &route("one-more"));
    changes.changed().await.expect("alive");
    longer_than_any_hold_off().await;
    assert_eq!(world.reason("r0").as_deref(), Some("First"));
}

#[tokio::test]
async fn conflicts_are_read_again_and_foreign_entries_survive() {
    let world = world(1, true).await;
    let mut object = route("r0");
    object["status"] = json!({"parents": [{"controllerName": "other.example/c", "parentRef": {"name": "x"}, "conditions": []}]});
    world.mock.put(ROUTES, &object);
    world.mock.conflict(3);
    world.writer.set(statuses(1, "First"));
    world.done(|written| written.written == 1).await;
    let written = world.mock.get(ROUTES, "n", "r0").expect("it is there");
    assert_eq!(
        written["status"]["parents"][0],
        object["status"]["parents"][0]
    );
    assert_eq!(
        written["status"]["parents"][1]["controllerName"],
        postern_api::CONTROLLER_NAME
    );
    assert_eq!(world.writer.written().borrow().failed, 0);
    assert_eq!(world.writes(), 4);
}

#[tokio::test]
async fn one_that_fails_holds_up_nobody_and_is_tried_again() {
    let world = world(30, true).await;
    world.mock.deny("httproutes/r7");
    world.writer.set(statuses(30, "First"));
    world
        .done(|written| written.written == 29 && written.failed >= 2)
        .await;
    assert_eq!(world.reason("r7"), None);
    world.mock.allow("httproutes/r7");
    world.done(|written| written.written == 30).await;
    assert_eq!(world.reason("r7").as_deref(), Some("First"));
}

#[tokio::test]
async fn what_is_written_over_is_put_right_and_what_is_left_out_is_taken_away() {
    let world = world(2, true).await;
    let meant = statuses(2, "First");
    world.writer.set(Arc::clone(&meant));
    world.done(|written| written.written == 2).await;
    world.settled(&meant).await;
    world.mock.put(ROUTES, &route("r0"));
    world.done(|written| written.written == 3).await;
    assert_eq!(world.reason("r0").as_deref(), Some("First"));
    // No parent of ours any more.
    world.writer.set(statuses(1, "First"));
    world.done(|written| written.written == 4).await;
    assert_eq!(
        world.mock.get(ROUTES, "n", "r1").expect("there")["status"],
        json!({"parents": []})
    );
    // A route that is deleted is forgotten.
    world.mock.delete(ROUTES, "n", "r0");
    world.writer.set(statuses(1, "Second"));
    world.mock.put(ROUTES, &route("r0"));
    world.done(|written| written.written >= 5).await;
    assert_eq!(world.reason("r0").as_deref(), Some("Second"));
}
