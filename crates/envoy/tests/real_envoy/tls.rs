//! TLS chains by server name, and certificates that change.

use std::path::Path;
use std::sync::Arc;

use postern_model::{
    Host, Listener, ListenerKind, Material, Pem, Proxy, Secret, SecretId, TableId, TlsChain, Trust,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::fixtures::{
    entry, host, listener, origin, path, put, put_listener, put_table, table, to,
};
use crate::routing::with_backends;
use crate::world::{Answer, PORT, World};

/// A certificate of its own, for a name.
fn secret(id: &str, name: &str) -> Arc<Secret> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Arc::new(Secret {
        id: SecretId(id.into()),
        material: Material::Inline {
            chain: Pem(made.cert.pem().into()),
            key: Pem(made.signing_key.serialize_pem().into()),
        },
        origin: origin("Secret", id),
    })
}

/// Certificate and key of [`secret`].
fn pem(secret: &Secret) -> (&str, &str) {
    match &secret.material {
        Material::Inline { chain, key } => (&chain.0, &key.0),
        Material::Mounted { .. } => panic!("they are Envoy's own"),
    }
}

fn chain(name: &str, certificate: &str) -> TlsChain {
    TlsChain {
        server_name: Host::parse(name),
        certificates: vec![SecretId(certificate.into())],
        table: TableId("web".into()),
        origin: origin("Gateway", name),
    }
}

fn https(chains: Vec<TlsChain>) -> Arc<Listener> {
    Arc::new(Listener {
        kind: ListenerKind::Https { chains },
        ..(*listener("web", PORT, "web", Trust::Nothing)).clone()
    })
}

/// Connects with a server name, trusting only this certificate. The error is the reason.
async fn connect(
    world: &World,
    name: &str,
    trusted: &Secret,
    protocol: &str,
) -> Result<(Answer, Option<Vec<u8>>), String> {
    use rustls_pki_types::pem::PemObject;
    let (certificate, _) = pem(trusted);
    let certificate = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = tokio::net::TcpStream::connect(world.listener())
        .await
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let mut response = Vec::new();
    if protocol == "http/1.1" {
        let request = b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let _ = stream.read_to_end(&mut response).await;
    }
    Ok((Answer::parse(&String::from_utf8_lossy(&response)), agreed))
}

async fn base(world: &World) -> Proxy {
    let mut proxy = with_backends(world, &["a"]).await;
    let entries = vec![entry("all", path("/*"), to("ns/a/80"))];
    put_table(&mut proxy, table("web", vec![host("*", entries)]));
    proxy
}

#[tokio::test]
async fn server_names_pick_certificates_and_unknown_ones_are_closed() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = base(&world).await;
    let exact = secret("ns/exact", "a.example");
    let wild = secret("ns/wild", "*.b.example");
    put(&mut proxy.secrets, exact.id.clone(), exact.clone());
    put(&mut proxy.secrets, wild.id.clone(), wild.clone());
    let chains = vec![
        chain("a.example", "ns/exact"),
        chain("*.b.example", "ns/wild"),
    ];
    put_listener(&mut proxy, https(chains));
    world.apply(&proxy).await;

    let (answer, agreed) = connect(&world, "a.example", &exact, "http/1.1")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.backend()), (200, "a"));
    assert_eq!(answer.seen("x-forwarded-proto"), ["https"]);
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
    let (_, agreed) = connect(&world, "a.example", &exact, "h2").await.unwrap();
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
    let (answer, _) = connect(&world, "x.b.example", &wild, "http/1.1")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    // No chain takes these: no certificate is shown.
    for name in ["a.other", "127.0.0.1"] {
        let error = connect(&world, name, &exact, "http/1.1").await.unwrap_err();
        assert!(
            error.contains("eof") || error.contains("reset"),
            "{name}: {error}"
        );
    }
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_the_listener_stays() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = base(&world).await;
    let old = secret("ns/cert", "a.example");
    let new = secret("ns/cert", "a.example");
    put(&mut proxy.secrets, old.id.clone(), old.clone());
    put_listener(&mut proxy, https(vec![chain("*", "ns/cert")]));
    world.apply(&proxy).await;
    connect(&world, "a.example", &old, "http/1.1")
        .await
        .unwrap();

    put(&mut proxy.secrets, new.id.clone(), new.clone());
    world.apply(&proxy).await;
    assert_eq!(world.encoder().work().listeners, 0);
    connect(&world, "a.example", &new, "http/1.1")
        .await
        .unwrap();
    connect(&world, "a.example", &old, "http/1.1")
        .await
        .unwrap_err();
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn a_chain_without_its_certificate_leaves_the_others() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = base(&world).await;
    let good = secret("ns/good", "a.example");
    put(&mut proxy.secrets, good.id.clone(), good.clone());
    let chains = vec![
        chain("a.example", "ns/good"),
        chain("b.example", "ns/missing"),
    ];
    put_listener(&mut proxy, https(chains));
    world.apply(&proxy).await;
    let (answer, _) = connect(&world, "a.example", &good, "http/1.1")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let refused: Vec<&str> = world
        .encoder()
        .refused()
        .iter()
        .map(|(at, _)| &*at.name)
        .collect();
    assert_eq!(refused, ["b.example"]);
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn of_several_certificates_the_fitting_one_is_shown() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = base(&world).await;
    let one = secret("ns/one", "one.example");
    let two = secret("ns/two", "two.example");
    put(&mut proxy.secrets, one.id.clone(), one.clone());
    put(&mut proxy.secrets, two.id.clone(), two.clone());
    let ids = [&one.id, &two.id, &one.id];
    let both = TlsChain {
        certificates: ids.into_iter().cloned().collect(),
        ..chain("*", "ns/one")
    };
    put_listener(&mut proxy, https(vec![both]));
    world.apply(&proxy).await;
    for (name, trusted) in [("one.example", &one), ("two.example", &two)] {
        let (answer, _) = connect(&world, name, trusted, "http/1.1").await.unwrap();
        assert_eq!(answer.status, 200, "{name}");
    }
    world.assert_nothing_refused().await;
}

