//! What of a cluster is ours: made by an earlier run, and known by its mark. The rest is others' and
//! is never written or removed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::context::Context;
use super::objects::MARK;
use crate::platform::{Ask, SYSTEM};

/// Kinds of what is made in no namespace, as manifests and as the API server name them.
const KINDS: [(&str, &str); 8] = [
    ("Namespace", "namespaces"),
    ("GatewayClass", CLASSES),
    ("TenantGrant", GRANTS),
    (
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    ),
    (
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
    ),
    ("CustomResourceDefinition", DEFINITIONS),
    (
        "ClusterRoleBinding",
        "clusterrolebindings.rbac.authorization.k8s.io",
    ),
    ("ClusterRole", "clusterroles.rbac.authorization.k8s.io"),
];
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const CLASSES: &str = "gatewayclasses.gateway.networking.k8s.io";
const GRANTS: &str = "tenantgrants.postern.dev";
const INSTANCES: &str = "gatewayinstances.postern.dev";
/// How the names of the Gateway API's definitions and policies end.
pub(super) const GATEWAY_API: &str = ".gateway.networking.k8s.io";
/// Made by the operator, and by nobody else while the operator is ours.
const CLASS: &str = postern_api::GATEWAY_CLASS;

/// How long pods may take to end that are told to end at once.
const ENDING: Duration = Duration::from_secs(60);

/// What the API server serves, by name: `pods`, `routes.route.openshift.io`.
#[derive(Debug)]
pub(super) struct Served(BTreeSet<String>);

