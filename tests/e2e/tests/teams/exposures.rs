//! Each exposure, asked from outside of the cluster: who the client is, what is believed of it, and that a
//! change from one to the next loses no request.
//!
//! One node cannot show what happens between nodes: with `externalTrafficPolicy: Cluster` another node's
//! address stands in place of the client's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use postern_api::names;
use postern_cluster::Outside;
use postern_e2e::platform::SYSTEM;
use postern_edge::{
    Answer, Ask, Clients, Metallb, Mode, Place, ProxyHeader, Router, Target, WHO_IMAGE,
    certificate, install_routes, load_who,
};
use serde_json::Value;

use crate::instances;
use crate::network::probe_pod;
use crate::truth;
use crate::world::{TEAMS, Who, World, example};

const TEAM: &str = "team-a";
const NAME: &str = "outer";
const HOST: &str = "outer.team-a.example";
const ENVOY: &str = "postern-outer-envoy";
const SERVICE: &str = "service/postern-outer-gateway";
const ENTITLEMENT: &str = "entitlement/postern-outer-entitlement";
/// Of the node's network, where nothing else is.
const POOL: (Ipv4Addr, Ipv4Addr) = (
    Ipv4Addr::new(198, 18, 0, 210),
    Ipv4Addr::new(198, 18, 0, 213),
);
/// The namespace of OpenShift's routers.
const ROUTERS: &str = "openshift-ingress";
/// Seconds that an exposure which was left goes on: enough for the clients that use it to end, slow ones too.
const LINGER: &str = "POSTERN_EXPOSURE_LINGER_SECONDS=6";
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
    /// The authority of the team's own certificate.
    own: PathBuf,
}

pub fn run(world: &World) -> Result<()> {
    let cluster = world.cluster();
    world.set_operator(LINGER)?;
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
    world.apply(Who::Admin, &who_pod(ROUTERS))?;
    world.settled(SYSTEM, "postern-operator")?;
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
    world.set_operator("POSTERN_EXPOSURE_LINGER_SECONDS-")?;
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

/// How Envoy is reached: from where, for plain HTTP and for HTTPS.
#[derive(Clone, Copy)]
struct Ways<'a> {
    from: Place<'a>,
    http: Option<SocketAddr>,
    https: SocketAddr,
    /// The authority of the certificate that answers; without it no certificate is verified.
    ca: Option<&'a Path>,
}

