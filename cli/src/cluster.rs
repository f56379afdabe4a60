//! Asks an API server what pages are made of, with the rights of whoever asks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures::future::join_all;
use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use postern_pages::{Answer, Facts, Resource};
use serde_json::Value;

/// How long all questions together may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many objects one answer holds at most; more come by further questions.
const AT_ONCE: usize = 500;
/// The name of the operator's Lease.
const OPERATOR_LEASE: &str = "postern-operator";

/// Which cluster, and what of it.
#[derive(Args)]
pub struct Access {
    /// The namespace; without it, that of the context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// The context of the kubeconfig; without it, the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig; without it, $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where the operator runs. Its Lease there tells whether it does, to those who may read it.
    #[arg(long, value_name = "NAME", default_value = "postern-system")]
    operator_namespace: String,
}

impl Access {
    /// Asks everything, of one namespace or of all.
    ///
    /// # Errors
    /// If there is no such cluster, or it lets nobody in. What it refuses to tell is no error.
    pub fn ask(&self, all: bool) -> anyhow::Result<Facts> {
        for name in self.namespace.iter().chain([&self.operator_namespace]) {
            if !is_label(name) {
                bail!("{name:?} is no name of a namespace");
            }
        }
        if all && self.namespace.is_some() {
            bail!("--namespace and --all-namespaces exclude each other");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, self.facts(all)).await {
                Ok(facts) => facts,
                Err(_) => bail!(
                    "the API server did not answer within {} s",
                    PATIENCE.as_secs()
                ),
            }
        })
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let unreadable = || format!("cannot read the kubeconfig {}", path.display());
                let read = Kubeconfig::read_from(path).with_context(unreadable)?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .with_context(unreadable)?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .context("cannot use the kubeconfig")?,
            (None, None) => Config::infer().await.context("no cluster is configured")?,
        };
        Ok(config)
    }

    async fn facts(&self, all: bool) -> anyhow::Result<Facts> {
        let config = self.config().await?;
        let own = config.default_namespace.clone();
        let namespace = (!all).then(|| self.namespace.clone().unwrap_or(own));
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).context("cannot use the kubeconfig")?;
        let mut facts = Facts {
            namespace,
            now: Timestamp::now(),
            operator_namespace: self.operator_namespace.clone(),
            ..Facts::default()
        };
        let namespace = facts.namespace.as_deref();
        let lists = Resource::LISTED.map(|resource| list(&client, resource, namespace));
        for (resource, answer) in Resource::LISTED.into_iter().zip(join_all(lists).await) {
            let answer = answer.with_context(|| format!("cannot ask {url}"))?;
            facts.answers.insert(resource, answer);
        }
        if all && facts.answers[&Resource::GatewayInstance] == Answer::Forbidden {
            bail!("you may not list gatewayinstances in all namespaces; name one with --namespace");
        }
        let names = facts.class_names();
        let classes = names
            .iter()
            .map(|name| named(&client, Resource::GatewayClass, None, name));
        let lease = named(
            &client,
            Resource::Lease,
            Some(&self.operator_namespace),
            OPERATOR_LEASE,
        );
        let (classes, lease) = futures::future::join(join_all(classes), lease).await;
        facts.answers.insert(Resource::Lease, lease?);
        facts
            .answers
            .insert(Resource::GatewayClass, together(classes)?);
        Ok(facts)
    }
}

/// Whether this is a DNS label, as names of namespaces are.
fn is_label(name: &str) -> bool {
    let is = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The answers about several objects of a kind as one: known only if all are.
fn together(answers: Vec<anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    let mut known = Vec::new();
    for answer in answers {
        match answer? {
            Answer::Known(found) => known.extend(found),
            other => return Ok(other),
        }
    }
    Ok(Answer::Known(known))
}

fn path(resource: Resource, version: &str, namespace: Option<&str>) -> String {
    let root = match resource.group() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let within = namespace.map(|name| format!("/namespaces/{name}"));
    format!("{root}{}/{}", within.unwrap_or_default(), resource.plural())
}

/// All objects of a kind.
async fn list(
    client: &Client,
    resource: Resource,
    namespace: Option<&str>,
) -> anyhow::Result<Answer> {
    for version in resource.versions() {
        let path = path(resource, version, namespace);
        let mut objects = Vec::new();
        let mut more = String::new();
        let refusal = loop {
            let page = get(client, &format!("{path}?limit={AT_ONCE}{more}")).await?;
            let mut page = match page {
                Ok(page) => page,
                Err(refusal) => break refusal,
            };
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                objects.extend(items);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => more = format!("&continue={}", escaped(token)),
                _ => return Ok(Answer::Known(objects)),
            }
        };
        match refusal {
            Answer::NotServed => {}
            other => return Ok(other),
        }
    }
    Ok(Answer::NotServed)
}

/// One object of a kind; none if there is none.
async fn named(
    client: &Client,
    resource: Resource,
    namespace: Option<&str>,
    name: &str,
) -> anyhow::Result<Answer> {
    for version in resource.versions() {
        let path = format!("{}/{}", path(resource, version, namespace), escaped(name));
        match get(client, &path).await? {
            Ok(object) => return Ok(Answer::Known(vec![object])),
            // The kind is served, and there is no such object.
            Err(Answer::Known(none)) => return Ok(Answer::Known(none)),
            Err(Answer::NotServed) => {}
            Err(other) => return Ok(other),
        }
    }
    Ok(Answer::NotServed)
}

/// A part of a URL that is no name of ours.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// One answer: an object, or what is to be told instead.
///
/// # Errors
/// If the server cannot be reached, or does not know who asks.
async fn get(client: &Client, path: &str) -> anyhow::Result<Result<Value, Answer>> {
    let request = Request::get(path)
        .body(Vec::new())
        .context("cannot make the request")?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Ok(object)),
        Err(kube::Error::Api(status)) => Ok(Err(match status.code {
            401 => bail!("it does not know you: {}", status.message),
            403 => Answer::Forbidden,
            // Only what is about an object names it.
            404 => match status
                .details
                .is_some_and(|details| !details.name.is_empty())
            {
                true => Answer::Known(Vec::new()),
                false => Answer::NotServed,
            },
            _ => Answer::Failed(status.message.clone()),
        })),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_the_api() {
        assert_eq!(
            path(Resource::Service, "v1", Some("shop")),
            "/api/v1/namespaces/shop/services"
        );
        assert_eq!(
            path(Resource::Gateway, "v1", None),
            "/apis/gateway.networking.k8s.io/v1/gateways"
        );
        assert_eq!(escaped("a/../b?x=1"), "a%2F..%2Fb%3Fx%3D1");
    }

    #[test]
    fn one_of_several_that_is_not_known_leaves_all_unknown() {
        let known = || Ok(Answer::Known(vec![Value::Null]));
        let two = together(vec![known(), known()]).unwrap();
        assert_eq!(two, Answer::Known(vec![Value::Null, Value::Null]));
        let one = together(vec![known(), Ok(Answer::Forbidden)]).unwrap();
        assert_eq!(one, Answer::Forbidden);
    }
}
