//! Ports of the ordinary loopback that lead into a cluster's network namespace.
//!
//! The listening socket is made here, outside, and handed to a small program that runs inside as
//! its standard input; a socket stays in the namespace that it was made in.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::binaries::Binaries;
use crate::layout::{Layout, write_private};
use crate::netns;
use crate::process::reap_later;
use crate::procs::{MARK, Proc};

/// Takes a port of the loopback; any free one for 0.
pub(crate) fn listen(port: u16) -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} of 127.0.0.1"))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Carries connections of the listener to an address inside until the cluster goes down.
pub(crate) fn start(
    layout: &Layout,
    binaries: &Binaries,
    listener: TcpListener,
    target: SocketAddr,
) -> Result<()> {
    let port = listener.local_addr()?.port();
    let log = File::create(layout.log(&format!("forward-{port}")))?;
    let entrance = netns::enter_network(&layout.name);
    let child = Command::new("setsid")
        .arg(entrance.get_program())
        .args(entrance.get_args())
        .arg(binaries.program("forward"))
        .arg(target.to_string())
        .env_clear()
        .env("PATH", binaries.path())
        .env(MARK, layout.state())
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start a forward")?;
    let pid = child.id();
    reap_later(child);
    let process = Proc::find("forward", pid).context("the forward ended at once")?;
    let record = json!({"port": port, "target": target.to_string(), "process": process});
    write_private(&record_path(layout, port), &serde_json::to_vec(&record)?)
}

fn record_path(layout: &Layout, port: u16) -> std::path::PathBuf {
    layout.at("forwards").join(format!("{port}.json"))
}

/// An address inside, as `ADDRESS:PORT`. Names are not resolved: the resolvers out here do not know
/// the cluster's names.
pub(crate) fn parse_target(text: &str) -> Result<SocketAddr> {
    let target: SocketAddr = text
        .parse()
        .with_context(|| format!("{text:?} is not of the form ADDRESS:PORT, as 10.96.0.1:443"))?;
    ensure!(target.port() != 0, "{text:?} has no port");
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses() {
        assert_eq!(parse_target("10.96.0.1:443").unwrap().port(), 443);
        assert!(parse_target("[::1]:80").is_ok());
        for bad in ["echo:80", "10.96.0.1", "10.96.0.1:0", "10.96.0.1:99999", ""] {
            assert!(parse_target(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let (_held, port) = listen(0).unwrap();
        let error = listen(port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
    }
}
