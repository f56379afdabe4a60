//! MetalLB on a real cluster, asked from outside of it.
#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use postern_cluster::{Cluster, Gone, Options};
use postern_edge::{Ask, Metallb, WHO_IMAGE, load_who};

const CLASS: &str = "metallb.example.test/outside";
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 200);
const LAST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 203);

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(now) => assert!(
                begun.elapsed() < Duration::from_secs(40),
                "never: {what}; at last: {now}"
            ),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn service(name: &str, more: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  allocateLoadBalancerNodePorts: false
  selector: {{app: who}}
  ports: [{{port: 80, targetPort: 8080}}]
{more}"
    )
}

fn address(cluster: &Cluster, name: &str) -> Option<Ipv4Addr> {
    let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let get = ["get", "service", name, "-o", path];
    let output = cluster.kubectl(&get).unwrap();
    String::from_utf8(output.stdout).unwrap().parse().ok()
}

#[test]
fn a_service_gets_an_address_that_the_outside_reaches() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: MetalLB on a real cluster: needs root");
        return;
    }
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!("not run: MetalLB on a real cluster: POSTERN_E2E=off");
        return;
    }
    let name = format!("tm-{}", std::process::id());
    let _gone = Gone(name.clone());
    let cluster = Cluster::up(&name, &Options::default()).unwrap();
    let outside = cluster.outside().unwrap();
    load_who(&cluster).unwrap();
    let begun = Instant::now();
    let metallb = Metallb::start(&cluster, (FIRST, LAST), Some(CLASS)).unwrap();
    eprintln!("MetalLB works after {:.1} s", begun.elapsed().as_secs_f64());
    let pod = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: who, labels: {{app: who}}}}
spec: {{containers: [{{name: who, image: {WHO_IMAGE}, args: [serve]}}]}}
"
    );
    let class = format!("  loadBalancerClass: {CLASS}\n");
    let only = format!(
        "{class}  loadBalancerSourceRanges: [{}/32]\n",
        outside.second_address()
    );
    let asked = Ipv4Addr::new(198, 18, 0, 202);
    let wanted = format!("{class}  loadBalancerIP: {asked}\n");
    let objects = [
        pod,
        service("any", &class),
        service("wanted", &wanted),
        service("ranged", &only),
        service("no-class", ""),
    ]
    .concat();
    let arguments = ["apply", "--server-side", "-f", "-"];
    let output = cluster
        .kubectl_as(&cluster.kubeconfig(), &arguments, &objects)
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let given = |name: &str| {
        eventually(&format!("{name} has an address"), || {
            address(&cluster, name).ok_or_else(|| metallb.log())
        })
    };
    let (any, ranged) = (given("any"), given("ranged"));
    assert_eq!(given("wanted"), asked);
    for one in [any, ranged] {
        assert!((FIRST..=LAST).contains(&one) && one != asked, "{one}");
    }

    // The speaker answers ARP with the node's own hardware address, and the client stays itself.
    let reaches = |to: Ipv4Addr, from: Ipv4Addr| {
        let mut ask = Ask::new("http://who.example.test/", SocketAddr::from((to, 80)));
        ask.from = Some(from);
        ask.limit = Duration::from_secs(2);
        ask.ask(&outside).map_err(|error| format!("{error:#}"))
    };
    for from in [outside.address(), outside.second_address()] {
        let answer = eventually("the address answers", || reaches(any, from));
        assert_eq!(answer.body["peer"], from.to_string());
    }
    let node = outside.neighbour(outside.node()).unwrap();
    let node = node.or_else(|| {
        // Nobody has asked for it yet.
        let _ = outside.dial(
            SocketAddr::from((outside.node(), 1)),
            Duration::from_secs(1),
        );
        outside.neighbour(outside.node()).unwrap()
    });
    assert!(node.is_some());
    assert_eq!(outside.neighbour(any).unwrap(), node);
    // Nobody answers for an address of the pool that no Service has.
    let free = (200..=203)
        .map(|last| Ipv4Addr::new(198, 18, 0, last))
        .find(|one| ![any, ranged, asked].contains(one))
        .unwrap();
    assert!(reaches(free, outside.address()).is_err());
    assert_eq!(outside.neighbour(free).unwrap(), None);

    // Source ranges hold for whom they do not name.
    eventually("the named source gets in", || {
        reaches(ranged, outside.second_address())
    });
    assert!(reaches(ranged, outside.address()).is_err());
    // A Service without the class is somebody else's.
    assert_eq!(address(&cluster, "no-class"), None);
    cluster.down().unwrap();
}
