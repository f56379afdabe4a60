//! One Envoy from its start to its end.
//!
//! It is started once. When it ends by itself, so do we, with its status: whoever started us
//! (a kubelet, a person) decides what comes next.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::bootstrap::{Bootstrap, Inputs, SecretFiles, SecretPaths};
use crate::drain;
use crate::envoy::{self, Envoy, EnvoyLogLevel, Launch, LogFormat, Start};
use crate::identity::{Authority, Identity};
use crate::reach;
use crate::readiness::{Phase, Waiting, watch_envoy};
use crate::server::{self, Endpoint, Limits};
use crate::state::{StateDir, StateError};

/// What a supervisor is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this Envoy is.
    pub identity: Identity,
    /// A name for this Envoy in logs.
    pub node_id: String,
    /// Where the control plane listens.
    pub xds: Authority,
    /// Server name in the TLS handshake; by default the host name in `xds`.
    pub xds_server_name: Option<String>,
    /// Directory of `tls.crt`, `tls.key` and `ca.crt`.
    pub tls_dir: PathBuf,
    /// Directory of our own, made if absent.
    pub state_dir: PathBuf,
    /// Where `/ready` is served. Port 0 is any free one.
    pub readiness: SocketAddr,
    /// Where `/metrics` is served. Port 0 is any free one.
    pub metrics: SocketAddr,
    /// How long leaving may take.
    pub drain: drain::Times,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// Heap, in bytes, at which Envoy refuses requests.
    pub max_heap: Option<u64>,
    /// Most connections from clients at a time.
    pub max_connections: u64,
    /// Form of Envoy's log.
    pub log_format: LogFormat,
    /// Amount of Envoy's log.
    pub envoy_log_level: EnvoyLogLevel,
    /// How Envoy is tied to this process.
    pub launch: Launch,
}

