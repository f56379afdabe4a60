//! Three hundred certificates by name, in Gateways of one instance.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::inside::{anonymous, certificates, process};
use crate::instances::{cluster_ip, make, remove};
use crate::world::{Who, World};

/// A Gateway has at most 64 listeners.
const GATEWAYS: usize = 5;
const LISTENERS: usize = 60;
const ALL: usize = GATEWAYS * LISTENERS;
const CONTROL_PLANE: &str = "postern-many-controlplane";
const LABEL: &str = "part=many";

pub fn run(world: &World) -> Result<()> {
    make(world, 0, "many", "{exposure: {type: ClusterIP}}")?;
    let done = serve(world);
    let label = ["-n", "team-a", "delete", "gateways", "-l", LABEL];
    world.may(Who::Admin, &label, "")?;
    let label = [
        "-n",
        "team-a",
        "delete",
        "secrets",
        "-l",
        LABEL,
        "--wait=false",
    ];
    world.may(Who::Tenant(0), &label, "")?;
    remove(world, 0, "many")?;
    done
}

fn serve(world: &World) -> Result<()> {
    let control_plane = process(world, "team-a", CONTROL_PLANE, "postern-controlplane")?;
    let before = anonymous(control_plane)?;
    let renewed = || world.value("team-a", "lease/postern-many-lease", "{.spec.renewTime}");
    let first = renewed()?;
    ensure!(!first.is_empty(), "the control plane has no Lease");
    let began = Instant::now();
    let secrets: Vec<Value> = (0..ALL)
        .map(|number| secret(number, 0))
        .collect::<Result<_>>()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": secrets});
    world.may(Who::Tenant(0), &["create", "-f", "-"], &list.to_string())?;
    let gateways: Vec<Value> = (0..GATEWAYS).map(gateway).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": gateways});
    world.may(Who::Admin, &["create", "-f", "-"], &list.to_string())?;
    let written = began.elapsed();

    let mut held = Vec::new();
    world.wait("Envoy holds all certificates", || {
        let shown = certificates(world, "team-a", "postern-many-envoy")?;
        held = shown.into_iter().map(|shown| shown.serial).collect();
        Ok((0..ALL).all(|number| held.contains(&serial(number, 0))))
    })?;
    let served = began.elapsed();
    let addresses: Vec<IpAddr> = (0..GATEWAYS)
        .map(|number| Ok(cluster_ip(world, "team-a", &format!("many-{number}"), 443)?.ip()))
        .collect::<Result<_>>()?;
    for (gateway, address) in addresses.iter().enumerate() {
        for number in [gateway * LISTENERS, (gateway + 1) * LISTENERS - 1] {
            let shown = shown(world, *address, number)?;
            ensure!(shown == serial(number, 0), "{number} is {shown}");
        }
    }
    println!(
        "           {ALL} certificates: written in {:.1} s, all held {:.1} s later",
        written.as_secs_f64(),
        (served - written).as_secs_f64()
    );

    // The last one changes, again and again, until the Lease was renewed meanwhile: whoever is busy with
    // certificates must not lose it.
    let (last, address) = (ALL - 1, addresses[GATEWAYS - 1]);
    let mut version = 0;
    let mut slowest = 0.0_f64;
    while version == 0 || renewed()? == first {
        version += 1;
        let changed = Instant::now();
        world.apply(Who::Tenant(0), &secret(last, version)?.to_string())?;
        world.wait("the changed certificate is served", || {
            Ok(shown(world, address, last)? == serial(last, version))
        })?;
        slowest = slowest.max(changed.elapsed().as_secs_f64());
    }
    let neighbour = shown(world, address, last - 1)?;
    ensure!(
        neighbour == serial(last - 1, 0),
        "{} is {neighbour}",
        last - 1
    );
    println!(
        "           the last one changed {version} times, each served within {slowest:.1} s; the Lease was renewed meanwhile"
    );
    println!(
        "           control plane's RssAnon: {before} KiB before, {} KiB with {ALL} certificates",
        anonymous(control_plane).context("the control plane is another process now")?
    );
    Ok(())
}

fn host(number: usize) -> String {
    format!("c{number}.team-a.example")
}

/// The serial that a certificate gets: 11, its version, its number, in hexadecimal digits.
fn serial(number: usize, version: usize) -> String {
    format!("11{version:02x}{number:04x}")
}

fn secret(number: usize, version: usize) -> Result<Value> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(vec![host(number)])?;
    let digits = u64::from_str_radix(&serial(number, version), 16)?;
    parameters.serial_number = Some(digits.into());
    let certificate = parameters.self_signed(&key)?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": format!("many-{number}"), "namespace": "team-a", "labels": {"part": "many"}},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
    }))
}

fn gateway(gateway: usize) -> Value {
    let numbers = gateway * LISTENERS..(gateway + 1) * LISTENERS;
    let listeners: Vec<Value> = numbers
        .map(|number| {
            json!({
                "name": format!("c{number}"), "port": 443, "protocol": "HTTPS", "hostname": host(number),
                "tls": {"certificateRefs": [{"name": format!("many-{number}")}]},
            })
        })
        .collect();
    let instance = json!({"group": "postern.dev", "kind": "GatewayInstance", "name": "many"});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": format!("many-{gateway}"), "namespace": "team-a", "labels": {"part": "many"}},
        "spec": {
            "gatewayClassName": "postern", "listeners": listeners,
            "infrastructure": {"parametersRef": instance},
        },
    })
}

/// The serial of the certificate that a client of this host is shown.
fn shown(world: &World, address: IpAddr, number: usize) -> Result<String> {
    let line = format!(
        "timeout 5 openssl s_client -connect {address}:443 -servername {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
        host(number)
    );
    let output = world.cluster().exec(&["sh", "-c", &line])?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    Ok(text.trim().trim_start_matches("serial=").to_owned())
}
