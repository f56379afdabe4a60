//! The command line. Each option can be given by an environment variable too.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::drain::Times;
use crate::envoy::{self, EnvoyLogLevel, Launch, LogFormat};
use crate::identity::{Authority, Identity};
use crate::supervisor::Settings;

/// Most workers that are started without being asked for. Each costs memory for every cluster.
const MAX_DEFAULT_WORKERS: usize = 4;
/// Descriptors that are not for clients' connections: files, the control plane, listeners.
const SPARE_DESCRIPTORS: u64 = 128;

/// Runs one Envoy of a Postern gateway.
#[derive(Debug, Parser)]
#[command(name = "postern-proxy", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start Envoy, say when it is ready, drain it on SIGTERM, and end with its exit status.
    Run(Box<Run>),
    /// Become Envoy, tied to the supervisor. Not for people.
    #[command(name = envoy::TETHER, hide = true)]
    ExecEnvoy {
        /// The supervisor's process id.
        parent: u32,
        /// Envoy.
        program: OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the control plane serves xDS.
    #[arg(long, env = "POSTERN_XDS", value_name = "HOST:PORT")]
    pub xds: Authority,

    /// This Envoy's identity; the control plane's certificate must carry the one that belongs to
    /// it (`…/controlplane` of the same instance).
    #[arg(long, env = "POSTERN_IDENTITY", value_name = "spiffe://…")]
    pub identity: Identity,

    /// Server name in the TLS handshake with the control plane [default: the host of --xds, if it
    /// is a name].
    #[arg(long, env = "POSTERN_XDS_SERVER_NAME", value_name = "NAME")]
    pub xds_server_name: Option<String>,

    /// Name of this Envoy in the control plane's log; it picks nothing [default: the host name].
    #[arg(long, env = "POSTERN_NODE_ID", value_name = "NAME")]
    pub node_id: Option<String>,

    /// Directory with tls.crt, tls.key and ca.crt: the mounted Secret. Files that are renamed into
    /// it are taken up while running.
    #[arg(long, env = "POSTERN_TLS_DIR", value_name = "DIR")]
    pub tls_dir: PathBuf,

    /// Directory for the bootstrap and the admin socket. Created with mode 0700; must not be the
    /// root of a volume that belongs to another user (name a directory inside it).
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Where `GET /ready` is answered.
    #[arg(
        long,
        env = "POSTERN_READINESS_ADDRESS",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:15021"
    )]
    pub readiness_address: SocketAddr,

    /// Where `GET /metrics` is answered.
    #[arg(
        long,
        env = "POSTERN_METRICS_ADDRESS",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:15020"
    )]
    pub metrics_address: SocketAddr,

    /// On SIGTERM, wait at most so long for clients to leave. The pod's grace period must be longer
    /// by --kill-seconds and a little.
    #[arg(
        long,
        env = "POSTERN_DRAIN_SECONDS",
        value_name = "N",
        default_value_t = 30
    )]
    pub drain_seconds: u32,

    /// On SIGTERM, wait at least so long, for load balancers to hear of it.
    #[arg(
        long,
        env = "POSTERN_MIN_DRAIN_SECONDS",
        value_name = "N",
        default_value_t = 5
    )]
    pub min_drain_seconds: u32,

    /// After the drain, kill Envoy when it has not ended in so long.
    #[arg(
        long,
        env = "POSTERN_KILL_SECONDS",
        value_name = "N",
        default_value_t = 5
    )]
    pub kill_seconds: u32,

    /// Envoy's worker threads [default: the processors that this process may use, at most 4].
    #[arg(long, env = "POSTERN_CONCURRENCY", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub concurrency: Option<u32>,

    /// Envoy's binary [default: the development tools' cache, then PATH].
    #[arg(long, env = "POSTERN_ENVOY", value_name = "PATH")]
    pub envoy: Option<PathBuf>,

    /// Limit of Envoy's heap: memory is given back at 95 % of it, requests are refused at 98 %. Below
    /// the container's memory limit, which also holds threads' stacks and us.
    #[arg(long, env = "POSTERN_MAX_HEAP", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(16 << 20..))]
    pub max_heap: Option<u64>,

    /// Most connections from clients at a time. Lowered to what the limit of open files leaves room
    /// for, counting one connection to a backend for each.
    #[arg(long, env = "POSTERN_MAX_CONNECTIONS", value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections: u64,

    /// Form of log lines, Envoy's too.
    #[arg(
        long,
        env = "POSTERN_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// What we log, in the form of `RUST_LOG`.
    #[arg(
        long,
        env = "POSTERN_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// What Envoy logs.
    #[arg(
        long,
        env = "POSTERN_ENVOY_LOG_LEVEL",
        value_enum,
        default_value_t,
        value_name = "LEVEL"
    )]
    pub envoy_log_level: EnvoyLogLevel,

    /// Drain and end when the process that starts this one, whose id is PID, ends in whatever way.
    #[arg(long, value_name = "PID")]
    pub end_with_parent: Option<u32>,
}

