//! What watching costs without us: kube's watcher on the kinds that a control plane watches, and
//! everything that arrives is dropped at once.
//!
//! `bare-watcher NAMESPACE SECRET`, with `KUBECONFIG`.

use anyhow::{Context, Result};
use futures::future::join_all;
use futures::{StreamExt, pin_mut};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let namespace = arguments.next().context("no namespace")?;
    let secret = arguments.next().context("no Secret")?;
    let client = Client::try_default().await?;
    // As the control plane does it: lists that come as watches, the cheapest way there is.
    let all = watcher::Config::default().streaming_lists();
    let one = all.clone().fields(&format!("metadata.name={secret}"));
    let kinds = [
        ("gateway.networking.k8s.io", "Gateway", "gateways", &all),
        ("gateway.networking.k8s.io", "HTTPRoute", "httproutes", &all),
        ("", "Service", "services", &all),
        ("discovery.k8s.io", "EndpointSlice", "endpointslices", &all),
        ("", "Secret", "secrets", &one),
    ];
    let watches = kinds.map(|(group, kind, plural, config)| {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let changes = watcher(api, config.clone());
        async move {
            pin_mut!(changes);
            while let Some(change) = changes.next().await {
                if let Err(error) = change {
                    eprintln!("{kind}: {error}");
                }
            }
        }
    });
    join_all(watches).await;
    Ok(())
}
