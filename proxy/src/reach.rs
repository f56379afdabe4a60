//! Whether the control plane's port answers.
//!
//! Envoy is not started before it does: an attempt that cannot succeed is a failed update to Envoy
//! (`update_failure` of every subscription), and a fresh Envoy has nothing to serve meanwhile. So a
//! count above zero means that a control plane was lost, never that a pod was early.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::identity::{Authority, Host};

/// Pause after a first attempt that failed; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one attempt may take: a policy that is not in force yet drops packets.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Returns once a connection to the port was accepted. Who answers is for Envoy's handshake to judge.
pub async fn control_plane(xds: &Authority) {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        let attempt = tokio::time::timeout(ATTEMPT, connect(xds)).await;
        let error = match attempt {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if told {
            tracing::debug!(%xds, error, "the control plane does not answer");
        } else {
            tracing::info!(%xds, error, "waiting for the control plane");
            told = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(xds: &Authority) -> io::Result<TcpStream> {
    match &xds.host {
        Host::Ip(address) => TcpStream::connect((*address, xds.port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), xds.port)).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn it_waits_until_somebody_listens() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let xds: Authority = address.to_string().parse().unwrap();
        let waiting = tokio::spawn(async move { control_plane(&xds).await });
        tokio::time::sleep(PAUSE * 2).await;
        assert!(!waiting.is_finished(), "nobody listens");
        let _listener = TcpListener::bind(address).await.unwrap();
        waiting.await.unwrap();
    }
}
