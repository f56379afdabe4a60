//! What a refusal (403) means, and how long to wait after what.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// API servers lag behind each other: a grant that one has seen another may refuse for a while.
const LAG: Duration = Duration::from_secs(5);
/// How often is asked meanwhile.
const QUICK: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// Trouble that is older than this is over.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// What is known about the access of one watch.
#[derive(Debug, Default)]
pub(super) struct Access {
    granted: bool,
    refused_since: Option<Instant>,
    refusals: u32,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Access is refused, and not just not granted yet: what is known of the objects is dropped.
    pub(super) certain: bool,
    /// Ask again after this.
    pub(super) wait: Duration,
}

impl Access {
    /// A list or watch was allowed.
    pub(super) fn granted(&mut self) {
        *self = Access {
            granted: true,
            ..Access::default()
        };
    }

    /// Something about the grants has changed: what was refused may be allowed soon.
    pub(super) fn nudge(&mut self) {
        self.refused_since = None;
        self.refusals = 0;
    }

    /// A list or watch was refused.
    pub(super) fn refused(&mut self, now: Instant) -> Refusal {
        let since = *self.refused_since.get_or_insert(now);
        if now.duration_since(since) < LAG {
            // After access it is a revocation, and counts at once.
            return Refusal {
                certain: self.granted,
                wait: QUICK,
            };
        }
        self.refusals += 1;
        Refusal {
            certain: true,
            wait: doubled(Duration::from_secs(1), self.refusals - 1),
        }
    }
}

/// Waits after failures: longer with each, for trouble that goes on.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// How long to wait after one more failure.
    pub(crate) fn next(&mut self, now: Instant) -> Duration {
        if self
            .last
            .is_some_and(|last| now.duration_since(last) > FORGOTTEN)
        {
            self.failures = 0;
        }
        self.last = Some(now);
        self.failures += 1;
        doubled(QUICK, self.failures - 1)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        *self = Backoff::default();
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(LONGEST)
}

/// A duration made up to a quarter shorter, by chance: many that fail together do not come back
/// together.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 1024;
    wait - (wait / 4).mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64, start: Instant) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_refusal_before_access_is_retried_quickly_and_then_counts() {
        let start = Instant::now();
        let mut access = Access::default();
        for quarter in 0..20_u8 {
            let refusal = access.refused(at(f64::from(quarter) / 4.0, start));
            assert_eq!(
                refusal,
                Refusal {
                    certain: false,
                    wait: QUICK
                },
                "{quarter}"
            );
        }
        let waits: Vec<u64> = (0..7)
            .map(|_| access.refused(at(5.0, start)))
            .inspect(|refusal| assert!(refusal.certain))
            .map(|refusal| refusal.wait.as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        access.nudge();
        assert_eq!(
            access.refused(at(60.0, start)),
            Refusal {
                certain: false,
                wait: QUICK
            }
        );
    }

    #[test]
    fn a_refusal_after_access_counts_at_once() {
        let start = Instant::now();
        let mut access = Access::default();
        access.granted();
        assert_eq!(
            access.refused(start),
            Refusal {
                certain: true,
                wait: QUICK
            }
        );
        access.granted();
        assert!(access.refused(at(1000.0, start)).certain);
    }

    #[test]
    fn failures_wait_longer_until_they_are_forgotten() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(start).as_millis()).collect();
        assert_eq!(
            waits,
            [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(backoff.next(at(91.0, start)).as_millis(), 250);
        assert_eq!(backoff.next(at(91.0, start)).as_millis(), 500);
        backoff.reset();
        assert_eq!(backoff.next(at(91.0, start)).as_millis(), 250);
        let (wait, jittered) = (LONGEST, jittered(LONGEST));
        assert!(jittered <= wait && jittered >= wait * 3 / 4);
    }
}