impl Outer<'_> {
    fn each(&self) -> Result<()> {
        let client = self.outside.address().to_string();
        let nodes = self.node_ports()?.context("node ports")?;
        self.is_told(nodes, &client, false)?;
        self.no_proxy_header(nodes)?;
        self.truth(&[true, true])?;
        println!("           NodePort: the client is told, and no lie about it");

        // The router's certificate is for its own domain: the host's name is not in it.
        let edge = Ways {
            from: Place::Outside(&self.outside),
            http: None,
            https: self.router.https(),
            ca: None,
        };
        let asked = format!(
            "{{type: Route, nodePort: null, route: {{termination: Edge, hosts: [{HOST}]}}}}"
        );
        self.change(&asked, nodes, || Ok(Some(edge)))?;
        self.is_told(edge, &client, true)?;
        let answer = self.ask("https", edge, LIES)?;
        ensure!(
            !answer.headers.contains_key("Set-Cookie"),
            "a router's cookie makes weights stick: {answer:?}"
        );
        self.no_proxy_header_from_routers("Router", "http")?;
        self.truth(&[true, false])?;
        println!("           Route, edge: the client is told by the router alone");

        // At the same router, with the same certificate: its configuration tells them apart.
        let asked = format!("{{type: Route, route: {{termination: Reencrypt, hosts: [{HOST}]}}}}");
        self.change(&asked, edge, || Ok(self.reencrypts()?.then_some(edge)))?;
        self.is_told(edge, &client, true)?;
        self.truth(&[true, false])?;
        println!("           Route, reencrypt: the router believes the instance's authority");

        // At the same router: the team's own certificate tells them apart.
        let passthrough = Ways {
            ca: Some(&self.own),
            ..edge
        };
        let asked =
            format!("{{type: Route, route: {{termination: Passthrough, hosts: [{HOST}]}}}}");
        self.change(&asked, edge, || Ok(Some(passthrough)))?;
        self.is_told(passthrough, "unknown", false)?;
        self.no_proxy_header_from_routers("RouterPassthrough", "https")?;
        self.truth(&[true, false])?;
        println!("           Route, passthrough: the client is unknown");

        let asked =
            "{type: LoadBalancer, route: null, loadBalancer: {externalTrafficPolicy: Local}}";
        let balancer = self.change(asked, passthrough, || self.balancer())?;
        self.is_told(balancer, &client, false)?;
        self.no_proxy_header(balancer)?;
        self.truth(&[true, true])?;
        println!("           LoadBalancer: the client is told, and no lie about it");

        let asked =
            "{type: NodePort, loadBalancer: null, nodePort: {externalTrafficPolicy: Local}}";
        let nodes = self.change(asked, balancer, || self.node_ports())?;

        let asked = "{type: ClusterIP, nodePort: null}";
        let within = self.change(asked, nodes, || self.cluster_address())?;
        let path = "{.status.podIP}";
        let client = self.world.value(TEAM, "pod/who", path)?;
        let within = Ways {
            from: Place::Pod {
                cluster: self.world.cluster(),
                namespace: TEAM,
                name: "who",
            },
            ..within
        };
        self.is_told(within, &client, false)?;
        self.no_proxy_header(within)?;
        self.truth(&[true, false])?;
        println!("           ClusterIP: the client is told, and no lie about it");
        Ok(())
    }

    /// By the address of the Gateway's Service, from the node.
    fn cluster_address(&self) -> Result<Option<Ways<'_>>> {
        let text = self.world.value(TEAM, SERVICE, "{.spec.clusterIP}")?;
        let address: Option<IpAddr> = text.trim().parse().ok();
        Ok(address.map(|address| Ways {
            from: Place::Node(self.world.cluster()),
            http: Some((address, 80).into()),
            https: (address, 443).into(),
            ca: None,
        }))
    }

    /// By the node's ports, if the Gateway's Service has some.
    fn node_ports(&self) -> Result<Option<Ways<'_>>> {
        let port = |number: u16| -> Result<Option<SocketAddr>> {
            let path = format!("{{.spec.ports[?(@.port=={number})].nodePort}}");
            let text = self.world.value(TEAM, SERVICE, &path)?;
            let port: Option<u16> = text.trim().parse().ok();
            Ok(port.map(|port| (self.outside.node(), port).into()))
        };
        let (http, https) = (port(80)?, port(443)?);
        Ok(https.map(|https| Ways {
            from: Place::Outside(&self.outside),
            http,
            https,
            ca: Some(&self.own),
        }))
    }

    /// Whether the router speaks TLS to the Envoys, and verifies them: it is told whom to believe.
    fn reencrypts(&self) -> Result<bool> {
        let route = format!("route/{}", names::route(NAME, HOST));
        let path = "{.spec.tls.termination} {.spec.tls.destinationCACertificate}";
        let told = self.world.value(TEAM, &route, path)?;
        let published = "configmap/postern-outer-trust";
        let trust = self.world.value(TEAM, published, "{.data.ca\\.crt}")?;
        ensure!(!trust.trim().is_empty(), "nothing is published");
        Ok(told.trim() == format!("reencrypt {}", trust.trim()))
    }

    /// By the load balancer's address, once it gave one.
    fn balancer(&self) -> Result<Option<Ways<'_>>> {
        let path = "{.status.loadBalancer.ingress[0].ip}";
        let text = self.world.value(TEAM, SERVICE, path)?;
        let address: Option<IpAddr> = text.trim().parse().ok();
        Ok(address.map(|address| Ways {
            from: Place::Outside(&self.outside),
            http: Some((address, 80).into()),
            https: (address, 443).into(),
            ca: Some(&self.own),
        }))
    }

    fn set(&self, exposure: &str) -> Result<()> {
        let patch = format!("{{spec: {{exposure: {exposure}}}}}");
        let patch: Value = serde_saphyr::from_str(&patch)?;
        let object = format!("gatewayinstance/{NAME}");
        let patch = patch.to_string();
        let arguments = ["-n", TEAM, "patch", &object, "--type=merge", "-p", &patch];
        self.world.may(Who::Tenant(0), &arguments, "").map(|_| ())
    }

    /// Changes the exposure while clients use the old one and, as soon as it answers, the new one, which
    /// `find` finds. The old clients stop when the new ones are served, the new ones when the old exposure has
    /// gone; none of them may lose a request.
    fn change<'w>(
        &self,
        exposure: &str,
        old: Ways<'_>,
        find: impl Fn() -> Result<Option<Ways<'w>>>,
    ) -> Result<Ways<'w>> {
        let mut before = self.clients(old)?;
        let (new, mut after) = before.during("what is left", || {
            self.set(exposure)?;
            let mut new = None;
            self.world.wait("the new exposure answers", || {
                new = find()?;
                Ok(new.is_some_and(|new| self.ask("https", new, &[]).is_ok()))
            })?;
            let new = new.context("just found")?;
            Ok((new, self.clients(new)?))
        })?;
        before.end()?;
        after.during("what comes", || {
            self.world.wait("what was left is gone", || {
                let path = "{.status.exposures[*].type}";
                let text = self.world.value(TEAM, ENTITLEMENT, path)?;
                Ok(text.split(' ').count() == 1)
            })?;
            // Some requests after it too.
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        })?;
        after.end()?;
        Ok(new)
    }

    /// Clients of all ways.
    fn clients(&self, ways: Ways<'_>) -> Result<Clients> {
        let (http, https) = (format!("http://{HOST}/"), format!("https://{HOST}/"));
        let mut secure = Ask::new(&https, ways.https);
        secure.ca = ways.ca;
        let at_router = ways.ca.is_none() && ways.http.is_none();
        let mut targets = vec![match at_router {
            false => secure.into(),
            // With its own certificate a router offers no HTTP/2.
            true => Target::from(secure).without_http2(),
        }];
        targets.extend(ways.http.map(|at| Target::from(Ask::new(&http, at))));
        Clients::start(ways.from, &targets)
    }

    fn ask(&self, scheme: &str, ways: Ways<'_>, headers: &[(&str, &str)]) -> Result<Answer> {
        let at = match scheme {
            "http" => ways.http.context("no way for plain HTTP")?,
            _ => ways.https,
        };
        let url = format!("{scheme}://{HOST}/told");
        let mut ask = Ask::new(&url, at);
        ask.headers = headers;
        ask.ca = ways.ca.filter(|_| scheme == "https");
        // One that came before its way was there is not answered by itself later.
        ask.limit = Duration::from_secs(2);
        let answer = ask.ask(ways.from)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    }

    /// The backend and the access log know the client, whatever it says of itself.
    fn is_told(&self, ways: Ways<'_>, client: &str, behind: bool) -> Result<()> {
        let plain = ways.http.map(|_| "http").into_iter();
        for scheme in plain.chain(["https"]) {
            let answer = self.ask(scheme, ways, LIES)?;
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

    /// What a PROXY header says is believed by no port that clients reach.
    fn no_proxy_header(&self, ways: Ways<'_>) -> Result<()> {
        let plain = ways.http.context("no way for plain HTTP")?;
        for (scheme, at) in [("http", plain), ("https", ways.https)] {
            no_proxy_header(ways.from, scheme, at)?;
        }
        Ok(())
    }

    /// Nor by the port that only routers reach, where a router itself sends none: asked from a pod of their
    /// namespace, which the policy lets in.
    fn no_proxy_header_from_routers(&self, exposed: &str, scheme: &str) -> Result<()> {
        let path =
            format!("{{.status.gateways[0].ports[?(@.exposure==\"{exposed}\")].containerPort}}");
        let number = self.world.value(TEAM, ENTITLEMENT, &path)?;
        let number = number
            .parse()
            .with_context(|| format!("{exposed}: {number:?}"))?;
        let [(_, envoy)] = &self.world.pods_of(TEAM, ENVOY)?[..] else {
            bail!("one Envoy");
        };
        let from = Place::Pod {
            cluster: self.world.cluster(),
            namespace: ROUTERS,
            name: "who",
        };
        no_proxy_header(from, scheme, SocketAddr::new(*envoy, number))
    }

    /// Tenant by tenant by port, as the policies say and as pods find it. Of this instance: `direct` for pods of
    /// team-a and team-b at the listeners' own ports; at the routers' ports no pod but routers.
    fn truth(&self, direct: &[bool; 2]) -> Result<()> {
        let table = truth::table(self.world)?;
        let status = self.world.json(&["-n", TEAM, ENTITLEMENT])?;
        let ports = status["status"]["gateways"][0]["ports"]
            .as_array()
            .context("ports")?;
        let [(_, envoy)] = &self.world.pods_of(TEAM, ENVOY)?[..] else {
            bail!("one Envoy");
        };
        let is_direct = |port: &Value| port["exposure"] == "Direct";
        ensure!(ports.iter().any(is_direct), "{ports:?}");
        for port in ports {
            let number = port["containerPort"].as_u64().context("a port")?;
            let at = SocketAddr::new(*envoy, u16::try_from(number)?);
            for (team, admitted) in TEAMS.into_iter().zip(direct) {
                let wanted = is_direct(port) && *admitted;
                ensure!(
                    table.get(&(team, at)) == Some(&wanted),
                    "{team} -> {port}: should be {wanted}"
                );
            }
        }
        Ok(())
    }
}

/// Whoever begins with a PROXY header, before TLS or HTTP, is refused; without one it is served.
fn no_proxy_header(from: Place<'_>, scheme: &str, at: SocketAddr) -> Result<()> {
    let url = format!("{scheme}://{HOST}/");
    let mut ask = Ask::new(&url, at);
    let answer = ask.ask(from)?;
    ensure!(answer.status == 200, "{url} at {at}: {answer:?}");
    for version in [1, 2] {
        ask.proxy = Some(ProxyHeader {
            version,
            client: LIE.parse()?,
        });
        let answer = ask.ask(from);
        let refused = match &answer {
            Ok(answer) => answer.status == 400,
            // The connection was ended; it is not that time ran out.
            Err(error) => ["EOF", "reset by peer"]
                .iter()
                .any(|end| format!("{error:#}").contains(end)),
        };
        ensure!(refused, "{url} at {at}, PROXY {version}: {answer:?}");
    }
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
         {{selector: {{app: who}}, ports: [{{port: 8080}}]}}}}\n---\n{}",
        who_pod(TEAM)
    )
}

fn who_pod(namespace: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: who, namespace: {namespace}, labels: {{app: who}}}}, spec: \
         {{automountServiceAccountToken: false, \
         securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}, \
         containers: [{{name: who, image: {WHO_IMAGE:?}, imagePullPolicy: Never, args: [serve], readinessProbe: \
         {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}, securityContext: {{allowPrivilegeEscalation: \
         false, capabilities: {{drop: [ALL]}}}}}}]}}}}\n"
    )
}
