//! One plain HTTP request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

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
