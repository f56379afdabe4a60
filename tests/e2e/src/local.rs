//! Two teams without Kubernetes: their YAML, a control plane that serves directories, an Envoy each,
//! and backends on loopback. It shows routing, not tenancy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::Running;

/// How long a part may take to be there, on a machine that does something else too.
const PATIENCE: Duration = Duration::from_secs(60);
/// The backends: team, name.
const BACKENDS: [(&str, &str); 3] = [
    ("team-a", "shop-v1"),
    ("team-a", "shop-v2"),
    ("team-b", "api"),
];
/// The teams.
const TEAMS: [&str; 2] = ["team-a", "team-b"];

/// What runs. Everything ends when this is dropped.
#[derive(Debug)]
pub struct Local {
    // In the order in which they are ended.
    envoys: Vec<Running>,
    control_plane: Running,
    _backends: Vec<Running>,
    state: PathBuf,
}

/// What the control plane says of an instance, as far as it is read here.
#[derive(Debug, Deserialize)]
struct Description {
    xds: String,
    identity: String,
    tls_dir: PathBuf,
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
struct Port {
    port: u16,
    container_port: u16,
}

impl Local {
    /// Starts everything from `examples` (a directory as `examples/` of this repository). `state` is
    /// made, and must have a short path: sockets lie in it.
    ///
    /// # Errors
    /// Where something does not start; with the end of its log.
    pub fn start(programs: &Path, envoy: &Path, examples: &Path, state: &Path) -> Result<Local> {
        // One directory of what the control plane reads: the teams' files are links, so that editing
        // them has its effect.
        let read = state.join("read");
        let made = read.join("made");
        fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        for part in ["admin", "team-a", "team-b"] {
            let target = fs::canonicalize(examples.join(part))
                .with_context(|| format!("{} has no directory {part}", examples.display()))?;
            std::os::unix::fs::symlink(target, read.join(part))?;
        }
        write_certificate(state, &made)?;
        let mut backends = Vec::new();
        for (team, name) in BACKENDS {
            let log = state.join(format!("{name}.log"));
            let mut command = Command::new(programs.join("postern-echo"));
            command.args(["--name", name, "--listen", "127.0.0.1:0"]);
            let mut backend = Running::start(name, &mut command, &log)?;
            let port = backend.wait_for("it listens", PATIENCE, |backend| {
                backend
                    .printed()
                    .trim()
                    .rsplit_once(':')?
                    .1
                    .parse::<u16>()
                    .ok()
            })?;
            fs::write(
                made.join(format!("{team}-{name}.yaml")),
                service(team, name, port),
            )?;
            backends.push(backend);
        }
        let mut command = Command::new(programs.join("postern-controlplane"));
        command.arg("serve").arg("--from").arg(&read);
        command.arg("--state").arg(state.join("controlplane"));
        let mut control_plane = Running::start(
            "the control plane",
            &mut command,
            &state.join("controlplane.log"),
        )?;
        let mut envoys = Vec::new();
        for team in TEAMS {
            let path = description_path(state, team);
            let described =
                control_plane
                    .wait_for(&format!("it serves {team}"), PATIENCE, |_| describe(&path))?;
            envoys.push(start_envoy(programs, envoy, state, team, &described)?);
        }
        Ok(Local {
            envoys,
            control_plane,
            _backends: backends,
            state: state.into(),
        })
    }

    /// The port on 127.0.0.1 that stands for a port of a team's gateway.
    ///
    /// # Errors
    /// Where the gateway has no such port.
    pub fn port(&self, team: &str, port: u16) -> Result<u16> {
        describe(&description_path(&self.state, team))
            .and_then(|described| described.ports.into_iter().find(|known| known.port == port))
            .map(|known| known.container_port)
            .with_context(|| format!("{team}'s gateway has no port {port}"))
    }

    /// The certificate that clients of team-a trust.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.state.join("team-a.crt")
    }

    /// What the control plane said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.control_plane.printed()
    }

    /// Lines for a shell that show what the two teams serve.
    ///
    /// # Errors
    /// Where a gateway has not its ports.
    pub fn lines(&self) -> Result<Vec<(&'static str, String)>> {
        Ok(lines(
            self.port("team-a", 80)?,
            self.port("team-a", 443)?,
            self.port("team-b", 80)?,
            &self.certificate(),
        ))
    }

    /// Whether everything still runs.
    ///
    /// # Errors
    /// Where a part ended.
    pub fn check(&mut self) -> Result<()> {
        for running in self.envoys.iter_mut().chain([&mut self.control_plane]) {
            if let Some(status) = running.ended()? {
                anyhow::bail!("a part ended ({status}):\n{}", running.printed());
            }
        }
        Ok(())
    }

    /// Envoy's counters of one team whose name ends so, from its metrics; `None` if it has none yet.
    ///
    /// # Errors
    /// Where its metrics cannot be read.
    pub fn counter(&self, team: &str, metric: &str) -> Result<u64> {
        let port: u16 = fs::read_to_string(self.state.join(format!("{team}.metrics")))?
            .trim()
            .parse()?;
        let text = get(port, "/metrics")?;
        let values = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains(metric));
        Ok(values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }
}

