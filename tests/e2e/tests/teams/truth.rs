//! Who reaches which port of whom: computed from the policies that are there, and measured from pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use postern_api::names::InstanceNames;
use postern_api::ports;
use serde_json::Value;

use crate::network::connects;
use crate::world::{TEAMS, World};

/// The instances whose pods are asked, and where each stands.
const INSTANCES: [(&str, &str); 3] = [
    ("team-a", "default"),
    ("team-a", "outer"),
    ("team-b", "default"),
];

/// From which team which port was reached.
pub type Table = BTreeMap<(&'static str, SocketAddr), bool>;

/// A port of a pod, and the labels of the pod.
struct Port {
    team: &'static str,
    labels: Value,
    at: SocketAddr,
}

/// The table of all ports on which Envoys and control planes listen, from a pod `probe` of each team. What
/// the policies say and what the probes find must be equal.
pub fn table(world: &World) -> Result<Table> {
    let mut listening = Vec::new();
    for (team, instance) in INSTANCES {
        listening.extend(ports_of(world, team, instance)?);
    }
    let mut policies = BTreeMap::new();
    let mut namespaces = BTreeMap::new();
    for team in TEAMS {
        let list = world.json(&["-n", team, "networkpolicies"])?;
        policies.insert(team, list["items"].as_array().context("a list")?.clone());
        let namespace = world.json(&["namespace", team])?;
        namespaces.insert(team, namespace["metadata"]["labels"].clone());
    }
    let mut computed = Table::new();
    for port in &listening {
        for from in TEAMS {
            let source = Source {
                same_namespace: from == port.team,
                namespace: &namespaces[from],
            };
            let said = admits(&policies[port.team], port, &source)?;
            computed.insert((from, port.at), said);
        }
    }
    let measured: Result<Table> = std::thread::scope(|scope| {
        let probes: Vec<_> = computed
            .keys()
            .map(|(from, at)| (*from, *at, scope.spawn(|| connects(world, from, *at))))
            .collect();
        probes
            .into_iter()
            .map(|(from, at, probe)| {
                let found = probe.join().ok().context("a probe panicked")??;
                Ok(((from, at), found))
            })
            .collect()
    });
    let measured = measured?;
    ensure!(
        measured == computed,
        "the policies say {computed:?} and probes find {measured:?}"
    );
    let reached = measured.values().filter(|reached| **reached).count();
    ensure!(
        reached > 0 && reached < measured.len(),
        "a table that tells nothing: {measured:?}"
    );
    println!(
        "           {reached} of {} paths between pods are open, as the policies say",
        measured.len()
    );
    Ok(measured)
}

/// Where the pods of an instance listen.
fn ports_of(world: &World, team: &'static str, instance: &str) -> Result<Vec<Port>> {
    let names = InstanceNames::new(instance);
    let entitlement = format!("entitlement/{}", names.entitlement());
    let path = "{.status.gateways[*].ports[*].containerPort}";
    let listeners = world.value(team, &entitlement, path)?;
    let mut of_envoy = vec![ports::PROXY_PROBES, ports::PROXY_METRICS];
    for number in listeners.split_whitespace() {
        of_envoy.push(number.parse()?);
    }
    let of_control_plane = vec![
        ports::XDS,
        ports::CONTROL_PLANE_PROBES,
        ports::CONTROL_PLANE_METRICS,
    ];
    let mut found = Vec::new();
    for (deployment, numbers) in [
        (names.envoy("default"), of_envoy),
        (names.control_plane(), of_control_plane),
    ] {
        for (pod, address) in world.pods_of(team, &deployment)? {
            let object = world.json(&["-n", team, "pod", &pod])?;
            found.extend(numbers.iter().map(|number| Port {
                team,
                labels: object["metadata"]["labels"].clone(),
                at: SocketAddr::new(address, *number),
            }));
        }
    }
    Ok(found)
}

/// A pod that asks. It has no labels of its own.
struct Source<'a> {
    same_namespace: bool,
    namespace: &'a Value,
}

/// What the policies of the port's namespace say (`networking.k8s.io/v1`, `NetworkPolicySpec`): a pod that none
/// selects is open, another one to what any of them lets in.
fn admits(policies: &[Value], port: &Port, source: &Source<'_>) -> Result<bool> {
    let mut isolated = false;
    for policy in policies {
        let spec = &policy["spec"];
        let types = spec["policyTypes"].as_array().context("policyTypes")?;
        if !types.contains(&"Ingress".into()) || !matches(&spec["podSelector"], &port.labels)? {
            continue;
        }
        isolated = true;
        for rule in spec["ingress"].as_array().into_iter().flatten() {
            if to(rule, port.at.port())? && from(rule, source)? {
                return Ok(true);
            }
        }
    }
    Ok(!isolated)
}

fn to(rule: &Value, number: u16) -> Result<bool> {
    let Some(ports) = rule["ports"].as_array().filter(|ports| !ports.is_empty()) else {
        return Ok(true);
    };
    for port in ports {
        let plain = port["endPort"].is_null() && port["port"].is_u64() && port["protocol"] == "TCP";
        ensure!(plain, "not computed here: {port}");
        if port["port"] == number {
            return Ok(true);
        }
    }
    Ok(false)
}

fn from(rule: &Value, source: &Source<'_>) -> Result<bool> {
    let Some(peers) = rule["from"].as_array().filter(|peers| !peers.is_empty()) else {
        return Ok(true);
    };
    for peer in peers {
        ensure!(peer["ipBlock"].is_null(), "not computed here: {peer}");
        let namespace = match &peer["namespaceSelector"] {
            Value::Null => source.same_namespace,
            selector => matches(selector, source.namespace)?,
        };
        let pod = peer["podSelector"].is_null() || matches(&peer["podSelector"], &Value::Null)?;
        if namespace && pod {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a label selector selects these labels (`meta/v1`, `LabelSelector`).
fn matches(selector: &Value, labels: &Value) -> Result<bool> {
    let equal = |(key, value): (&String, &Value)| labels[key] == *value;
    if !selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(equal)
    {
        return Ok(false);
    }
    for wanted in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = wanted["key"].as_str().context("a key")?;
        let listed = wanted["values"]
            .as_array()
            .is_some_and(|values| values.contains(&labels[key]));
        let holds = match wanted["operator"].as_str().unwrap_or_default() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => !labels[key].is_null(),
            "DoesNotExist" => labels[key].is_null(),
            other => bail!("not computed here: {other}"),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