impl Served {
    pub fn by(context: &Context) -> Result<Served> {
        // It fails where one of the servers behind the API server does not answer, and tells the rest.
        let output = context.ask(&["api-resources", "-o", "name"], "")?;
        let told = String::from_utf8_lossy(&output.stdout);
        let served: BTreeSet<String> = told.split_whitespace().map(str::to_owned).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            served.contains("namespaces"),
            "kubectl api-resources: {}",
            said.trim()
        );
        Ok(Served(served))
    }

    #[cfg(test)]
    pub fn these(names: &[&str]) -> Served {
        Served(names.iter().map(|&name| name.to_owned()).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Those whose names end so.
    pub fn ending(&self, end: &str) -> Vec<&str> {
        let names = self.0.iter().map(String::as_str);
        names.filter(|name| name.ends_with(end)).collect()
    }

    /// Whether this is OpenShift, which keeps the Gateway API's definitions itself (from 4.19 on): its
    /// cluster version operator has this kind. Routes alone are no sign of it: others serve them, too.
    pub fn is_openshift(&self) -> bool {
        self.has("clusterversions.config.openshift.io")
    }
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    kind: String,
    /// The namespace; empty where it is in none.
    namespace: String,
    name: String,
    pub is_ours: bool,
}

impl There {
    /// As `kubectl get` lists it: kind, namespace, name and the mark.
    fn parse(line: &str) -> Result<There> {
        let mut words = line.split_whitespace();
        let mut word = || words.next().context("kubectl left a column out");
        let (kind, namespace, name) = (word()?, word()?, word()?);
        Ok(There {
            kind: kind.to_owned(),
            namespace: namespace.trim_start_matches("<none>").to_owned(),
            name: name.to_owned(),
            is_ours: word()? == MARK.1,
        })
    }

    /// Whether it shows that the operator on the cluster is ours.
    fn is_installation(&self) -> bool {
        self.kind == "CustomResourceDefinition" && self.name == INSTANCES && self.is_ours
    }

    fn is_gateway_api(&self) -> bool {
        self.name.ends_with(GATEWAY_API)
    }

    /// As kubectl takes it.
    fn reference(&self) -> Result<String> {
        let resource = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        let (_, resource) = resource.context("a kind that is never made")?;
        Ok(format!("{resource}/{}", self.name))
    }
}

impl fmt::Display for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What is there, asked with these arguments of kubectl's `get`.
fn there(context: &Context, arguments: &[&str]) -> Result<Vec<There>> {
    let mark = MARK.0.replace('.', "\\.");
    let columns = format!(
        "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name,MARK:.metadata.labels.{mark}"
    );
    let get = ["get", "--ignore-not-found", "--no-headers", "-o", &columns];
    let told = context.told(&[&get[..], arguments].concat(), "")?;
    told.lines().map(There::parse).collect()
}

/// Those definitions that are there, of these names.
pub(super) fn definitions(context: &Context, names: &[&str]) -> Result<Vec<There>> {
    match names.is_empty() {
        true => Ok(Vec::new()),
        false => there(context, &[&[DEFINITIONS], names].concat()),
    }
}

/// Refuses, before anything is written, where something of the names that will be written is there
/// and not ours.
pub(super) fn refuse_others(context: &Context, served: &Served, objects: &[Value]) -> Result<()> {
    let mut wanted = Vec::new();
    for object in objects {
        let resource = KINDS.iter().find(|(kind, _)| object["kind"] == *kind);
        if let Some((_, resource)) = resource.filter(|(_, resource)| served.has(resource)) {
            let name = object["metadata"]["name"].as_str().context("no name")?;
            wanted.push(format!("{resource}/{name}"));
        }
    }
    if served.has(CLASSES) {
        wanted.push(format!("{CLASSES}/{CLASS}"));
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let found = there(context, &wanted)?;
    let is_installed = found.iter().any(There::is_installation);
    let others: Vec<String> = found
        .iter()
        .filter(|object| !object.is_ours)
        // The operator makes it: it is ours as the operator is.
        .filter(|object| !(is_installed && object.kind == "GatewayClass"))
        .map(There::to_string)
        .collect();
    ensure!(
        others.is_empty(),
        "on this cluster there is already what `make run` did not make and will not touch: {}; take another \
         cluster, or remove it if nobody needs it",
        others.join(", ")
    );
    Ok(())
}

/// Refuses objects whose kind of no namespace [`KINDS`] does not know: they could not be found again.
pub(super) fn all_known(objects: &[Value], namespaces: &[&str]) -> Result<()> {
    for object in objects {
        let (kind, namespace) = (&object["kind"], object["metadata"]["namespace"].as_str());
        let known = match namespace {
            Some(namespace) => namespaces.contains(&namespace),
            None => KINDS.iter().any(|(known, _)| kind == known),
        };
        ensure!(
            known,
            "{kind} {} would not be removed again",
            object["metadata"]["name"]
        );
    }
    Ok(())
}

/// What became of all that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// There was nothing.
    Nothing,
    /// It is gone.
    All,
    /// It is gone, but for definitions of the Gateway API that others use by now.
    ButGatewayApi,
}

/// Removes all that is ours, in an order in which nothing comes back, and says what was removed.
/// Refuses, before, where others use it.
pub(super) fn remove(context: &Context, tell: &dyn Fn(&str)) -> Result<Removed> {
    let served = Served::by(context)?;
    let kinds: Vec<&str> = KINDS.map(|(_, resource)| resource).to_vec();
    let kinds = kinds
        .into_iter()
        .filter(|kind| served.has(kind))
        .collect::<Vec<_>>()
        .join(",");
    let ours = there(context, &[&kinds, "-l", &format!("{}={}", MARK.0, MARK.1)])?;
    if ours.is_empty() {
        return Ok(Removed::Nothing);
    }
    let (namespaces, mut others): (Vec<There>, Vec<There>) = ours
        .into_iter()
        .partition(|object| object.kind == "Namespace");
    let is_installed = others.iter().any(There::is_installation);
    if is_installed {
        refuse_used(context, &served, &namespaces)?;
    }
    remove_namespaces(context, &namespaces, tell)?;
    if is_installed && served.has(CLASSES) {
        // The operator is gone: nobody makes it again.
        let made = there(context, &[CLASSES, CLASS])?;
        delete(context, &made, tell)?;
    }
    let mut removed = Removed::All;
    if others.iter().any(There::is_gateway_api)
        && let Some(user) = gateway_api_user(context, &served)?
    {
        tell(&format!(
            "left: the Gateway API's definitions, for {user} is of others"
        ));
        others.retain(|object| !object.is_gateway_api());
        removed = Removed::ButGatewayApi;
    }
    delete(context, &others, tell)?;
    Ok(removed)
}

/// Removes namespaces with all that is in them. Nobody is to be served any more, so pods end at once:
/// a namespace waits for them, and the operator's must not make others' anew.
fn remove_namespaces(context: &Context, namespaces: &[There], tell: &dyn Fn(&str)) -> Result<()> {
    let (system, teams): (Vec<&There>, Vec<&There>) = namespaces
        .iter()
        .partition(|namespace| namespace.name == SYSTEM);
    for some in [system, teams] {
        for namespace in &some {
            let none = [
                "-n",
                &namespace.name,
                "scale",
                "deployments",
                "--all",
                "--replicas=0",
            ];
            // Where there is none, that is an error.
            context.ask(&none, "")?;
        }
        let started = Instant::now();
        let mut left = true;
        // One that takes longer is waited for with its namespace.
        while left && started.elapsed() < ENDING {
            left = false;
            for namespace in &some {
                let all = ["-n", &namespace.name, "delete", "pods", "--all"];
                let told = context.told(&[&all[..], &["--grace-period=1"]].concat(), "")?;
                left |= told.contains("deleted");
            }
        }
    }
    delete(context, namespaces, tell)
}

/// Deletes objects of no namespace, waits until they are gone, and says which.
fn delete(context: &Context, objects: &[There], tell: &dyn Fn(&str)) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let references = objects
        .iter()
        .map(There::reference)
        .collect::<Result<Vec<_>>>()?;
    let mut arguments = vec!["delete", "--ignore-not-found", "--timeout=300s"];
    arguments.extend(references.iter().map(String::as_str));
    context.told(&arguments, "")?;
    let names: Vec<String> = objects.iter().map(There::to_string).collect();
    tell(&format!("removed: {}", names.join(", ")));
    Ok(())
}

