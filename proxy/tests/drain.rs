//! Leaving, with a real Envoy.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, Files, directory, envoy_binary, eventually, exchange, get, listener_address, phase,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postern_proxy::drain::Times;
use postern_proxy::readiness::Phase;
use postern_proxy::{Settings, Stop, Supervisor};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A ready Envoy with one listener that answers.
async fn ready(root: &std::path::Path, settings: &Settings) -> Supervisor {
    let files = Files::new(root);
    files.listener();
    files.routes("hello");
    let supervisor = files.start(settings).await;
    phase(&supervisor, Phase::Ready).await;
    supervisor
}

#[tokio::test]
async fn it_waits_for_clients_and_sends_them_away() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let settings = common::settings(envoy, root.path());
    let supervisor = ready(root.path(), &settings).await;
    let address = listener_address(&supervisor).await;
    let readiness = supervisor.readiness_address();
    let metrics = supervisor.metrics_address();
    let admin = supervisor.admin().clone();

    // Two clients: one that asks again, one that is silent.
    let mut asking = TcpStream::connect(address).await.unwrap();
    assert!(
        !exchange(&mut asking, "hello")
            .await
            .contains("connection: close")
    );
    let mut silent = TcpStream::connect(address).await.unwrap();
    exchange(&mut silent, "hello").await;

    let (stop, mut stops) = mpsc::channel(1);
    let mut phases = supervisor.phase();
    let run = tokio::spawn(async move { supervisor.run(&mut stops).await });
    stop.send(Stop).await.unwrap();
    phases.wait_for(|p| *p == Phase::Draining).await.unwrap();
    let (status, body) = get(readiness, "/ready").await;
    assert_eq!(status, 503);
    assert!(body.ends_with("draining\n"), "{body}");

    // The one that asks is answered, and told to go; newcomers are served all the same, since
    // load balancers hear of it later.
    eventually("Envoy's drain", || async {
        let info = admin.get("/server_info").await.ok()?;
        info.contains("DRAINING").then_some(())
    })
    .await;
    let head = exchange(&mut asking, "hello").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    drop(asking);
    // (These clients close by themselves, as clients do that are told to. Envoy itself gives them
    // `drain_timeout` and `delayed_close_timeout`, six seconds by default.)
    for _ in 0..3 {
        let mut newcomer = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut newcomer, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(get(metrics, "/metrics").await.0, 200);
    }
    assert!(!run.is_finished());

    // The last client leaves: so does Envoy.
    drop(silent);
    let status = tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
    assert!(TcpStream::connect(address).await.is_err());
    assert!(TcpStream::connect(readiness).await.is_err());
}

#[tokio::test]
async fn it_waits_no_longer_than_it_may() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut settings = common::settings(envoy, root.path());
    settings.drain = Times {
        min: Duration::ZERO,
        max: Duration::from_secs(1),
        grace: Duration::from_secs(5),
    };
    let supervisor = ready(root.path(), &settings).await;
    let mut client = TcpStream::connect(listener_address(&supervisor).await)
        .await
        .unwrap();
    exchange(&mut client, "hello").await;
    let (stop, mut stops) = mpsc::channel(1);
    stop.send(Stop).await.unwrap();
    let begun = Instant::now();
    let status = tokio::time::timeout(DEADLINE, supervisor.run(&mut stops))
        .await
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_waits_at_least_as_long_as_it_must() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut settings = common::settings(envoy, root.path());
    settings.drain.min = Duration::from_secs(1);
    let supervisor = ready(root.path(), &settings).await;
    let (stop, mut stops) = mpsc::channel(1);
    stop.send(Stop).await.unwrap();
    let begun = Instant::now();
    let status = supervisor.run(&mut stops).await.unwrap();
    // Nobody was connected.
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn told_again_it_ends_at_once() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut settings = common::settings(envoy, root.path());
    settings.drain.min = DEADLINE;
    let supervisor = ready(root.path(), &settings).await;
    let (stop, mut stops) = mpsc::channel(2);
    stop.send(Stop).await.unwrap();
    let begun = Instant::now();
    let mut phases = supervisor.phase();
    let run = tokio::spawn(async move { supervisor.run(&mut stops).await });
    phases.wait_for(|p| *p == Phase::Draining).await.unwrap();
    stop.send(Stop).await.unwrap();
    assert_eq!(run.await.unwrap().unwrap().code(), Some(0));
    assert!(begun.elapsed() < DEADLINE / 2);
}

/// A process that is stopped does not hear SIGTERM.
#[tokio::test]
async fn an_envoy_that_does_not_end_is_killed() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut settings = common::settings(envoy, root.path());
    settings.drain = Times {
        min: Duration::ZERO,
        max: Duration::ZERO,
        grace: Duration::from_millis(100),
    };
    let supervisor = ready(root.path(), &settings).await;
    let pid = Pid::from_raw(i32::try_from(supervisor.envoy_pid()).unwrap());
    let (stop, mut stops) = mpsc::channel(1);
    kill(pid, Signal::SIGSTOP).unwrap();
    stop.send(Stop).await.unwrap();
    let status = tokio::time::timeout(2 * DEADLINE, supervisor.run(&mut stops))
        .await
        .unwrap();
    assert_eq!(status.unwrap().signal(), Some(9));
}

#[tokio::test]
async fn when_envoy_dies_it_is_not_ready_and_its_status_comes_back() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let settings = common::settings(envoy, root.path());
    let supervisor = ready(root.path(), &settings).await;
    let pid = Pid::from_raw(i32::try_from(supervisor.envoy_pid()).unwrap());
    let phases = supervisor.phase();
    let (_stop, mut stops) = mpsc::channel(1);
    kill(pid, Signal::SIGKILL).unwrap();
    let status = supervisor.run(&mut stops).await.unwrap();
    assert_eq!(status.signal(), Some(9));
    assert_eq!(*phases.borrow(), Phase::Draining);
}
