//! A small delta ADS server, without TLS: gives an Envoy the encoder's resources and notes what it
//! acknowledges and refuses. The real one is another crate; here only the encoding is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as xds;
use envoy_types::pb::google::protobuf::Any;
use postern_envoy::{Kind, Resources};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};

/// What the Envoy has acknowledged, and refused.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub acknowledged: BTreeMap<(usize, String), u64>,
    pub refused: Vec<String>,
}

impl Seen {
    /// Whether the Envoy holds exactly these resources, kinds aside of which it refused some.
    pub fn settled(&self, resources: &Resources) -> bool {
        let refused = |kind: Kind| {
            let start = format!("{kind:?}: ");
            self.refused.iter().any(|why| why.starts_with(&start))
        };
        Kind::ALL.into_iter().all(|kind| {
            let held = self.acknowledged.iter();
            let held = held.filter(|((of, _), _)| *of == kind as usize);
            let held = held.map(|((_, name), version)| (&**name, *version));
            let wanted = resources.of(kind).iter();
            refused(kind) || held.eq(wanted.map(|(name, wanted)| (&**name, wanted.version)))
        })
    }
}

/// The server, for one Envoy.
#[derive(Clone)]
pub struct Ads {
    resources: watch::Sender<Arc<Resources>>,
    seen: watch::Sender<Seen>,
}

impl Ads {
    pub async fn start(address: std::net::SocketAddr) -> (Ads, std::net::SocketAddr) {
        let ads = Ads {
            resources: watch::Sender::new(Arc::default()),
            seen: watch::Sender::default(),
        };
        let socket = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let service = AggregatedDiscoveryServiceServer::new(ads.clone());
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(socket));
        tokio::spawn(async move { server.await.unwrap() });
        (ads, address)
    }

    pub fn set(&self, resources: Resources) {
        self.resources.send_replace(Arc::new(resources));
    }

    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }
}

/// One type on one stream.
#[derive(Default)]
struct TypeState {
    wildcard: bool,
    names: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    /// What waits for an answer: nonce, versions, removals.
    outstanding: Option<(String, BTreeMap<String, u64>, Vec<String>)>,
}

impl TypeState {
    fn next(&mut self, kind: Kind, resources: &Resources) -> Option<xds::DeltaDiscoveryResponse> {
        if self.outstanding.is_some() {
            return None;
        }
        let wanted = |name: &str| self.wildcard || self.names.contains(name);
        let mut versions = BTreeMap::new();
        let mut answer = Vec::new();
        for (name, resource) in resources.of(kind) {
            // Of several in one answer, Envoy takes none after the first that it refuses.
            if !answer.is_empty() && matches!(kind, Kind::Secret | Kind::Routes) {
                break;
            }
            if wanted(name) && self.sent.get(&**name) != Some(&resource.version) {
                versions.insert(name.to_string(), resource.version);
                answer.push(xds::Resource {
                    name: name.to_string(),
                    version: format!("{:x}", resource.version),
                    resource: Some(Any {
                        type_url: kind.type_url().to_owned(),
                        value: resource.body.to_vec(),
                    }),
                    ..Default::default()
                });
            }
        }
        let gone = self
            .sent
            .keys()
            .filter(|name| resources.get(kind, name).is_none());
        let removed: Vec<String> = gone.cloned().collect();
        if answer.is_empty() && removed.is_empty() {
            return None;
        }
        self.sent.extend(versions.clone());
        self.sent.retain(|name, _| !removed.contains(name));
        static NONCE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let nonce = NONCE
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .to_string();
        self.outstanding = Some((nonce.clone(), versions, removed.clone()));
        Some(xds::DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            resources: answer,
            removed_resources: removed,
            nonce,
            ..Default::default()
        })
    }
}

impl Ads {
    fn answered(&self, kind: Kind, state: &mut TypeState, request: &xds::DeltaDiscoveryRequest) {
        let Some((nonce, versions, removed)) = state.outstanding.take() else {
            return;
        };
        if nonce != request.response_nonce {
            state.outstanding = Some((nonce, versions, removed));
            return;
        }
        self.seen.send_modify(|seen| match &request.error_detail {
            Some(error) => seen.refused.push(format!("{kind:?}: {}", error.message)),
            None => {
                for (name, version) in versions {
                    seen.acknowledged.insert((kind as usize, name), version);
                }
                for name in removed {
                    seen.acknowledged.remove(&(kind as usize, name));
                }
            }
        });
    }

    async fn run(
        self,
        mut requests: Streaming<xds::DeltaDiscoveryRequest>,
        responses: mpsc::Sender<Result<xds::DeltaDiscoveryResponse, Status>>,
    ) {
        let mut states: BTreeMap<Kind, TypeState> = BTreeMap::new();
        let mut changes = self.resources.subscribe();
        changes.mark_changed();
        loop {
            tokio::select! {
                request = requests.next() => {
                    let Some(Ok(request)) = request else { return };
                    let Some(kind) = Kind::of_type_url(&request.type_url) else { continue };
                    let first = !states.contains_key(&kind);
                    let state = states.entry(kind).or_default();
                    self.answered(kind, state, &request);
                    let names = &request.resource_names_subscribe;
                    if first && names.is_empty() || names.iter().any(|name| name == "*") {
                        state.wildcard = true;
                    }
                    for name in names {
                        // Asked for again: sent again.
                        state.sent.remove(name);
                        state.names.insert(name.clone());
                    }
                    for name in &request.resource_names_unsubscribe {
                        state.names.remove(name);
                        state.sent.remove(name);
                        self.seen.send_modify(|seen| {
                            seen.acknowledged.remove(&(kind as usize, name.clone()));
                        });
                    }
                }
                changed = changes.changed() => if changed.is_err() { return },
            }
            let resources = changes.borrow_and_update().clone();
            for (kind, state) in &mut states {
                if let Some(response) = state.next(*kind, &resources)
                    && responses.send(Ok(response)).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<xds::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<xds::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<xds::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<xds::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(self.clone().run(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
