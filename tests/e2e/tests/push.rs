//! Images to a real registry and back: what is pushed is what was in the archive, and who may push and
//! how is what the registry and the person's own files say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_cluster::{Entry, ImageConfig, oci_archive};
use postern_e2e::images;
use postern_e2e::process::Running;
use postern_e2e::push::{Pusher, Registry, pushed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The password `secret` of the user `ann`, by bcrypt.
const HTPASSWD: &str = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// `ann:secret` in base64.
const CREDENTIALS: &str = "YW5uOnNlY3JldA==";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry on a port of the loopback, with an empty store. It ends with this value.
struct Serving {
    _running: Running,
    dir: TempDir,
    port: u16,
}

impl Serving {
    /// `http` and `auth`: parts of its configuration.
    fn start(dir: TempDir, mut http: Value, auth: &Value) -> Serving {
        http["addr"] = "127.0.0.1:0".into();
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("store")}},
            "http": http,
        });
        if !auth.is_null() {
            config["auth"] = auth.clone();
        }
        // JSON is YAML.
        let path = dir.path().join("config.yml");
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(postern_edge::registry().unwrap());
        command.arg("serve").arg(&path);
        let log = dir.path().join("log");
        let mut running = Running::start("the registry", &mut command, &log).unwrap();
        let port = running
            .wait_for("it listens", Duration::from_secs(30), |running| {
                let printed = running.printed();
                let (_, rest) = printed.split_once("listening on 127.0.0.1:")?;
                let end = rest.find(|c: char| !c.is_ascii_digit())?;
                rest[..end].parse().ok()
            })
            .unwrap();
        Serving {
            _running: running,
            dir,
            port,
        }
    }

    fn plain() -> Serving {
        Serving::start(tempfile::tempdir().unwrap(), json!({}), &Value::Null)
    }

    fn registry(&self) -> Registry {
        format!("127.0.0.1:{}/some/team", self.port)
            .parse()
            .unwrap()
    }

    /// The body of what the registry serves at a path.
    fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "GET /v2/some/team/{path} HTTP/1.0\r\nHost: registry\r\nAccept: {MANIFEST}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.unwrap() + 4);
        let head = String::from_utf8_lossy(head);
        assert!(head.contains(" 200 OK"), "{path}: {head}");
        body.to_vec()
    }
}

/// An archive of an image of two layers.
fn archive(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("image.tar");
    let layer = |name: &str| vec![Entry::Bytes(name.into(), name.into(), 0o644)];
    let config = ImageConfig {
        entrypoint: vec!["/a".into()],
        ..ImageConfig::default()
    };
    oci_archive(
        &path,
        "postern.test/a:dev",
        &[layer("a"), layer("b")],
        &config,
    )
    .unwrap();
    path
}

fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

/// Pushes an archive's image, and returns its name when all that the registry gives for it is what the
/// archive holds.
fn there_and_back(serving: &Serving, archive: &Path) -> String {
    let registry = serving.registry();
    let pusher = Pusher::built().unwrap();
    let name = pusher.push(archive, &registry, "a", "dev", None).unwrap();
    let (repository, pinned) = name.split_once('@').unwrap();
    assert_eq!(repository, format!("{registry}/a"));
    // By the digest that manifests will name, it gives what has this digest.
    let manifest = serving.get(&format!("a/manifests/{pinned}"));
    assert_eq!(digest(&manifest), pinned);
    let read: Value = serde_json::from_slice(&manifest).unwrap();
    let layers = read["layers"].as_array().unwrap();
    assert!(!layers.is_empty());
    for blob in layers.iter().chain([&read["config"]]) {
        let wanted = blob["digest"].as_str().unwrap();
        assert_eq!(digest(&serving.get(&format!("a/blobs/{wanted}"))), wanted);
    }
    // It is the archive's own digest.
    let mut tar = Command::new("tar");
    let index = tar
        .arg("-xOf")
        .arg(archive)
        .arg("index.json")
        .output()
        .unwrap();
    let index: Value = serde_json::from_slice(&index.stdout).unwrap();
    assert_eq!(index["manifests"][0]["digest"], pinned);
    // A person finds it by the tag.
    assert_eq!(serving.get("a/manifests/dev"), manifest);
    name
}

#[test]
fn what_is_pushed_is_what_is_pulled() {
    let serving = Serving::plain();
    let archive = archive(serving.dir.path());
    let name = there_and_back(&serving, &archive);
    // The same again is the same.
    assert_eq!(there_and_back(&serving, &archive), name);
}

#[test]
fn an_image_of_ours_is_pulled_as_it_was_built() {
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!("not run: an image of ours to a registry: POSTERN_E2E=off; `make test` runs it");
        return;
    }
    let images = images::build(&images::default_dir().unwrap(), "dev", &|line| {
        println!("{line}");
    });
    there_and_back(&Serving::plain(), &images.unwrap().echo);
}

#[test]
fn without_tls_nothing_is_sent_to_what_is_not_said_to_be_here() {
    let serving = Serving::plain();
    let archive = archive(serving.dir.path());
    let told_plain = Pusher::built()
        .unwrap()
        .command(&archive, &serving.registry(), "a", "dev");
    // The same without the word that this registry is on this machine, which only such get.
    let mut command = Command::new(told_plain.get_program());
    command.args(
        told_plain
            .get_args()
            .filter(|argument| *argument != "-plain"),
    );
    let error = pushed(&mut command, &serving.registry(), "a")
        .unwrap_err()
        .to_string();
    assert!(error.contains("plain HTTP"), "{error}");
    assert!(
        !serving.dir.path().join("store").exists(),
        "something arrived"
    );
}

#[test]
fn a_registry_with_tls_and_a_password_takes_what_the_persons_own_files_allow() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let [ca, certificate, key] = postern_edge::certificate(&["127.0.0.1"]).unwrap();
    for (name, text) in [
        ("ca.crt", ca.as_str()),
        ("tls.crt", &certificate),
        ("tls.key", &key),
        ("htpasswd", HTPASSWD),
    ] {
        fs::write(at(name), text).unwrap();
    }
    let tls = json!({"tls": {"certificate": at("tls.crt"), "key": at("tls.key")}});
    let auth = json!({"htpasswd": {"realm": "here", "path": at("htpasswd")}});
    let (ca, docker) = (at("ca.crt"), at("docker"));
    let serving = Serving::start(dir, tls, &auth);
    let archive = archive(serving.dir.path());
    let registry = serving.registry();
    let pusher = Pusher::built().unwrap();
    let push = |auths: Value| {
        fs::create_dir_all(&docker).unwrap();
        fs::write(
            docker.join("config.json"),
            json!({"auths": auths}).to_string(),
        )
        .unwrap();
        let mut command = pusher.command(&archive, &registry, "a", "dev");
        // Go's library looks below the home folder, too.
        command
            .env("DOCKER_CONFIG", &docker)
            .env("HOME", &docker)
            .env("SSL_CERT_FILE", &ca);
        pushed(&mut command, &registry, "a")
    };
    let error = push(json!({})).unwrap_err().to_string();
    assert!(error.contains("log in first"), "{error}");
    let host = format!("127.0.0.1:{}", serving.port);
    let wrong = push(json!({&host: {"auth": "YW5uOndyb25n"}}))
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("log in first"), "{wrong}");
    let name = push(json!({&host: {"auth": CREDENTIALS}})).unwrap();
    assert!(
        name.starts_with(&format!("{host}/some/team/a@sha256:")),
        "{name}"
    );
}
