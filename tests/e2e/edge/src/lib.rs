//! What stands in front of a cluster in tests: OpenShift's Routes and a router for them, MetalLB, and
//! ends of requests that say what they saw.
//!
//! The router is a **stand-in**. OpenShift's own image cannot be had here. [`Router`] is a program
//! of ours (below `go/router`) that decides over Routes as the OpenShift Router does, with
//! OpenShift's `library-go` for what its API server checks, writes the same status, and has Debian's
//! HAProxy serve what was admitted. The Route API is the CRD of `openshift/api`; that it asks
//! for rights on `routes/custom-host`, as OpenShift's API server does, is a policy written here
//! ([`install_routes`]). [`oracle`] asks library-go itself.
//!
//! Where the stand-in differs from OpenShift:
//!
//! | there | here |
//! | --- | --- |
//! | the API server gives a Route without host and subdomain its host as it is stored | the stand-in writes it right after |
//! | the API server refuses what library-go finds wrong | it is stored (the CRD's own rules aside), and not admitted: `ExtendedValidationFailed` |
//! | `externalCertificate` is read | not admitted, with a message that says so |
//! | some thirty annotations of `haproxy.router.openshift.io` | `set-forwarded-headers`, `disable_cookies`, `timeout` |
//! | idle connections end at once on a reload, unless `idleConnectionTerminationPolicy: Deferred` | as with `Deferred` |
//! | routers share a Route by labels, and agree on who writes its status | one router, all Routes |
//! | HAProxy 2.8 or 3.2 | HAProxy 2.6 of Debian 12 |
//!
//! [`Metallb`] is MetalLB itself, which gives Services addresses of the node's network, and
//! [`start_registry`] a registry itself, from which nodes pull images. [`Ask`] is a client, and [`Clients`] are
//! many, which count what becomes of their requests while something happens.
//!
//! Programs are built once and kept in `${XDG_CACHE_HOME:-~/.cache}/postern/edge`.

mod build;
mod debian;
mod load;
mod metallb;
mod objects;
mod oracle;
mod registry;
mod router;
mod who;

pub use crate::debian::apt_get;
pub use crate::load::{Clients, Target};
pub use crate::metallb::Metallb;
pub use crate::oracle::{Question, Verdict, oracle};
pub use crate::registry::{registry, start_registry};
pub use crate::router::{Mode, Router, Settings, install_routes};
pub use crate::who::{Answer, Ask, Place, ProxyHeader, WHO_IMAGE, certificate, load_who};

use std::process::Output;

use anyhow::{Result, ensure};
use postern_cluster::Cluster;

/// Applies objects as the administrator.
fn apply(cluster: &Cluster, objects: &[serde_json::Value]) -> Result<()> {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let output = cluster.kubectl_as(&cluster.kubeconfig(), &arguments, &list.to_string())?;
    must("kubectl apply", output).map(|_| ())
}

/// What kubectl printed, as the administrator.
fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let what = arguments.join(" ");
    must(&format!("kubectl {what}"), cluster.kubectl(arguments)?)
}

/// The standard output of a command that must do its work.
fn must(what: &str, output: Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{what} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
