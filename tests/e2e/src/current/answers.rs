//! Whether the two teams answer, asked from this machine through the API server: what a person can do,
//! too. Not every cluster lets through; then the conditions are all that is known.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::context::Context;
use crate::demo::TEAMS;
use crate::http;
use crate::process::Running;

/// How long the way may take to open.
const OPENING: Duration = Duration::from_secs(15);
/// How long an answer may take that conditions promise.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request of each team that its routes answer with 200.
const REQUESTS: [(&str, &str); 2] = [
    ("shop.team-a.example", "/"),
    ("api.team-b.example", "/v1/items"),
];

/// Asks both teams, and says in a line how it went.
///
/// # Errors
/// Where a gateway that is reached does not answer as its routes say.
pub(super) fn asked(context: &Context) -> Result<String> {
    let dir = tempfile::tempdir()?;
    for (team, (host, path)) in TEAMS.iter().zip(REQUESTS) {
        let started = Instant::now();
        loop {
            let (_forward, port) = match open(context, team, &dir.path().join(team)) {
                Ok(opened) => opened,
                Err(error) => {
                    let why = error.to_string().replace('\n', "; ");
                    return Ok(format!(
                        "not asked from here, for no port could be forwarded: {why}"
                    ));
                }
            };
            let answer = http::get((Ipv4Addr::LOCALHOST, port).into(), host, path);
            if matches!(answer, Ok((200, _))) {
                break;
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{host}{path} is not answered with 200 after {} s: {answer:?}",
                PATIENCE.as_secs()
            );
            // kubectl gives a port up when the first connection fails, so it is opened anew.
            std::thread::sleep(Duration::from_millis(250));
        }
    }
    Ok("both teams answer, asked through ports that kubectl forwards".to_owned())
}

/// A port of this machine that leads to a team's gateway while the process runs.
fn open(context: &Context, team: &str, log: &Path) -> Result<(Running, u16)> {
    let service = format!("service/{}", postern_api::names::gateway_service("default"));
    let mut command = context.command();
    command.args([
        "-n",
        team,
        "port-forward",
        "--address=127.0.0.1",
        &service,
        ":80",
    ]);
    let mut running = Running::start("kubectl port-forward", &mut command, log)?;
    let port = running.wait_for("its port is open", OPENING, |running| {
        port(&running.printed())
    })?;
    Ok((running, port))
}

/// `Forwarding from 127.0.0.1:39999 -> 10080`
fn port(printed: &str) -> Option<u16> {
    let (_, rest) = printed.split_once("Forwarding from 127.0.0.1:")?;
    rest.split_once(" -> ")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn the_port_is_read_when_it_is_told_whole() {
        assert_eq!(
            port("Forwarding from 127.0.0.1:39999 -> 10080\n"),
            Some(39999)
        );
        assert_eq!(port("Forwarding from 127.0.0.1:399"), None);
        assert_eq!(port("error: no pods"), None);
    }
}
