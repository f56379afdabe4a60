//! What slow, silent and greedy clients can do.

use super::*;

#[tokio::test]
async fn stalled_handshakes_give_way() {
    let mut rig = Rig::with(Limits {
        handshakes: 4,
        handshake: Duration::from_secs(60),
        ..Limits::default()
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(TcpStream::connect(rig.address).await.unwrap());
    }
    // The first four were given up for the others.
    for socket in &mut stalled[..4] {
        closed(socket).await;
    }
    rig.assert_alive().await;
}

#[tokio::test]
async fn silence_is_bounded_in_time() {
    let mut rig = Rig::with(Limits {
        handshake: Duration::from_millis(200),
        first_request: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut before_tls = TcpStream::connect(rig.address).await.unwrap();
    let known = rig.ca.client(&[GOOD]);
    let mut after_tls = rig.connect(Some(&known), &[b"h2"]).await;
    let mut after_preface = rig.connect(Some(&known), &[b"h2"]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    after_preface.write_all(preface).await.unwrap();
    closed(&mut before_tls).await;
    closed(&mut after_tls).await;
    closed(&mut after_preface).await;
    // Who is denied may not stay; who is served may.
    let stranger = rig.ca.client(&[UNKNOWN]);
    let io = rig.connect(Some(&stranger), &[b"h2"]).await;
    let io = hyper_util::rt::TokioIo::new(io);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("https://localhost/").body(tonic::body::Body::empty());
    let response = client.send_request(request.unwrap()).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut envoy = rig.envoy().await;
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    ended.expect("still open").unwrap().ok();
    envoy.subscribe(Kind::Cluster).await;
    assert_eq!(envoy.next().await.unwrap().len(), 1);
    rig.assert_alive().await;
}

/// A client that keeps its connection and no more: it does not answer a PING.
#[tokio::test]
async fn a_half_open_connection_is_found_out() {
    let mut rig = Rig::with(Limits {
        keepalive: (Duration::from_millis(100), Duration::from_millis(200)),
        first_request: Duration::from_secs(60),
        ..Limits::default()
    })
    .await;
    let mut dead = rig.connect(Some(&rig.ca.client(&[GOOD])), &[b"h2"]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    dead.write_all(preface).await.unwrap();
    closed(&mut dead).await;
    rig.assert_alive().await;
}

#[tokio::test]
async fn connections_and_streams_are_counted() {
    let rig = Rig::with(Limits {
        connections: 2,
        streams: 2,
        ..Limits::default()
    })
    .await;
    let known = rig.ca.client(&[GOOD]);
    let channel = rig.channel(&known).await;
    let _first = Envoy::open(channel.clone()).await.unwrap();
    let second = Envoy::open(channel.clone()).await.unwrap();
    // The third stream of a connection waits for a place.
    let mut third = Box::pin(Envoy::open(channel.clone()));
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
    assert!(waits.is_err());
    drop(second);
    third.await.unwrap();

    let _other = rig.envoy().await;
    let mut one_more = rig.connect(Some(&known), &[b"h2"]).await;
    assert_eq!(closed(&mut one_more).await, b"");
    assert_eq!(rig.metrics.turned_away_total(), 1);
}

#[tokio::test]
async fn requests_beyond_the_bounds_end_their_stream_alone() {
    let mut rig = Rig::with(Limits {
        message: 100_000,
        ..Limits::default()
    })
    .await;
    let channel = rig.channel(&rig.ca.client(&[GOOD])).await;
    let mut bystander = Envoy::open(channel.clone()).await.unwrap();
    let names = |count: usize, length: usize| DeltaDiscoveryRequest {
        type_url: Kind::Secret.type_url().to_owned(),
        resource_names_subscribe: vec!["x".repeat(length); count],
        ..Default::default()
    };
    for (request, code) in [
        (
            names(1, crate::machine::MAX_NAME + 1),
            Code::InvalidArgument,
        ),
        (names(1, 100_001), Code::OutOfRange),
    ] {
        let mut envoy = Envoy::open(channel.clone()).await.unwrap();
        envoy.requests.send(request).await.unwrap();
        assert_eq!(envoy.next().await.unwrap_err().code(), code);
        assert!(rig.heard().await.ends_with("closed"));
    }
    bystander.subscribe(Kind::Cluster).await;
    assert_eq!(bystander.next().await.unwrap().len(), 1);
}

/// A client that asks and does not read: the server makes no more than one response, whatever
/// happens, and ends the stream after a while.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut rig = Rig::with(Limits {
        stall: Duration::from_millis(300),
        drain: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let big = |version| {
        clusters(&[
            ("a", version, 3 << 20),
            ("b", version, 3 << 20),
            ("c", version, 3 << 20),
        ])
    };
    rig.resources.send_replace(big(1));
    let mut reader = rig.envoy().await;
    let slow = rig.envoy().await;
    reader.subscribe(Kind::Cluster).await;
    slow.subscribe(Kind::Cluster).await;
    slow.subscribe(Kind::Listener).await;
    slow.subscribe(Kind::Endpoints).await;
    // It acknowledges what it has not read.
    for nonce in 1..200 {
        let request = DeltaDiscoveryRequest {
            type_url: Kind::Cluster.type_url().to_owned(),
            response_nonce: format!("{nonce:x}"),
            ..Default::default()
        };
        if slow.requests.try_send(request).is_err() {
            break;
        }
    }
    for version in 2..50 {
        rig.resources.send_replace(big(version));
    }
    let mut closed = 0;
    while closed == 0 {
        if rig.heard().await == "2 closed" {
            closed += 1;
        }
    }
    assert_eq!(rig.metrics.streams(), 1);
    assert_eq!(reader.next().await.unwrap().len(), 1);
}
