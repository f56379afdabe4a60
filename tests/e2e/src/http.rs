//! Plain HTTP clients that act from the cluster's node, and clients that count.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use postern_cluster::Cluster;

/// A pace that leaves the machine to what is being tested.
const PACE: Duration = Duration::from_millis(10);

/// What a client saw.
#[derive(Debug, Default)]
struct Tally {
    served: usize,
    failed: Vec<String>,
}

/// Runs `act` while a client on the node sends one request after another, each on its own connection and
/// each to be answered 200. Returns what `act` returned; no request may have failed.
///
/// # Errors
/// Where `act` fails, a request failed, or there were next to none.
pub fn under_load<T>(
    cluster: &Cluster,
    at: SocketAddr,
    host: &str,
    path: &str,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            cluster.inside(|| {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    match get(at, host, path) {
                        Ok((200, _)) => tally.served += 1,
                        Ok((status, body)) => tally.failed.push(format!("{status} {body}")),
                        Err(error) => tally.failed.push(format!("{error:#}")),
                    }
                    std::thread::sleep(PACE);
                }
                tally
            })
        });
        let stopper = Stop(&stop);
        let began = Instant::now();
        let done = act();
        // A few requests after it too.
        std::thread::sleep(Duration::from_millis(300));
        drop(stopper);
        let Ok(tally) = client.join() else {
            bail!("the client panicked");
        };
        let tally = tally?;
        let done = done?;
        ensure!(
            tally.failed.is_empty(),
            "beside {} that were served, {} requests failed: {:?}",
            tally.served,
            tally.failed.len(),
            tally.failed.iter().take(10).collect::<Vec<_>>()
        );
        ensure!(tally.served > 20, "only {} requests", tally.served);
        println!(
            "           {} requests in {:.1} s, none failed",
            tally.served,
            began.elapsed().as_secs_f64()
        );
        Ok(done)
    })
}

/// Stops the client on every way out.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One GET over a connection of its own, from where this process is: the status and the body.
///
/// # Errors
/// Where there is no whole answer in time.
pub fn get(at: SocketAddr, host: &str, path: &str) -> Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    exchange(stream, host, path)
}

/// One GET over a connection that ends with it.
///
/// # Errors
/// As for [`get`].
pub fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> Result<(u16, String)> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let head = head.to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked") {
        return Ok((status, joined(body)?));
    }
    Ok((status, body.to_owned()))
}

/// The chunks of a body (RFC 9112, 7.1) as one text.
fn joined(mut chunks: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").context("no chunk")?;
        let length = usize::from_str_radix(length, 16).context("no length of a chunk")?;
        if length == 0 {
            return Ok(body);
        }
        body += rest.get(..length).context("a chunk is cut off")?;
        let rest = rest.get(length..).unwrap_or_default();
        chunks = rest.strip_prefix("\r\n").context("a chunk has no end")?;
    }
}
