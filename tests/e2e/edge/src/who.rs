//! Both ends of a request, which say what they saw.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postern_cluster::{Cluster, Entry, ImageConfig, Outside, oci_archive};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{build, must};

/// A backend that says in JSON who asked it what: `pod`, `peer`, `tls`, `proto`, `method`, `host`,
/// `path`, `headers`. It serves HTTP/1.1 and HTTP/2 in the clear on 8080 and, with the arguments
/// `serve -tls FOLDER` and `tls.crt` and `tls.key` in the folder, over TLS on 8443. `?delay=3s`
/// answers late. `POD_NAME` is what it calls itself. It can ask too: [`Place::Pod`].
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

/// Where somebody stands who asks.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On the node's network, as no part of the cluster.
    Outside(&'a Outside<'a>),
    /// On the node itself, where Services and pods are reached too.
    Node(&'a Cluster),
    /// In a pod of [`WHO_IMAGE`].
    Pod {
        /// Its cluster.
        cluster: &'a Cluster,
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
}

impl<'a> From<&'a Outside<'a>> for Place<'a> {
    fn from(outside: &'a Outside<'a>) -> Self {
        Place::Outside(outside)
    }
}

impl Place<'_> {
    /// The program `who` there.
    fn program(self) -> Result<Command> {
        let program = build::router()?.join("who");
        let program = program.to_str().context("the cache's path is no text")?;
        Ok(match self {
            Place::Outside(outside) => outside.command(program),
            Place::Node(cluster) => cluster.command(program),
            Place::Pod {
                cluster,
                namespace,
                name,
            } => {
                let mut command = cluster.kubectl_command();
                command.args(["-n", namespace, "exec", name, "--", "/who"]);
                command
            }
        })
    }
}

/// A header of the PROXY protocol with which a connection begins, before TLS.
#[derive(Clone, Copy, Debug)]
pub struct ProxyHeader {
    /// Of the protocol: 1 or 2.
    pub version: u8,
    /// The client that it names.
    pub client: Ipv4Addr,
}

/// A question.
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
    /// What to send before anything else.
    pub proxy: Option<ProxyHeader>,
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
            proxy: None,
            headers: &[],
            limit: Duration::from_secs(10),
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Where there is no answer, with the reason.
    pub fn ask<'p>(&self, from: impl Into<Place<'p>>) -> Result<Answer> {
        let mut command = self.command(from.into(), "ask", &[])?;
        let output = must(self.url, postern_cluster::feed(command.arg(self.url), "")?)?;
        serde_json::from_str(&output).context(output)
    }

    /// The program that asks so, all but the URL, which comes last.
    pub(crate) fn command(
        &self,
        from: Place<'_>,
        act: &str,
        options: &[String],
    ) -> Result<Command> {
        let mut command = from.program()?;
        command.arg(act).args(["-connect", &self.at.to_string()]);
        command.arg(format!("-timeout={}ms", self.limit.as_millis()));
        if let Some(from) = self.from {
            command.args(["-source", &from.to_string()]);
        }
        if let Some(ca) = self.ca {
            command.arg("-ca").arg(ca);
        }
        if let Some(ProxyHeader { version, client }) = self.proxy {
            command.arg(format!("-proxy={version}"));
            command.arg(format!("-claim={client}:4711"));
        }
        for (name, value) in self.headers {
            command.arg("-header").arg(format!("{name}: {value}"));
        }
        command.args(options);
        Ok(command)
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
