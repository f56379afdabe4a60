//! Each exposure, asked from outside of the cluster: who the client is, what is believed of it, and that a
//! change from one to the next loses no request.
//!
//! One node cannot show what happens between nodes: with `externalTrafficPolicy: Cluster` another node's
//! address stands in place of the client's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use postern_cluster::Outside;
use postern_edge::{
    Answer, Ask, Load, Metallb, Mode, Router, WHO_IMAGE, certificate, install_routes, load_who,
};
use serde_json::Value;

use crate::instances;
use crate::network::{probe_pod, reaches, refused};
use crate::world::{Who, World, example};

const TEAM: &str = "team-a";
const NAME: &str = "outer";
const HOST: &str = "outer.team-a.example";
const ENVOY: &str = "postern-outer-envoy";
const ENTITLEMENT: &str = "entitlement/postern-outer-entitlement";
/// Of the node's network, where nothing else is.
const POOL: (Ipv4Addr, Ipv4Addr) = (
    Ipv4Addr::new(198, 18, 0, 210),
    Ipv4Addr::new(198, 18, 0, 213),
);
/// An address that nobody has (RFC 5737): who names it lies.
const LIE: &str = "203.0.113.9";
const LIES: &[(&str, &str)] = &[
    ("X-Forwarded-For", LIE),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Real-Ip", LIE),
    ("X-Envoy-External-Address", LIE),
    ("Forwarded", "for=203.0.113.9;proto=gopher"),
];

/// What the admins grant beside what the team has.
const GRANT: &str = "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: outer}, \
    spec: {namespaces: {names: [team-a]}, hostnames: [], exposures: [LoadBalancer, Route], addressPools: [pool]}}";

struct Outer<'a> {
    world: &'a World,
    outside: Outside<'a>,
    router: Router<'a>,
    /// The authority of the team's own certificate, and that of the router's.
    own: PathBuf,
}

pub fn run(world: &World) -> Result<()> {
    let cluster = world.cluster();
    load_who(cluster)?;
    install_routes(cluster)?;
    let _metallb = Metallb::start(cluster, POOL, None)?;
    let router = Router::start(cluster, Mode::PodNetwork)?;
    println!("           a router and MetalLB are there");
    let [authority, certificate, key] = certificate(&[HOST])?;
    let own = cluster.state_dir().join("outer-ca.pem");
    fs::write(&own, authority)?;
    world.apply(Who::Admin, GRANT)?;
    world.apply(Who::Admin, &probe_pod("team-a"))?;
    world.apply(Who::Admin, &probe_pod("team-b"))?;
    world.apply(Who::Tenant(0), &backend(&certificate, &key))?;
    let spec = format!(
        "{{listeners: [{{name: http, port: 80, protocol: HTTP, hostname: {HOST}}}, {{name: https, port: 443, \
         protocol: HTTPS, hostname: {HOST}, tls: {{certificateRefs: [{{name: outer}}]}}}}], \
         exposure: {{type: NodePort, nodePort: {{externalTrafficPolicy: Local}}}}}}"
    );
    instances::make(world, 0, NAME, &spec)?;
    let rule = "backendRefs: [{name: who, port: 8080}]";
    world.route(0, "outer", "{name: outer}", HOST, rule)?;
    let outer = Outer {
        world,
        outside: cluster.outside()?,
        router,
        own,
    };
    // The platform's baseline lets pods of the namespace reach each other, Envoys too, and policies only add
    // up: without it, what refuses is ours.
    let baseline = ["-n", TEAM, "delete", "networkpolicy", "baseline"];
    world.may(Who::Admin, &baseline, "")?;
    let done = outer.each();
    let platform = example("platform");
    let path = platform.to_str().context("the examples' path")?;
    world.may(Who::Admin, &["apply", "--server-side", "-f", path], "")?;
    done?;
    instances::remove(world, 0, NAME)?;
    world.delete(0, "httproute", "outer")?;
    for (kind, name) in [("pod", "who"), ("service", "who"), ("secret", "outer")] {
        world.delete(0, kind, name)?;
    }
    for arguments in [
        &["delete", "tenantgrant", "outer"][..],
        &["-n", "team-a", "delete", "pod", "probe", "--grace-period=1"],
        &["-n", "team-b", "delete", "pod", "probe", "--grace-period=1"],
    ] {
        world.may(Who::Admin, arguments, "")?;
    }
    outer.router.stop()
}

