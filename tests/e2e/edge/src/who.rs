//! Both ends of a request, which say what they saw.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use postern_cluster::{Cluster, Entry, ImageConfig, Outside, oci_archive};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{build, feed, must};

/// A backend that says in JSON who asked it what: `pod`, `peer`, `tls`, `proto`, `method`, `host`,
/// `path`, `headers`. It serves HTTP/1.1 and HTTP/2 in the clear on 8080 and, with the arguments
/// `serve -tls FOLDER` and `tls.crt` and `tls.key` in the folder, over TLS on 8443. `?wait=3s`
/// answers late. `POD_NAME` is what it calls itself.
pub const WHO_IMAGE: &str = "postern.test/who:dev";

/// Gives the node the image [`WHO_IMAGE`].
///
/// # Errors
/// Where it cannot be built or loaded.
pub fn load_who(cluster: &Cluster) -> Result<()> {
    let program = build::router()?.join("who");
    let config = ImageConfig {
        entrypoint: vec!["/who".into()],
        user: "65532".into(),
        ..ImageConfig::default()
    };
    let layer = vec![Entry::File("/who".into(), program, 0o755)];
    load(cluster, WHO_IMAGE, &[layer], &config)
}

pub(crate) fn load(
    cluster: &Cluster,
    name: &str,
    layers: &[Vec<Entry>],
    config: &ImageConfig,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("image.tar");
    oci_archive(&archive, name, layers, config)?;
    cluster.load_image(&archive)
}

/// A question from outside the cluster.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What is asked: the name in it is the TLS server name and the Host header.
    pub url: &'a str,
    /// Where to connect to, whatever the URL says.
    pub at: SocketAddr,
    /// The address to come from, if not the peer's own.
    pub from: Option<Ipv4Addr>,
    /// The authorities to believe; without it no certificate is verified.
    pub ca: Option<&'a Path>,
    /// Headers to send.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long to wait for all of the answer.
    pub limit: Duration,
}

/// What came back.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/2.0`, between the client and what is in front.
    pub proto: String,
    /// The answer's headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// What [`WHO_IMAGE`] saw, or a string.
    pub body: Value,
}

impl Answer {
    /// A header of the request as it reached [`WHO_IMAGE`]; its lines are joined with `, `.
    #[must_use]
    pub fn seen(&self, header: &str) -> Option<String> {
        let lines = self.body["headers"][header].as_array()?;
        let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        Some(lines.join(", "))
    }
}

impl<'a> Ask<'a> {
    /// A question without further wishes.
    #[must_use]
    pub fn new(url: &'a str, at: SocketAddr) -> Self {
        Self {
            url,
            at,
            from: None,
            ca: None,
            headers: &[],
            limit: Duration::from_secs(10),
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Where there is no answer, with the reason.
    pub fn ask(&self, outside: &Outside<'_>) -> Result<Answer> {
        let output = feed(&mut self.command(outside, "ask")?, "")?;
        let output = must(self.url, output)?;
        serde_json::from_str(&output).context(output)
    }

    /// Asks again and again, on one connection as long as it is kept, until [`Load::end`]. What is
    /// lost is counted, never asked again (it asks with POST, which clients do not repeat).
    ///
    /// # Errors
    /// Where the client cannot be started.
    pub fn load(&self, outside: &Outside<'_>) -> Result<Load> {
        let child = self
            .command(outside, "load")?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Load(child))
    }

    fn command(&self, outside: &Outside<'_>, act: &str) -> Result<Command> {
        let program = build::router()?.join("who");
        let program = program.to_str().context("the cache's path is no text")?;
        let mut command = outside.command(program);
        command.arg(act).args(["-connect", &self.at.to_string()]);
        command.arg(format!("-timeout={}ms", self.limit.as_millis()));
        if let Some(from) = self.from {
            command.args(["-source", &from.to_string()]);
        }
        if let Some(ca) = self.ca {
            command.arg("-ca").arg(ca);
        }
        for (name, value) in self.headers {
            command.arg("-header").arg(format!("{name}: {value}"));
        }
        command.arg(self.url);
        Ok(command)
    }
}

/// A client that asks until it is ended; it ends with the cluster too.
#[derive(Debug)]
pub struct Load(Child);

/// What came of many questions.
#[derive(Clone, Debug, Deserialize)]
pub struct Loaded {
    /// How many were asked.
    pub asked: u32,
    /// How many were answered over which protocol.
    pub protos: BTreeMap<String, u32>,
    /// When and how others went wrong.
    pub failed: Vec<String>,
}

impl Load {
    /// Ends it, after the answer that it waits for.
    ///
    /// # Errors
    /// Where it has failed itself, with what it said.
    pub fn end(self) -> Result<Loaded> {
        // Its standard input ends here.
        let output = must("the client", self.0.wait_with_output()?)?;
        serde_json::from_str(&output).context(output)
    }
}

/// An authority of its own, and a server's certificate with key for these names: PEM of the
/// authority, the certificate, the key.
///
/// # Errors
/// Where a name is none.
pub fn certificate(names: &[&str]) -> Result<[String; 3]> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "postern-edge");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut server = CertificateParams::new(names)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "postern-edge server");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    for params in [&mut ca, &mut server] {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2060, 1, 1);
    }
    let authority = ca.self_signed(&ca_key)?.pem();
    let signed = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
    Ok([authority, signed.pem(), key.serialize_pem()])
}