/// Lines for a shell that show what the two teams of the examples serve, with the ports on 127.0.0.1 of
/// team-a's HTTP and HTTPS and of team-b's HTTP, and the certificate that clients of team-a trust.
#[must_use]
pub fn lines(a: u16, tls: u16, b: u16, certificate: &Path) -> Vec<(&'static str, String)> {
    let certificate = certificate.display();
    vec![
        (
            "team-a: nine of ten go to shop-v1",
            format!("curl -s -H 'Host: shop.team-a.example' http://127.0.0.1:{a}/"),
        ),
        (
            "team-a: testers get shop-v2",
            format!(
                "curl -s -H 'Host: shop.team-a.example' -H 'x-version: 2' http://127.0.0.1:{a}/"
            ),
        ),
        (
            "team-a: a redirect",
            format!(
                "curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}\\n' -H 'Host: old.team-a.example' http://127.0.0.1:{a}/sale"
            ),
        ),
        (
            "team-a: HTTPS",
            format!(
                "curl -s --cacert {certificate} --resolve shop.team-a.example:{tls}:127.0.0.1 https://shop.team-a.example:{tls}/"
            ),
        ),
        (
            "team-b: reading is open",
            format!("curl -s -H 'Host: api.team-b.example' http://127.0.0.1:{b}/v1/items"),
        ),
        (
            "team-b: writing needs a header",
            format!(
                "curl -s -X POST -H 'Host: api.team-b.example' -H 'x-team: b' http://127.0.0.1:{b}/v1/items"
            ),
        ),
        (
            "team-b: a query parameter",
            format!(
                "curl -s -H 'Host: api.team-b.example' 'http://127.0.0.1:{b}/search?engine=new'"
            ),
        ),
    ]
}

fn description_path(state: &Path, team: &str) -> PathBuf {
    state
        .join("controlplane")
        .join(team)
        .join("default/instance.json")
}

fn describe(path: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn start_envoy(
    programs: &Path,
    envoy: &Path,
    state: &Path,
    team: &str,
    described: &Description,
) -> Result<Running> {
    let readiness = free_port()?;
    let metrics = free_port()?;
    fs::write(state.join(format!("{team}.metrics")), metrics.to_string())?;
    let mut command = Command::new(programs.join("postern-proxy"));
    command
        .args([
            "run",
            "--xds",
            &described.xds,
            "--identity",
            &described.identity,
        ])
        .arg("--tls-dir")
        .arg(&described.tls_dir)
        .arg("--state-dir")
        .arg(state.join(format!("envoy-{team}")))
        .arg("--envoy")
        .arg(envoy)
        .args(["--readiness-address", &format!("127.0.0.1:{readiness}")])
        .args(["--metrics-address", &format!("127.0.0.1:{metrics}")])
        .args([
            "--drain-seconds",
            "1",
            "--min-drain-seconds",
            "0",
            "--concurrency",
            "1",
            "--log-format",
            "text",
        ])
        .args(["--end-with-parent", &std::process::id().to_string()]);
    let mut running = Running::start(
        &format!("{team}'s Envoy"),
        &mut command,
        &state.join(format!("envoy-{team}.log")),
    )?;
    running.wait_for("it is ready", PATIENCE, |_| {
        get(readiness, "/ready")
            .ok()
            .filter(|answer| answer.starts_with("HTTP/1.1 200"))
    })?;
    Ok(running)
}

/// The answer to one request to loopback.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A port that is free now. Somebody may take it before it is used; then the start fails, and says so.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

fn service(team: &str, name: &str, port: u16) -> String {
    format!(
        "# Made anew at each start: where the backend of this name listens on this machine.\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {team}}}\n\
         spec:\n  ports:\n    - {{name: http, port: 8080, targetPort: {port}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-local\n  namespace: {team}\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\n\
         ports:\n  - {{name: http, port: {port}, protocol: TCP}}\n\
         endpoints:\n  - addresses: [127.0.0.1]\n    conditions: {{ready: true}}\n"
    )
}

/// A certificate of one's own for team-a's hosts, as a file for clients and as a Secret.
fn write_certificate(state: &Path, made: &Path) -> Result<()> {
    let pair = rcgen::generate_simple_self_signed(vec!["*.team-a.example".to_owned()])?;
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    fs::write(state.join("team-a.crt"), &certificate)?;
    let indented = |text: &str| {
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let secret = format!(
        "# Made anew at each start.\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\n\
         metadata: {{name: team-a-tls, namespace: team-a}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&certificate),
        indented(&key)
    );
    let path = made.join("team-a-tls.yaml");
    fs::write(&path, secret)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, private)?;
    Ok(())
}