/// How Envoy is reached: for plain HTTP and for HTTPS.
#[derive(Clone, Copy)]
struct Ways {
    http: Option<SocketAddr>,
    https: SocketAddr,
}

impl Outer<'_> {
    fn each(&self) -> Result<()> {
        let client = self.outside.address().to_string();
        let nodes = self.node_ports()?;
        self.is_told(nodes, &self.own, &client, false)?;
        self.no_proxy_header(nodes.http)?;
        self.truth(&[true, true])?;
        println!("           NodePort: the client is told, and no lie about it");

        let routers = Ways {
            http: None,
            https: self.router.https(),
        };
        let theirs = self.world.cluster().state_dir().join("router-ca.pem");
        fs::write(&theirs, self.router.ca())?;
        let edge = format!(
            "{{type: Route, nodePort: null, route: {{termination: Edge, hosts: [{HOST}]}}}}"
        );
        self.change(&edge, (nodes, &self.own), (routers, &theirs))?;
        // The router's certificate is for its own domain: the host's name is not in it.
        self.is_told(routers, Path::new(""), &client, true)?;
        let answer = self.ask("https", routers.https, Path::new(""), LIES)?;
        ensure!(
            !answer.headers.contains_key("Set-Cookie"),
            "a router's cookie makes weights stick: {answer:?}"
        );
        self.truth(&[true, false])?;
        println!("           Route, edge: the client is told by the router alone");

        let passthrough =
            format!("{{type: Route, route: {{termination: Passthrough, hosts: [{HOST}]}}}}");
        self.change(&passthrough, (routers, &theirs), (routers, &self.own))?;
        self.is_told(routers, &self.own, "unknown", false)?;
        self.truth(&[true, false])?;
        println!("           Route, passthrough: the client is unknown");

        let balanced =
            "{type: LoadBalancer, route: null, loadBalancer: {externalTrafficPolicy: Local}}";
        self.set(balanced)?;
        let mut at = None;
        self.world.wait("the load balancer gave an address", || {
            let path = "{.status.loadBalancer.ingress[0].ip}";
            let text = self
                .world
                .value(TEAM, "service/postern-outer-gateway", path)?;
            at = text.trim().parse::<Ipv4Addr>().ok();
            Ok(at.is_some())
        })?;
        let at = IpAddr::from(at.context("just seen")?);
        let balancer = Ways {
            http: Some((at, 80).into()),
            https: (at, 443).into(),
        };
        self.change(balanced, (routers, &self.own), (balancer, &self.own))?;
        self.is_told(balancer, &self.own, &client, false)?;
        self.no_proxy_header(balancer.http)?;
        self.truth(&[true, true])?;
        println!("           LoadBalancer: the client is told, and no lie about it");

        // And back.
        self.change_back(balancer)
    }

    fn node_ports(&self) -> Result<Ways> {
        let port = |number: u16| -> Result<SocketAddr> {
            let path = format!("{{.spec.ports[?(@.port=={number})].nodePort}}");
            let text = self
                .world
                .value(TEAM, "service/postern-outer-gateway", &path)?;
            Ok((self.outside.node(), text.trim().parse::<u16>()?).into())
        };
        Ok(Ways {
            http: Some(port(80)?),
            https: port(443)?,
        })
    }

    fn set(&self, exposure: &str) -> Result<()> {
        let patch = format!("{{spec: {{exposure: {exposure}}}}}");
        let patch: Value = serde_saphyr::from_str(&patch)?;
        let object = format!("gatewayinstance/{NAME}");
        let patch = patch.to_string();
        let arguments = ["-n", TEAM, "patch", &object, "--type=merge", "-p", &patch];
        self.world.may(Who::Tenant(0), &arguments, "").map(|_| ())
    }

    /// Changes the exposure while clients use the old one and, as soon as it answers, the new one: short
    /// and long requests, HTTP/1.1 and HTTP/2. The old clients stop when the new ones are served; none of
    /// them may lose a request.
    fn change(
        &self,
        exposure: &str,
        (old, old_ca): (Ways, &Path),
        (new, new_ca): (Ways, &Path),
    ) -> Result<()> {
        let before = self.clients(old)?;
        let done = self.set(exposure).and_then(|()| {
            self.world.wait("the new exposure answers", || {
                let same = old.https == new.https;
                // The same router answers both: its certificate tells which.
                let ca = if same { new_ca } else { Path::new("") };
                Ok(
                    (!same || old_ca == new_ca || self.ask("https", new.https, ca, &[]).is_ok())
                        && self
                            .ask("https", new.https, Path::new(""), &[])
                            .is_ok_and(|answer| answer.status == 200),
                )
            })
        });
        let after = done.and_then(|()| self.clients(new));
        served(before, "what was left")?;
        // Until what was left has gone: its Service or Route changes.
        let gone = self.world.wait("what was left is gone", || {
            let text = self
                .world
                .value(TEAM, ENTITLEMENT, "{.status.exposures[*].type}")?;
            Ok(text.split(' ').count() == 1)
        });
        std::thread::sleep(Duration::from_secs(2));
        served(after?, "what came")?;
        gone
    }

    /// To node ports again, while clients use the load balancer.
    fn change_back(&self, balancer: Ways) -> Result<()> {
        let before = self.clients(balancer)?;
        let done = self
            .set("{type: NodePort, loadBalancer: null, nodePort: {externalTrafficPolicy: Local}}")
            .and_then(|()| {
                let mut ways = None;
                self.world.wait("node ports answer again", || {
                    ways = self.node_ports().ok();
                    Ok(ways
                        .is_some_and(|ways| self.ask("https", ways.https, &self.own, &[]).is_ok()))
                })
            });
        served(before, "the load balancer")?;
        done
    }

    /// Clients that ask until they are ended.
    fn clients(&self, ways: Ways) -> Result<Vec<Load>> {
        let mut clients = Vec::new();
        let https = format!("https://{HOST}");
        let http = format!("http://{HOST}");
        let asked = ways.http.map(|at| (http, at)).into_iter();
        for (base, at) in asked.chain([(https, ways.https)]) {
            for path in ["/", "/?wait=3s"] {
                let url = format!("{base}{path}");
                clients.push(Ask::new(&url, at).load(&self.outside)?);
            }
        }
        Ok(clients)
    }

    fn ask(
        &self,
        scheme: &str,
        at: SocketAddr,
        ca: &Path,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let url = format!("{scheme}://{HOST}/told");
        let mut ask = Ask::new(&url, at);
        ask.headers = headers;
        ask.ca = (!ca.as_os_str().is_empty()).then_some(ca);
        let answer = ask.ask(&self.outside)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    }

    /// The backend and the access log know the client, whatever it says of itself.
    fn is_told(&self, ways: Ways, ca: &Path, client: &str, behind: bool) -> Result<()> {
        let plain = ways.http.map(|at| ("http", at)).into_iter();
        for (scheme, at) in plain.chain([("https", ways.https)]) {
            let answer = self.ask(scheme, at, ca, LIES)?;
            let seen = |name: &str| answer.seen(name).unwrap_or_default();
            // Behind a router that is believed, the router's own address follows.
            let all = seen("X-Forwarded-For");
            let mut hops = all.split(',');
            let (first, more) = (hops.next().unwrap_or_default().trim(), hops.count());
            ensure!(
                first == client && more == usize::from(behind),
                "{scheme}: X-Forwarded-For is {all:?} and should begin with {client:?}"
            );
            ensure!(
                seen("X-Forwarded-Proto") == scheme,
                "X-Forwarded-Proto: {:?}",
                seen("X-Forwarded-Proto")
            );
            let all = answer.body["headers"].to_string();
            ensure!(!all.contains(LIE) && !all.contains("gopher"), "{all}");
            let id = seen("X-Request-Id");
            let line = self.logged(&id)?;
            ensure!(
                line["client"] == client && line["path"] == "/told" && line["status"] == 200,
                "{line}"
            );
        }
        Ok(())
    }

    /// The line of a request in an Envoy's access log.
    fn logged(&self, id: &str) -> Result<Value> {
        ensure!(!id.is_empty(), "a request without an id");
        let mut found = None;
        self.world.wait("the request is logged", || {
            for (pod, _) in self.world.pods_of(TEAM, ENVOY)? {
                let logs = ["-n", TEAM, "logs", &pod, "--tail=2000"];
                let text = self.world.may(Who::Tenant(0), &logs, "")?;
                let line = text.lines().find(|line| line.contains(id));
                if let Some(line) = line {
                    found = Some(serde_json::from_str(line).context(line.to_owned())?);
                }
            }
            Ok(found.is_some())
        })?;
        found.context("just seen")
    }

    /// A PROXY header is no header here: the connection is not served.
    fn no_proxy_header(&self, at: Option<SocketAddr>) -> Result<()> {
        let Some(at) = at else {
            bail!("no way for plain HTTP");
        };
        let mut stream = self.outside.dial(at, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "PROXY TCP4 {LIE} 198.18.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        // Reset or closed: no answer either.
        let _ = stream.read_to_string(&mut answer);
        ensure!(!answer.contains(" 200 "), "{answer}");
        Ok(())
    }

    /// Tenant by port, as the policies say and as pods find it: `direct` for pods of team-a and team-b at the
    /// listeners' own ports; at the routers' ports no pod but routers.
    fn truth(&self, direct: &[bool; 2]) -> Result<()> {
        let status = self.world.json(&["-n", TEAM, ENTITLEMENT])?;
        let ports = status["status"]["gateways"][0]["ports"]
            .as_array()
            .context("ports")?;
        let [(_, envoy)] = &self.world.pods_of(TEAM, ENVOY)?[..] else {
            bail!("one Envoy");
        };
        let mut kinds = BTreeSet::new();
        for port in ports {
            let number = port["containerPort"].as_u64().context("a port")?;
            let at = SocketAddr::new(*envoy, u16::try_from(number)?);
            let exposure = port["exposure"].as_str().unwrap_or_default();
            kinds.insert(exposure.to_owned());
            for (team, admitted) in ["team-a", "team-b"].into_iter().zip(direct) {
                if exposure == "Direct" && *admitted {
                    reaches(self.world, team, at)?;
                } else {
                    refused(self.world, team, at, &format!("{TEAM}/{ENVOY}"))?;
                }
            }
        }
        ensure!(kinds.contains("Direct"), "{kinds:?}");
        Ok(())
    }
}