/// An order to leave. A first one drains; a second, while draining, ends Envoy at once; a third
/// kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of the mounted Secret.
    #[error("{path}: cannot be read: {source}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An address.
    #[error("{address}: cannot be listened on for {what}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Envoy's binary.
    #[error("{path}: cannot be started: {source}")]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bootstrap.
    #[error("the bootstrap cannot be written: {0}")]
    Bootstrap(#[from] serde_json::Error),
    /// Envoy's end cannot be waited for.
    #[error("Envoy's end was not seen: {0}")]
    Wait(#[source] io::Error),
}

/// What ends with its owner.
#[derive(Debug)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// All but Envoy: its bootstrap is written and the two endpoints answer.
#[derive(Debug)]
pub struct Prepared {
    settings: Settings,
    bootstrap: PathBuf,
    admin: Admin,
    phase: watch::Sender<Phase>,
    readiness: SocketAddr,
    metrics: SocketAddr,
    tasks: Tasks,
    state: StateDir,
}

/// A running Envoy with its two endpoints. When dropped, all of it ends at once.
#[derive(Debug)]
pub struct Supervisor {
    envoy: Envoy,
    admin: Admin,
    drain: drain::Times,
    phase: watch::Sender<Phase>,
    readiness: SocketAddr,
    metrics: SocketAddr,
    // Held for its end.
    _tasks: Tasks,
    // After Envoy, so that its lock outlives it.
    state: StateDir,
}

impl Prepared {
    /// Writes the bootstrap and opens the endpoints. Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Where a directory, file, address or binary is not as it must be; each says which.
    pub async fn new(settings: &Settings) -> Result<Self, SupervisorError> {
        Self::with(settings, |_| {}).await
    }

    /// As [`Prepared::new`], with a bootstrap that `change` has changed: for an Envoy that takes its
    /// configuration from files.
    ///
    /// # Errors
    ///
    /// As [`Prepared::new`].
    pub async fn with(
        settings: &Settings,
        change: impl FnOnce(&mut Bootstrap),
    ) -> Result<Self, SupervisorError> {
        let tls_dir = checked_tls_dir(&settings.tls_dir)?;
        // Looked at here, since one that is tethered is executed by another process.
        envoy::check(&settings.envoy).map_err(|source| SupervisorError::Start {
            path: settings.envoy.clone(),
            source,
        })?;
        let state = StateDir::open(&settings.state_dir)?;
        let socket = state.admin_socket();
        let bootstrap = write_bootstrap(settings, &state, &tls_dir, &socket, change)?;

        // Before Envoy: a taken address should not cost a start.
        let (ready_listener, readiness) = bind(settings.readiness, "readiness").await?;
        let (metrics_listener, metrics) = bind(settings.metrics, "metrics").await?;
        let admin = Admin::new(socket);
        let phase = watch::Sender::new(Phase::Starting(Waiting::Envoy));
        let tasks = vec![
            tokio::spawn(server::serve(
                ready_listener,
                Endpoint::Readiness(phase.subscribe()),
                Limits::READINESS,
            )),
            tokio::spawn(server::serve(
                metrics_listener,
                Endpoint::metrics(admin.clone()),
                Limits::METRICS,
            )),
        ];
        Ok(Self {
            settings: settings.clone(),
            bootstrap,
            admin,
            phase,
            readiness,
            metrics,
            tasks: Tasks(tasks),
            state,
        })
    }

    /// Returns once the control plane's port answers; not ready meanwhile.
    pub async fn control_plane(&self) {
        self.phase
            .send_replace(Phase::Starting(Waiting::ControlPlane));
        reach::control_plane(&self.settings.xds).await;
        self.phase.send_replace(Phase::Starting(Waiting::Envoy));
    }

    /// Starts Envoy. Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Where its binary cannot be started.
    pub fn start(self) -> Result<Supervisor, SupervisorError> {
        let Self {
            settings,
            bootstrap,
            admin,
            phase,
            readiness,
            metrics,
            mut tasks,
            state,
        } = self;
        let envoy = Envoy::start(&Start {
            binary: &settings.envoy,
            bootstrap: &bootstrap,
            concurrency: settings.concurrency,
            drain: settings.drain.max,
            log_format: settings.log_format,
            log_level: settings.envoy_log_level,
            launch: &settings.launch,
        })
        .map_err(|source| SupervisorError::Start {
            path: settings.envoy.clone(),
            source,
        })?;
        tracing::info!(
            identity = %settings.identity,
            xds = %settings.xds,
            pid = envoy.pid().as_raw(),
            %readiness,
            %metrics,
            "Envoy started"
        );
        tasks
            .0
            .push(tokio::spawn(watch_envoy(admin.clone(), phase.clone())));
        if std::process::id() == 1 {
            let pid = envoy.pid();
            tasks.0.push(tokio::spawn(async move {
                if let Err(error) = envoy::reap_strangers(pid).await {
                    tracing::warn!(%error, "children of others are not waited for");
                }
            }));
        }
        Ok(Supervisor {
            envoy,
            admin,
            drain: settings.drain,
            phase,
            readiness,
            metrics,
            _tasks: tasks,
            state,
        })
    }
}

impl Supervisor {
    /// Where `/ready` is served.
    pub fn readiness_address(&self) -> SocketAddr {
        self.readiness
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Envoy's admin interface.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Envoy's process id.
    pub fn envoy_pid(&self) -> u32 {
        self.envoy.pid().as_raw().unsigned_abs()
    }

    /// The directory with the bootstrap and the admin socket.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// The phase, and its changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Runs until Envoy has ended, by itself or by orders from `stops`. A closed channel orders
    /// nothing.
    ///
    /// # Errors
    ///
    /// Where Envoy's end cannot be waited for.
    pub async fn run(
        mut self,
        stops: &mut mpsc::Receiver<Stop>,
    ) -> Result<ExitStatus, SupervisorError> {
        tokio::select! {
            status = self.envoy.ended() => {
                let status = status.map_err(SupervisorError::Wait)?;
                self.phase.send_replace(Phase::Draining);
                tracing::error!(%status, "Envoy ended by itself");
                return Ok(status);
            }
            Some(Stop) = stops.recv() => {}
        }
        let before = self.phase.send_replace(Phase::Draining);
        if before == Phase::Ready {
            tracing::info!("draining");
            tokio::select! {
                status = self.envoy.ended() => return status.map_err(SupervisorError::Wait),
                () = drain::drain(&self.admin, self.drain) => {}
                Some(Stop) = stops.recv() => tracing::warn!("told again: ending at once"),
            }
        } else {
            // It was never sent traffic.
            tracing::info!("ending");
        }
        self.envoy.terminate();
        tokio::select! {
            status = self.envoy.ended() => {
                let status = status.map_err(SupervisorError::Wait)?;
                // Before it handles signals it ends by them; it was asked to, so all is well.
                let by_signal = status.signal() == Some(Signal::SIGTERM as i32);
                return Ok(if by_signal { ExitStatus::from_raw(0) } else { status });
            }
            () = tokio::time::sleep(self.drain.grace) => tracing::warn!("Envoy does not end: killing it"),
            Some(Stop) = stops.recv() => tracing::warn!("told again: killing Envoy"),
        }
        self.envoy.kill();
        self.envoy.ended().await.map_err(SupervisorError::Wait)
    }
}

/// The directory, absolute, with its three files readable. Links are kept: a mounted Secret is
/// exchanged under them.
fn checked_tls_dir(tls_dir: &Path) -> Result<PathBuf, SupervisorError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SupervisorError::Tls { path, source }
    };
    let absolute = std::path::absolute(tls_dir).map_err(failed(tls_dir))?;
    if absolute.to_str().is_none() {
        return Err(StateError::NotUtf8 { path: absolute }.into());
    }
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let file = absolute.join(name);
        let meta = File::open(&file)
            .and_then(|f| f.metadata())
            .map_err(failed(&file))?;
        if meta.len() == 0 {
            return Err(failed(&file)(io::Error::other("it is empty")));
        }
    }
    Ok(absolute)
}

fn write_bootstrap(
    settings: &Settings,
    state: &StateDir,
    tls_dir: &Path,
    socket: &Path,
    change: impl FnOnce(&mut Bootstrap),
) -> Result<PathBuf, SupervisorError> {
    let secrets = SecretFiles::new(tls_dir, &settings.identity);
    let certificate = state.write("sds-certificate.json", &secrets.certificate.to_json()?)?;
    let validation = state.write("sds-validation.json", &secrets.validation.to_json()?)?;
    let mut bootstrap = Bootstrap::new(&Inputs {
        identity: &settings.identity,
        node_id: &settings.node_id,
        xds: &settings.xds,
        xds_server_name: settings.xds_server_name.as_deref(),
        admin_socket: socket,
        secrets: SecretPaths {
            certificate: &certificate,
            validation: &validation,
        },
        max_heap: settings.max_heap,
        max_connections: settings.max_connections,
    });
    change(&mut bootstrap);
    Ok(state.write("bootstrap.json", &bootstrap.to_json()?)?)
}

async fn bind(
    address: SocketAddr,
    what: &'static str,
) -> Result<(TcpListener, SocketAddr), SupervisorError> {
    let failed = |source| SupervisorError::Bind {
        address,
        what,
        source,
    };
    let listener = server::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