/// With the definitions would go what others made of them.
fn refuse_used(context: &Context, served: &Served, ours: &[There]) -> Result<()> {
    let kinds: Vec<&str> = [INSTANCES, GRANTS]
        .into_iter()
        .filter(|kind| served.has(kind))
        .collect();
    let found = there(context, &[&kinds.join(","), "--all-namespaces"])?;
    let is_ours = |object: &There| {
        let within = ours
            .iter()
            .any(|namespace| namespace.name == object.namespace);
        object.is_ours || within
    };
    let others: Vec<String> = found
        .iter()
        .filter(|object| !is_ours(object))
        .map(There::to_string)
        .collect();
    ensure!(
        others.is_empty(),
        "others use what `make run` installed, and would lose it: {}; remove these first",
        others.join(", ")
    );
    Ok(())
}

/// An object of the Gateway API that is left when ours are gone.
fn gateway_api_user(context: &Context, served: &Served) -> Result<Option<String>> {
    let kinds = served.ending(GATEWAY_API);
    if kinds.is_empty() {
        return Ok(None);
    }
    let found = there(context, &[&kinds.join(","), "--all-namespaces"])?;
    Ok(found.first().map(There::to_string))
}

/// The operator's namespace, and the teams'.
pub(super) fn namespaces() -> Vec<&'static str> {
    [&[SYSTEM][..], &crate::demo::TEAMS].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn openshift_is_known_by_its_version_and_not_by_routes() {
        let openshift = [
            "routes.route.openshift.io",
            "clusterversions.config.openshift.io",
        ];
        assert!(Served::these(&openshift).is_openshift());
        assert!(!Served::these(&["routes.route.openshift.io"]).is_openshift());
        assert!(!Served::these(&[]).is_openshift());
    }

    #[test]
    fn what_is_there_is_read_as_kubectl_lists_it() {
        let read = |line: &str| There::parse(line).unwrap();
        let ours =
            read("CustomResourceDefinition   <none>   gatewayinstances.postern.dev   make-run");
        assert!(ours.is_installation() && !ours.is_gateway_api());
        assert_eq!(
            ours.to_string(),
            "CustomResourceDefinition gatewayinstances.postern.dev"
        );
        assert_eq!(
            ours.reference().unwrap(),
            "customresourcedefinitions.apiextensions.k8s.io/gatewayinstances.postern.dev"
        );
        let theirs = read("CustomResourceDefinition <none> gatewayinstances.postern.dev <none>");
        assert!(!theirs.is_installation());
        let route = read("HTTPRoute shop web <none>");
        assert!(!route.is_ours);
        assert_eq!(route.to_string(), "HTTPRoute shop/web");
        assert!(route.reference().is_err());
        assert!(There::parse("Namespace <none> a").is_err());
    }

    #[test]
    fn what_could_not_be_found_again_is_not_made() {
        let namespaced = |namespace: &str| json!({"kind": "Secret", "metadata": {"name": "x", "namespace": namespace}});
        let names = ["team-a"];
        all_known(&[namespaced("team-a")], &names).unwrap();
        assert!(all_known(&[namespaced("default")], &names).is_err());
        let class = |kind: &str| json!({"kind": kind, "metadata": {"name": "x"}});
        all_known(&[class("ClusterRole")], &names).unwrap();
        assert!(all_known(&[class("PriorityClass")], &names).is_err());
    }
}
