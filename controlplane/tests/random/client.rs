//! A client that sends bytes as they are, with or without TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::evaluate::{Answer, Location, Request};

pub struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    /// A client that trusts this CA.
    pub fn new(ca: &str) -> Client {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client { tls: Arc::new(tls) }
    }

    /// Sends a request on a connection of its own; the error says what came instead of an answer.
    pub fn send(&self, to: SocketAddr, request: &Request) -> Result<Answer, String> {
        let mut socket = TcpStream::connect(to).map_err(|error| error.to_string())?;
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // A handshake is small writes; each would wait 40 ms for the other side's acknowledgement.
        socket.set_nodelay(true).unwrap();
        let head = match &request.server_name {
            None => exchange(&mut socket, request),
            Some(name) => {
                let name = ServerName::try_from(name.clone()).unwrap();
                let session = ClientConnection::new(self.tls.clone(), name).unwrap();
                exchange(&mut StreamOwned::new(session, socket), request)
            }
        };
        answer(&head.map_err(|error| error.to_string())?)
    }
}

/// The head of the answer. The connection is closed without waiting for a body: all that is looked
/// at stands in the head.
fn exchange(socket: &mut (impl Read + Write), request: &Request) -> std::io::Result<String> {
    socket.write_all(&bytes(request))?;
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        match socket.read(&mut buffer)? {
            0 => break,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

fn bytes(request: &Request) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for host in &request.hosts {
        text += &format!("host: {host}\r\n");
    }
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if request.method == "POST" {
        text += "content-length: 0\r\n";
    }
    text += "connection: close\r\n\r\n";
    text.into_bytes()
}

fn answer(head: &str) -> Result<Answer, String> {
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let Some(status) = status else {
        return Err(format!("no status in {head:?}"));
    };
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    if let Some(backend) = header("x-backend") {
        return Ok(Answer::Backend(backend.to_owned()));
    }
    match header("location") {
        Some(location) if (300..400).contains(&status) => Location::parse(location)
            .map(|location| Answer::Redirect(status, location))
            .ok_or_else(|| format!("no URL: {location:?}")),
        _ => Ok(Answer::Status(status)),
    }
}
