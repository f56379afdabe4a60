//! Leaving without failing a request.
//!
//! The order: readiness fails at once, so that the endpoint is taken out of every list; Envoy
//! asks its clients to go elsewhere (`Connection: close`, GOAWAY) but goes on accepting, since
//! the news takes its time; after the shortest wait it ends as soon as nobody is connected, at
//! the latest after the longest.

use std::time::Duration;

use crate::admin::{Admin, AdminError};
use crate::readiness::counters;

/// How often connections are counted.
const POLL: Duration = Duration::from_millis(200);

const CONNECTIONS: &str = r"/stats?filter=^listener\..*\.downstream_cx_active$";

/// How long leaving may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Wait at least so long, connected clients or not: time for the endpoint's removal to reach
    /// every load balancer.
    pub min: Duration,
    /// End Envoy after so long, whoever is still connected.
    pub max: Duration,
    /// How long Envoy may take to end after SIGTERM before it gets SIGKILL.
    pub grace: Duration,
}

/// Drains: comes back when Envoy may be ended.
pub async fn drain(admin: &Admin, times: Times) {
    // Time to tell Envoy at least, which a stuck one does not stretch.
    let longest = times.max.max(Duration::from_secs(1));
    let leave = async {
        begin(admin).await;
        quiet(admin, times.min.min(times.max)).await;
    };
    match tokio::time::timeout(longest, leave).await {
        Ok(()) => tracing::info!("drained: nobody is connected"),
        Err(_) => tracing::warn!("the time to drain is over, with clients connected"),
    }
}

/// Asks Envoy to send its clients elsewhere while it still accepts them. A failure is logged:
/// leaving goes on.
async fn begin(admin: &Admin) {
    for path in ["/healthcheck/fail", "/drain_listeners?graceful&skip_exit"] {
        if let Err(error) = admin.post(path).await {
            tracing::warn!(path, %error, "Envoy was not told to drain");
        }
    }
}

/// Waits until `least` is over and nobody is connected.
async fn quiet(admin: &Admin, least: Duration) {
    tokio::time::sleep(least).await;
    loop {
        match connections(admin).await {
            Ok(0) => return,
            Ok(active) => tracing::debug!(active, "draining"),
            Err(error) => tracing::debug!(%error, "draining"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Connections from clients, all listeners together.
///
/// # Errors
///
/// Where Envoy does not answer.
pub async fn connections(admin: &Admin) -> Result<u64, AdminError> {
    Ok(count(&admin.get(CONNECTIONS).await?))
}

/// The sum over listeners: not the admin interface's own, and not the parts per worker, which
/// are in the sum.
fn count(stats: &str) -> u64 {
    counters(stats)
        .filter(|(name, _)| !name.starts_with("listener.admin.") && !is_of_one_worker(name))
        .map(|(_, value)| value)
        .sum()
}

fn is_of_one_worker(name: &str) -> bool {
    name.strip_suffix(".downstream_cx_active")
        .and_then(|rest| rest.rsplit_once(".worker_"))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_once_and_without_our_own() {
        let stats = "listener.admin.downstream_cx_active: 1
listener.admin.main_thread.downstream_cx_active: 1
listener.0.0.0.0_8080.downstream_cx_active: 3
listener.0.0.0.0_8080.worker_0.downstream_cx_active: 2
listener.0.0.0.0_8080.worker_11.downstream_cx_active: 1
listener.[__]_8443.downstream_cx_active: 4
listener.worker_x.downstream_cx_active: 8
";
        assert_eq!(count(stats), 15);
        assert_eq!(count(""), 0);
    }
}
