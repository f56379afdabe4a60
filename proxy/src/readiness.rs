//! When an Envoy may be sent traffic.
//!
//! A fresh Envoy is ready when it *holds* acknowledged listeners and route tables, never before.
//! Envoy's own word is not enough: after a refused route table it says `LIVE` and answers 404.
//! Once ready it stays ready while it serves, whatever becomes of its control plane, until it
//! drains or dies.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::Admin;

/// Time between two looks at an Envoy that is not ready yet, at first.
const POLL: Duration = Duration::from_millis(100);
/// The same, once it has not become ready soon: it waits for its control plane.
const POLL_LATER: Duration = Duration::from_millis(500);
/// Looks at the short interval.
const SOON: u32 = 100;

/// The statistics that [`judge`] goes by.
const STATS: &str = concat!(
    "/stats?filter=",
    r"^(listener_manager\.(lds\.update_success|total_listeners_warming|workers_started)",
    r"|cluster_manager\.cds\.update_success",
    r"|http\..*\.rds\..*\.config_reload)$"
);

/// What an Envoy still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The control plane's port does not answer: Envoy is not started yet.
    ControlPlane,
    /// Its admin interface does not answer yet, or says that it initializes.
    Envoy,
    /// No set of clusters was taken.
    Clusters,
    /// No set of listeners was taken.
    Listeners,
    /// Listeners wait for their routes or certificates, or for workers to start.
    Warming,
    /// Route tables that listeners name were refused, or do not exist.
    Routes {
        /// How many.
        absent: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane => f.write_str("the control plane to answer"),
            Self::Envoy => f.write_str("Envoy to start"),
            Self::Clusters => f.write_str("clusters from the control plane"),
            Self::Listeners => f.write_str("listeners from the control plane"),
            Self::Warming => f.write_str("listeners to get routes and certificates, and to open"),
            Self::Routes { absent } => write!(f, "{absent} route tables that Envoy has not taken"),
        }
    }
}

/// The life of an Envoy; only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not to be sent traffic yet.
    Starting(Waiting),
    /// To be sent traffic.
    Ready,
    /// No longer to be sent traffic.
    Draining,
}

/// What Envoy's statistics say, in the text form of `/stats`: `None` when it is ready.
///
/// `config_reload` of a route table counts the tables that were loaded. `update_success` would not
/// do: it also counts the answer that the table does not exist.
pub fn judge(stats: &str) -> Option<Waiting> {
    let mut clusters = 0;
    let mut listeners = 0;
    let mut warming = None;
    let mut workers = 0;
    let mut absent = 0;
    for (name, value) in counters(stats) {
        match name {
            "cluster_manager.cds.update_success" => clusters = value,
            "listener_manager.lds.update_success" => listeners = value,
            "listener_manager.total_listeners_warming" => warming = Some(value),
            "listener_manager.workers_started" => workers = value,
            _ if is_route_table(name) && value == 0 => absent += 1,
            _ => {}
        }
    }
    if clusters == 0 {
        Some(Waiting::Clusters)
    } else if listeners == 0 {
        Some(Waiting::Listeners)
    } else if warming != Some(0) || workers == 0 {
        // The listeners of the first answer are not counted as warming: workers wait for them.
        Some(Waiting::Warming)
    } else if absent > 0 {
        Some(Waiting::Routes { absent })
    } else {
        None
    }
}

fn is_route_table(name: &str) -> bool {
    name.starts_with("http.") && name.contains(".rds.") && name.ends_with(".config_reload")
}

/// Names and values of counters and gauges; histograms and texts are passed over.
pub(crate) fn counters(stats: &str) -> impl Iterator<Item = (&str, u64)> {
    stats.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name, value.parse().ok()?))
    })
}

async fn look(admin: &Admin) -> Option<Waiting> {
    let Ok(stats) = admin.get(STATS).await else {
        return Some(Waiting::Envoy);
    };
    if let Some(waiting) = judge(&stats) {
        return Some(waiting);
    }
    // 200 for `LIVE` alone. Asked last, so that statistics say what it initializes with.
    match admin.get("/ready").await {
        Ok(_) => None,
        Err(_) => Some(Waiting::Envoy),
    }
}

/// Looks at Envoy until it is ready once or drains, and says so in `phase`.
pub async fn watch_envoy(admin: Admin, phase: watch::Sender<Phase>) {
    let mut looks: u32 = 0;
    loop {
        let next = look(&admin).await.map_or(Phase::Ready, Phase::Starting);
        let mut over = true;
        phase.send_if_modified(|phase| {
            let starting = matches!(phase, Phase::Starting(_));
            over = !starting || next == Phase::Ready;
            let changed = starting && *phase != next;
            if changed {
                *phase = next;
                match next {
                    Phase::Starting(waiting) => tracing::info!("waiting for {waiting}"),
                    Phase::Ready => tracing::info!("ready"),
                    Phase::Draining => {}
                }
            }
            changed
        });
        if over {
            return;
        }
        looks = looks.saturating_add(1);
        tokio::time::sleep(if looks < SOON { POLL } else { POLL_LATER }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "cluster_manager.cds.update_success: 1
http.in.rds.t/one.config_reload: 3
http.in.rds.t/two.config_reload: 1
listener_manager.lds.update_success: 1
listener_manager.total_listeners_warming: 0
listener_manager.workers_started: 1
";

    #[test]
    fn everything_taken_is_ready() {
        assert_eq!(judge(READY), None);
    }

    #[test]
    fn no_listener_at_all_is_ready_once_the_answer_is_in() {
        let none: String = READY
            .lines()
            .filter(|l| !l.starts_with("http."))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(judge(&none), None);
    }

    #[test]
    fn each_part_can_be_what_is_missing() {
        for (from, to, waiting) in [
            (
                "cds.update_success: 1",
                "cds.update_success: 0",
                Waiting::Clusters,
            ),
            (
                "lds.update_success: 1",
                "lds.update_success: 0",
                Waiting::Listeners,
            ),
            ("warming: 0", "warming: 2", Waiting::Warming),
            ("started: 1", "started: 0", Waiting::Warming),
            (
                "one.config_reload: 3",
                "one.config_reload: 0",
                Waiting::Routes { absent: 1 },
            ),
        ] {
            assert!(READY.contains(from));
            assert_eq!(judge(&READY.replace(from, to)), Some(waiting));
        }
    }

    #[test]
    fn an_empty_or_strange_answer_is_not_ready() {
        assert_eq!(judge(""), Some(Waiting::Clusters));
        assert_eq!(judge("<html>: 1\n: \nx"), Some(Waiting::Clusters));
        // A statistic that the inclusion list no longer makes must not read as zero.
        let without: String = READY.replace("listener_manager.total_listeners_warming: 0\n", "");
        assert_eq!(judge(&without), Some(Waiting::Warming));
    }

    #[test]
    fn only_route_tables_count_as_route_tables() {
        let more = "http.in.scoped_rds.x.config_reload: 0\ncluster_manager.cds.config_reload: 0\n\
                    cluster.http.a.rds.b.config_reload: 0\nhttp.in.rds.x.version_text: \"\"\n";
        assert_eq!(judge(&format!("{READY}{more}")), None);
    }
}
