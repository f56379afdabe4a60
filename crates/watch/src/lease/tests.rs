use super::*;
use crate::mock::Mock;

const TIMING: Timing = Timing::OPENSHIFT;

fn machine() -> Machine {
    Machine::new("me", TIMING)
}

fn lease(holder: &str, renewed: i64) -> Lease {
    Lease {
        metadata: ObjectMeta {
            resource_version: Some("1".into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: (!holder.is_empty()).then(|| holder.into()),
            lease_duration_seconds: Some(137),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).expect("a time"))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }),
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn what_is_free_or_ones_own_is_taken_at_once() {
    let now = Instant::now();
    assert_eq!(machine().decide(None, now), Action::Create);
    assert_eq!(machine().decide(Some(&lease("", 0)), now), Action::Take);
    assert_eq!(machine().decide(Some(&Lease::default()), now), Action::Take);
    assert_eq!(machine().decide(Some(&lease("me", 0)), now), Action::Renew);
}

#[test]
fn anothers_is_taken_once_no_sign_of_life_was_seen_for_its_duration() {
    let start = Instant::now();
    let mut machine = machine();
    // However old its time says that it is: clocks differ.
    let mut look =
        |renewed, after| machine.decide(Some(&lease("other", renewed)), start + seconds(after));
    assert_eq!(look(0, 0), Action::Wait(seconds(26)));
    assert_eq!(look(0, 26), Action::Wait(seconds(26)));
    assert_eq!(look(26, 52), Action::Wait(seconds(26)));
    assert_eq!(look(26, 188), Action::Wait(seconds(1)));
    assert_eq!(look(26, 189), Action::Take);
}

#[test]
fn the_holder_stops_before_another_may_begin() {
    let start = Instant::now();
    let mut machine = machine();
    machine.written(start);
    assert!(machine.leads(start + seconds(106)));
    assert!(!machine.leads(start + seconds(107)));
    assert!(TIMING.deadline < TIMING.duration && TIMING.retry * 3 < TIMING.deadline);
    machine.written(start + seconds(26));
    assert!(machine.leads(start + seconds(132)));
    // Somebody took it all the same.
    machine.decide(Some(&lease("other", 0)), start + seconds(52));
    assert!(!machine.leads(start + seconds(52)));
}

#[test]
fn what_is_written_counts_transitions_and_keeps_the_resource_version() {
    let now = Timestamp::from_second(1000).expect("a time");
    let metadata = ObjectMeta {
        name: Some("l".into()),
        ..ObjectMeta::default()
    };
    let written = |last: Option<&Lease>| machine().lease(last, &metadata, now);
    let created = written(None);
    assert_eq!(created.metadata, metadata);
    assert_eq!(
        created
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_transitions),
        Some(0)
    );
    assert_eq!(
        created
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds),
        Some(137)
    );

    let taken = written(Some(&lease("other", 0)));
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("1"));
    let spec = taken.spec.expect("a spec");
    assert_eq!(
        (spec.lease_transitions, spec.holder_identity.as_deref()),
        (Some(4), Some("me"))
    );
    assert_eq!(spec.acquire_time, Some(MicroTime(now)));

    let renewed = written(Some(&lease("me", 0))).spec.expect("a spec");
    assert_eq!(
        (renewed.lease_transitions, renewed.acquire_time),
        (Some(3), None)
    );
    assert_eq!(renewed.renew_time, Some(MicroTime(now)));
}

const SHORT: Timing = Timing {
    duration: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    retry: Duration::from_millis(100),
};

fn join(mock: &Mock, identity: &str) -> LeaseHolder {
    let metadata = ObjectMeta {
        name: Some("l".into()),
        namespace: Some("n".into()),
        ..ObjectMeta::default()
    };
    LeaseHolder::spawn(mock.client(), metadata, identity, SHORT)
}

async fn leads(holder: &LeaseHolder, awaited: bool) {
    let mut leader = holder.leader();
    let wait = leader.wait_for(|leads| *leads == awaited);
    tokio::time::timeout(seconds(20), wait)
        .await
        .expect("in time")
        .expect("alive");
}

fn count(mock: &Mock, method: &str) -> usize {
    mock.requests()
        .iter()
        .filter(|request| request.starts_with(method))
        .count()
}

#[tokio::test]
async fn one_leads_and_another_follows_when_it_lets_go() {
    let mock = Mock::new(&[]);
    let first = join(&mock, "first");
    leads(&first, true).await;
    let second = join(&mock, "second");
    // The first renews by replacing; it was created by one apply, without force.
    let renewals = count(&mock, "PUT");
    while count(&mock, "PUT") < renewals + 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(*first.leader().borrow() && !*second.leader().borrow());
    let applies: Vec<String> = mock
        .requests()
        .into_iter()
        .filter(|request| request.starts_with("PATCH"))
        .collect();
    assert_eq!(applies.len(), 1, "{applies:?}");
    assert!(
        applies[0].contains("fieldManager=first") && !applies[0].contains("force=true"),
        "{applies:?}"
    );

    first.release().await;
    leads(&second, true).await;
    let lease = mock
        .get("coordination.k8s.io/v1/leases", "n", "l")
        .expect("it is there");
    assert_eq!(lease["spec"]["holderIdentity"], "second");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_another_begins() {
    let mock = Mock::new(&[]);
    let first = join(&mock, "first");
    leads(&first, true).await;
    mock.deny("leases/l");
    leads(&first, false).await;
    let second = join(&mock, "second");
    drop(first);
    assert!(!*second.leader().borrow());
    mock.allow("leases/l");
    leads(&second, true).await;
}

#[test]
fn a_timing_must_be_sound() {
    assert_eq!(Timing::of_seconds(&[137, 107, 26]), Some(Timing::OPENSHIFT));
    for bad in [&[1, 2, 3][..], &[3, 2], &[3, 2, 0], &[2, 2, 1]] {
        assert_eq!(Timing::of_seconds(bad), None, "{bad:?}");
    }
}
