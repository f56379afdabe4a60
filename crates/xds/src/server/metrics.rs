//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a server. Relaxed: they order nothing.
#[derive(Debug, Default)]
pub struct Metrics {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    streams: AtomicU64,
    denied: AtomicU64,
    turned_away: AtomicU64,
}

impl Metrics {
    /// Responses that Envoys have acknowledged, since the start.
    #[must_use]
    pub fn acknowledged_total(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Resources that Envoys have refused, since the start.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Delta streams that are open now.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Requests of clients with a good certificate that were denied, since the start.
    #[must_use]
    pub fn denied_total(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Connections that failed or exceeded the bounds before their first request, since the start.
    #[must_use]
    pub fn turned_away_total(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.refused.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn open(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn deny(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}
