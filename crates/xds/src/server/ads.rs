//! The RPCs: each delta stream is a task that feeds one machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::Empty;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Granted;
use super::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use super::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use super::{Directory, Limits, Metrics, StreamId};
use crate::identity::Identity;
use crate::machine::{Event, Machine};

type Answer = Result<DeltaDiscoveryResponse, Status>;

/// The service.
pub(super) struct Ads {
    directory: Arc<dyn Directory>,
    metrics: Arc<Metrics>,
    limits: Limits,
    stopped: watch::Receiver<bool>,
    streams: AtomicU64,
}

impl Ads {
    pub fn new(
        directory: Arc<dyn Directory>,
        metrics: Arc<Metrics>,
        limits: Limits,
        stopped: watch::Receiver<bool>,
    ) -> Ads {
        Ads {
            directory,
            metrics,
            limits,
            stopped,
            streams: AtomicU64::new(1),
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Empty<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Answer>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("use DELTA_GRPC"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let granted = request.extensions().get::<Granted>().cloned();
        // The layer lets no request through without.
        let granted = granted.ok_or_else(|| Status::internal("not authenticated"))?;
        let id = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let (answers, receiver) = mpsc::channel(1);
        let stream = Stream {
            open: Open::new(
                self.directory.clone(),
                self.metrics.clone(),
                granted.identity,
                id,
                granted.address,
            ),
            machine: Machine::new(),
            resources: granted.resources,
            expires: granted.expires,
            stopped: self.stopped.clone(),
            limits: self.limits.clone(),
            answers,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Tells the directory of a stream's end, however it comes.
struct Open {
    directory: Arc<dyn Directory>,
    metrics: Arc<Metrics>,
    identity: Identity,
    id: StreamId,
}

impl Open {
    fn new(
        directory: Arc<dyn Directory>,
        metrics: Arc<Metrics>,
        identity: Identity,
        id: StreamId,
        address: IpAddr,
    ) -> Open {
        metrics.open();
        tracing::info!(%identity, stream = id.0, %address, "Envoy connected");
        directory.opened(&identity, id, address);
        Open {
            directory,
            metrics,
            identity,
            id,
        }
    }

    fn tell(&self, event: Event) {
        match &event {
            Event::Acknowledged { .. } => self.metrics.acknowledge(),
            Event::Refused {
                kind,
                names,
                removed,
                detail,
            } => {
                self.metrics.refuse(names.len() + removed.len());
                let Open { identity, id, .. } = self;
                let stream = id.0;
                tracing::warn!(%identity, stream, ?kind, ?names, ?removed, detail, "refused");
            }
        }
        self.directory.event(&self.identity, self.id, event);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.close();
        tracing::info!(identity = %self.identity, stream = self.id.0, "Envoy gone");
        self.directory.closed(&self.identity, self.id);
    }
}

/// Why a stream ends.
enum End {
    /// The client has gone or has ended it.
    Client,
    /// We end it, and say why.
    Ours(Status),
}

struct Stream {
    open: Open,
    machine: Machine,
    resources: watch::Receiver<Arc<postern_envoy::Resources>>,
    expires: Option<Instant>,
    stopped: watch::Receiver<bool>,
    limits: Limits,
    answers: mpsc::Sender<Answer>,
}

impl Stream {
    async fn run(mut self, requests: Streaming<DeltaDiscoveryRequest>) {
        let end = {
            let mut stopped = self.stopped.clone();
            let expires = self.expires;
            let answers = self.answers.clone();
            let expired = async move {
                match expires {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                end = self.exchange(requests) => end,
                _ = stopped.wait_for(|stopped| *stopped) => {
                    End::Ours(Status::unavailable("shutting down"))
                }
                () = expired => End::Ours(Status::unauthenticated("the certificate has expired")),
                () = answers.closed() => End::Client,
            }
        };
        if let End::Ours(status) = end {
            let wait = self.limits.stall.min(self.limits.drain);
            // Who does not read will see the connection close.
            let _ = timeout(wait, self.answers.send(Err(status))).await;
        }
    }

    async fn exchange(&mut self, mut requests: Streaming<DeltaDiscoveryRequest>) -> End {
        let newest = self.resources.borrow_and_update().clone();
        let mut responses = self.machine.on_resources(newest);
        loop {
            for event in self.machine.take_events() {
                self.open.tell(event);
            }
            // While a response waits here nothing is read and nothing else is made: a slow client
            // costs one response of each type at most.
            for response in responses {
                match timeout(self.limits.stall, self.answers.send(Ok(response))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Client,
                    Err(_) => return End::Ours(Status::deadline_exceeded("nothing was read")),
                }
            }
            responses = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => match self.machine.on_request(request) {
                        Ok(responses) => responses,
                        Err(error) => {
                            return End::Ours(Status::invalid_argument(error.to_string()));
                        }
                    },
                    Ok(None) => return End::Client,
                    // Too long, not protobuf, or the connection broke.
                    Err(status) => return End::Ours(status),
                },
                changed = self.resources.changed() => match changed {
                    Ok(()) => {
                        let newest = self.resources.borrow_and_update().clone();
                        self.machine.on_resources(newest)
                    }
                    Err(_) => return End::Ours(Status::permission_denied("not known any more")),
                },
            };
        }
    }
}