/// Ends clients, none of which may have lost a request.
fn served(clients: Vec<Load>, what: &str) -> Result<()> {
    let mut asked = 0;
    for client in clients {
        let told = client.end()?;
        ensure!(
            told.failed.is_empty() && told.asked > 0,
            "{what}: of {} requests over {:?} failed: {:?}",
            told.asked,
            told.protos,
            told.failed.iter().take(5).collect::<Vec<_>>()
        );
        asked += told.asked;
    }
    println!("           {what}: {asked} requests, none failed");
    Ok(())
}

/// A backend that says what it saw, and the team's certificate.
fn backend(certificate: &str, key: &str) -> String {
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "outer", "namespace": TEAM},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    format!(
        "{secret}\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: who, namespace: {TEAM}}}, spec: \
         {{selector: {{app: who}}, ports: [{{port: 8080}}]}}}}\n---\n{{apiVersion: v1, kind: Pod, metadata: \
         {{name: who, namespace: {TEAM}, labels: {{app: who}}}}, spec: {{automountServiceAccountToken: false, \
         securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}, \
         containers: [{{name: who, image: {WHO_IMAGE:?}, imagePullPolicy: Never, args: [serve], readinessProbe: \
         {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}, securityContext: {{allowPrivilegeEscalation: \
         false, capabilities: {{drop: [ALL]}}}}}}]}}}}\n"
    )
}
