//! From a Snapshot to what the Envoys hold, and back to statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_envoy::{Encoder, Options};
use postern_model::{Origin, Text};
use postern_refs::Snapshot;
use postern_refs::status::{Status, Statuses};
use postern_translate::{Acks, Memo, Settings, ShardAcks, Translation, finish, translate};

use crate::envoys::Envoys;

/// Which Envoys count when it is said that a Gateway is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All: they are plain processes, and no Service stands before them.
    All,
    /// Those that are ready endpoints of the Gateway's Service.
    ReadyEndpoints,
}

/// One instance's translator, encoders and Envoys.
pub struct Engine {
    counted: Counted,
    memo: Memo,
    options: Options,
    encoders: BTreeMap<Text, Encoder>,
    translation: Translation,
    envoys: Arc<Envoys>,
}

impl Engine {
    /// An engine that has translated nothing yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        options: Options,
        counted: Counted,
        envoys: Arc<Envoys>,
    ) -> Engine {
        Engine {
            counted,
            memo: Memo::new(settings),
            options,
            encoders: BTreeMap::new(),
            translation: Translation::default(),
            envoys,
        }
    }

    /// Translates, encodes and hands over what differs from the last time.
    pub fn update(&mut self, snapshot: &Snapshot, entitlement: &EntitlementStatus) {
        self.translation = translate(snapshot, entitlement, &mut self.memo);
        let proxies = &self.translation.proxies;
        self.encoders.retain(|shard, _| proxies.contains_key(shard));
        self.envoys.retain(|shard| proxies.contains_key(shard));
        for (shard, proxy) in proxies {
            let encoder = self
                .encoders
                .entry(shard.clone())
                .or_insert_with(|| Encoder::new(self.options));
            self.envoys.publish(shard, encoder.encode(proxy));
        }
    }

    /// The statuses of everything, with what the Envoys acknowledged so far.
    #[must_use]
    pub fn statuses(&self) -> Statuses {
        finish(&self.translation, &self.acks())
    }

    /// As [`Engine::statuses`], without Gateways that only wait for their Envoys' word: after a start
    /// these have not come back yet, and what was said of them before still holds.
    #[must_use]
    pub fn statuses_for_now(&self) -> Statuses {
        let mut statuses = self.statuses();
        statuses.retain(|_, status| match &**status {
            Status::Gateway(gateway) => !gateway
                .conditions
                .iter()
                .any(|known| &*known.kind == "Programmed" && &*known.reason == "Pending"),
            Status::Route(_) => true,
        });
        statuses
    }

    fn acks(&self) -> Acks {
        let mut acks = Acks::new();
        // Gateways of one shard have the same Envoys, so nearly always the same acknowledgements.
        let mut last: Option<(&Text, &BTreeSet<IpAddr>, Arc<ShardAcks>)> = None;
        for (gateway, report) in self.translation.gateways.iter() {
            let Some(ready) = self.translation.ready.get(gateway) else {
                continue;
            };
            let of_gateway = match &last {
                Some((shard, addresses, acks))
                    if **shard == report.shard && *addresses == ready =>
                {
                    acks.clone()
                }
                _ => Arc::new(
                    self.envoys
                        .acks(&report.shard, |address| match self.counted {
                            Counted::All => true,
                            Counted::ReadyEndpoints => ready.contains(&address),
                        }),
                ),
            };
            last = Some((&report.shard, ready, of_gateway.clone()));
            acks.insert(gateway.clone(), of_gateway);
        }
        acks
    }

    /// What could not be sent to any Envoy, and why. Nothing, unless the translator let something
    /// through that the encoder knows Envoy would refuse.
    #[must_use]
    pub fn refused(&self) -> Vec<(Origin, Text)> {
        self.encoders
            .values()
            .flat_map(|encoder| encoder.refused().iter().cloned())
            .collect()
    }
}