/// The translator refuses such certificates; should one come through, it must not take the rest
/// with it.
#[tokio::test]
async fn a_certificate_that_envoy_refuses_leaves_the_others() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = base(&world).await;
    let good = secret("ns/good", "a.example");
    let bad = Arc::new(Secret {
        id: SecretId("ns/bad".into()),
        material: Material::Inline {
            chain: Pem(pem(&secret("ns/bad", "b.example")).0.into()),
            key: Pem(pem(&secret("ns/other", "b.example")).1.into()),
        },
        origin: origin("Secret", "ns/bad"),
    });
    put(&mut proxy.secrets, good.id.clone(), good.clone());
    put(&mut proxy.secrets, bad.id.clone(), bad.clone());
    let chains = vec![chain("a.example", "ns/good"), chain("b.example", "ns/bad")];
    put_listener(&mut proxy, https(chains));
    let refused = world.apply_refused(&proxy).await;
    assert!(
        refused.iter().all(|why| why.starts_with("Secret: ")),
        "{refused:?}"
    );
    let (answer, _) = connect(&world, "a.example", &good, "http/1.1")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    connect(&world, "b.example", &bad, "http/1.1")
        .await
        .unwrap_err();
}

/// As a kubelet mounts a Secret: files in a folder that a link leads to, and the link is replaced.
fn mount(dir: &Path, version: &str, secret: &Secret) {
    let (certificate, key) = pem(secret);
    let files = dir.join(version);
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("tls.crt"), certificate).unwrap();
    std::fs::write(files.join("tls.key"), key).unwrap();
    let (link, new) = (dir.join("..data"), dir.join("..data_tmp"));
    std::os::unix::fs::symlink(version, &new).unwrap();
    std::fs::rename(new, link).unwrap();
    for name in ["tls.crt", "tls.key"] {
        let at = dir.join(name);
        if !at.is_symlink() {
            std::os::unix::fs::symlink(format!("..data/{name}"), at).unwrap();
        }
    }
}

/// What routers see when they speak TLS to Envoy. The key is never sent, and a renewed certificate
/// needs no news from the control plane.
#[tokio::test]
async fn a_mounted_certificate_is_shown_and_followed() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (secret("one", "x.svc"), secret("two", "x.svc"));
    mount(dir.path(), "..1", &one);
    let mut proxy = base(&world).await;
    let mounted = Arc::new(Secret {
        id: SecretId("mounted".into()),
        material: Material::Mounted {
            dir: dir.path().to_str().unwrap().into(),
        },
        origin: origin("GatewayInstance", "ns/default"),
    });
    put(&mut proxy.secrets, mounted.id.clone(), mounted);
    let any = TlsChain {
        server_name: Host::Any,
        ..chain("*", "mounted")
    };
    put_listener(&mut proxy, https(vec![any]));
    world.apply(&proxy).await;
    let (answer, _) = connect(&world, "x.svc", &one, "http/1.1").await.unwrap();
    assert_eq!((answer.status, answer.backend()), (200, "a"));
    connect(&world, "x.svc", &two, "http/1.1")
        .await
        .unwrap_err();

    mount(dir.path(), "..2", &two);
    let begun = std::time::Instant::now();
    while connect(&world, "x.svc", &two, "http/1.1").await.is_err() {
        assert!(begun.elapsed().as_secs() < 30, "it is not followed");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.assert_nothing_refused().await;
}