impl Run {
    /// Settings, with defaults found on this machine.
    ///
    /// # Errors
    ///
    /// Where options contradict each other, or there is no Envoy.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        anyhow::ensure!(
            self.min_drain_seconds <= self.drain_seconds,
            "--min-drain-seconds {} is more than --drain-seconds {}",
            self.min_drain_seconds,
            self.drain_seconds
        );
        let envoy = match &self.envoy {
            Some(path) => path.clone(),
            None => envoy::find().context(
                "no Envoy: give --envoy or POSTERN_ENVOY, or have one named `envoy` on PATH",
            )?,
        };
        let seconds = |n: u32| Duration::from_secs(n.into());
        Ok(Settings {
            identity: self.identity.clone(),
            node_id: self.node_id.clone().unwrap_or_else(host_name),
            xds: self.xds.clone(),
            xds_server_name: self.xds_server_name.clone(),
            tls_dir: self.tls_dir.clone(),
            state_dir: self.state_dir.clone(),
            readiness: self.readiness_address,
            metrics: self.metrics_address,
            drain: Times {
                min: seconds(self.min_drain_seconds),
                max: seconds(self.drain_seconds),
                grace: seconds(self.kill_seconds),
            },
            concurrency: self.concurrency.unwrap_or_else(default_workers),
            envoy,
            max_heap: self.max_heap,
            max_connections: affordable(self.max_connections, open_files()),
            log_format: self.log_format,
            envoy_log_level: self.envoy_log_level,
            launch: Launch::Tethered(
                std::env::current_exe().context("the path of this program is not known")?,
            ),
        })
    }
}

/// Counts affinity and the quota of the container.
fn default_workers() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors.min(MAX_DEFAULT_WORKERS)).unwrap_or(1)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "postern-proxy".to_owned())
}

/// The soft limit of open files, which Envoy inherits. `None` is without limit, or not known.
fn open_files() -> Option<u64> {
    parse_open_files(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_open_files(limits: &str) -> Option<u64> {
    let rest = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// An Envoy that runs out of descriptors spins on `accept`: so it must stop before.
fn affordable(asked: u64, open_files: Option<u64>) -> u64 {
    match open_files {
        Some(files) => asked.min((files.saturating_sub(SPARE_DESCRIPTORS) / 2).max(1)),
        None => asked,
    }
}

/// Clap's message as one line, without usage and hints.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: [&str; 10] = [
        "postern-proxy",
        "run",
        "--xds",
        "127.0.0.1:18000",
        "--identity",
        "spiffe://td/ns/a/instance/b/shard/c",
        "--tls-dir",
        "/tls",
        "--state-dir",
        "/state",
    ];

    fn parse(more: &[&str]) -> Result<Box<Run>, String> {
        match Cli::try_parse_from(LEAST.iter().chain(more)) {
            Ok(Cli {
                command: Command::Run(run),
            }) => Ok(run),
            Ok(_) => Err("another command".to_owned()),
            Err(error) => Err(one_line(&error)),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn few_options_are_needed() {
        let settings = parse(&["--envoy", "/envoy"]).unwrap().settings().unwrap();
        assert_eq!(settings.envoy, PathBuf::from("/envoy"));
        assert!((1..=4).contains(&settings.concurrency));
        assert!(settings.max_connections >= 1);
        assert!(!settings.node_id.is_empty());
        assert!(settings.readiness.ip().is_loopback());
        assert!(settings.metrics.ip().is_loopback());
        assert_eq!(settings.drain.min, Duration::from_secs(5));
        assert_eq!(settings.drain.max, Duration::from_secs(30));
    }

    #[test]
    fn bad_options_are_refused_in_one_line() {
        for (more, says) in [
            (["--concurrency", "0"], "'--concurrency <N>'"),
            (["--max-heap", "1"], "'--max-heap <BYTES>'"),
            (["--xds", "x"], "must be HOST:PORT"),
            (["--identity", "me"], "must be spiffe://"),
            (["--log-format", "xml"], "[possible values: json, text]"),
            (["--readiness-address", "1"], "'--readiness-address"),
            (["--nonsense", "1"], "unexpected argument '--nonsense'"),
        ] {
            // In place of the option among the least ones, or after them all.
            let least = LEAST.iter().copied().take_while(|a| *a != more[0]);
            let error = Cli::try_parse_from(least.chain(more)).unwrap_err();
            let line = one_line(&error);
            assert!(line.contains(says), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
        let line = one_line(&Cli::try_parse_from(["postern-proxy", "run"]).unwrap_err());
        assert!(
            line.starts_with(
                "the following required arguments were not provided: --xds <HOST:PORT>"
            ),
            "{line}"
        );
        let error = parse(&["--min-drain-seconds", "31"])
            .unwrap()
            .settings()
            .unwrap_err();
        assert!(error.to_string().contains("more than --drain-seconds 30"));
    }

    #[test]
    fn connections_fit_into_the_open_files() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units
Max processes             95822                95822                processes
Max open files            1024                 1048576              files
";
        assert_eq!(parse_open_files(limits), Some(1024));
        assert_eq!(
            parse_open_files(&limits.replace("1024 ", "unlimited ")),
            None
        );
        assert_eq!(parse_open_files(""), None);
        assert_eq!(affordable(50_000, Some(1024)), 448);
        assert_eq!(affordable(50_000, Some(10)), 1);
        assert_eq!(affordable(100, Some(1024)), 100);
        assert_eq!(affordable(50_000, None), 50_000);
        assert!(open_files().is_none_or(|n| n > 0));
    }
}
