//! How long authorities and certificates live, and how long old and new overlap.

use std::time::Duration;

/// How long a Secret mounted into a pod may lag behind its API object. The kubelet looks once a
/// minute, and caches; 80 s is the most that was seen.
pub const MOUNT_LAG: Duration = Duration::from_secs(80);
/// The least overlap of old and new authority where Secrets are mounted.
pub const LEAST_OVERLAP: Duration = Duration::from_secs(5 * 60);
/// How many overlaps a new authority waits for Secrets that cannot be written. After that it is
/// taken as announced: one broken Secret must not hold up all others until the old one ends.
pub const PATIENCE: u32 = 3;

const MINUTE: Duration = Duration::from_secs(60);

/// How long things live. [`Lifetimes::check`] says whether the values fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Life of a certificate authority, from its making.
    pub authority: Duration,
    /// Life of a certificate, from its making.
    pub leaf: Duration,
    /// The part of its life after which a certificate or authority is renewed, in percent.
    pub renew_percent: u32,
    /// How long a new authority is only trusted before it signs, and how long an old one is still
    /// trusted after the last certificate of its making was replaced.
    pub overlap: Duration,
    /// How far before its making a certificate is valid: clocks differ. 1 to 5 minutes.
    pub backdate: Duration,
    /// How long what was written may stay unseen by those who use it: [`MOUNT_LAG`] for Secrets.
    pub lag: Duration,
    /// How often the store is looked at: for what others wrote, damaged or deleted.
    pub recheck: Duration,
}

/// Lifetimes that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifetimesError {
    /// `renew_percent` is not within 10 and 90.
    #[error("renewal after {0} % of a life: it must be 10 to 90")]
    RenewPercent(u32),
    /// `backdate` is not within 1 and 5 minutes.
    #[error("certificates backdated by {0:?}: it must be 1 to 5 minutes")]
    Backdate(Duration),
    /// A renewed certificate would be seen only after the old one has ended.
    #[error("certificates of {0:?} are too short: the renewed one must be seen before the end")]
    Leaf(Duration),
    /// A new authority would sign before all trust it.
    #[error("an overlap of {0:?} is too short: it must outlast the lag and two looks")]
    Overlap(Duration),
    /// An authority would end before its successor may sign.
    #[error("authorities of {0:?} are too short: the successor must be trusted before the end")]
    Authority(Duration),
    /// The store is looked at without a pause.
    #[error("the store must be looked at in intervals of at least a second")]
    Recheck,
}

impl Default for Lifetimes {
    /// Certificates of a day, authorities of ninety, ten minutes of overlap.
    fn default() -> Self {
        Lifetimes {
            authority: 90 * 24 * 60 * MINUTE,
            leaf: 24 * 60 * MINUTE,
            renew_percent: 66,
            overlap: 10 * MINUTE,
            backdate: 5 * MINUTE,
            lag: MOUNT_LAG,
            recheck: MINUTE,
        }
    }
}

impl Lifetimes {
    /// Lifetimes for mounted Secrets, with certificates of this life (two minutes are possible):
    /// they are renewed at two thirds, or earlier where a mount would lag too long. Overlap never
    /// goes below [`LEAST_OVERLAP`].
    ///
    /// # Errors
    /// When certificates of this life cannot work with mounted Secrets.
    pub fn with_leaf(leaf: Duration) -> Result<Lifetimes, LifetimesError> {
        let whole = Lifetimes::default();
        let recheck = (leaf / 24).clamp(Duration::from_secs(1), MINUTE);
        // The latest renewal that is still seen in time.
        let spare = leaf.saturating_sub(whole.lag + recheck + Duration::from_secs(1));
        let percent = u64::try_from(spare.as_millis() * 100 / leaf.as_millis().max(1));
        let overlap = if leaf < 60 * MINUTE {
            LEAST_OVERLAP
        } else {
            whole.overlap
        };
        let lifetimes = Lifetimes {
            authority: (60 * leaf).max(60 * MINUTE),
            leaf,
            renew_percent: percent.map_or(66, |p| p.min(66) as u32),
            overlap,
            recheck,
            ..whole
        };
        lifetimes.check().map(|()| lifetimes)
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// With the first that does not.
    pub fn check(&self) -> Result<(), LifetimesError> {
        if !(10..=90).contains(&self.renew_percent) {
            return Err(LifetimesError::RenewPercent(self.renew_percent));
        }
        if !(MINUTE..=5 * MINUTE).contains(&self.backdate) {
            return Err(LifetimesError::Backdate(self.backdate));
        }
        if self.recheck < Duration::from_secs(1) {
            return Err(LifetimesError::Recheck);
        }
        if self.remainder(self.leaf) <= self.lag + self.recheck {
            return Err(LifetimesError::Leaf(self.leaf));
        }
        if self.overlap < self.lag + 2 * self.recheck {
            return Err(LifetimesError::Overlap(self.overlap));
        }
        let needed = (PATIENCE + 1) * self.overlap + self.lag + self.leaf;
        if self.remainder(self.authority) < needed {
            return Err(LifetimesError::Authority(self.authority));
        }
        Ok(())
    }

    /// What is left of a life when it is renewed.
    #[must_use]
    pub fn remainder(&self, life: Duration) -> Duration {
        life * 100u32.saturating_sub(self.renew_percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works() {
        let lifetimes = Lifetimes::default();
        assert_eq!(lifetimes.check(), Ok(()));
        assert!(lifetimes.overlap >= LEAST_OVERLAP);
        assert_eq!(
            Lifetimes::with_leaf(lifetimes.leaf).unwrap().renew_percent,
            66
        );
    }

    #[test]
    fn two_minutes_work_with_mounted_secrets() {
        let lifetimes = Lifetimes::with_leaf(2 * MINUTE).unwrap();
        assert_eq!(lifetimes.overlap, LEAST_OVERLAP);
        assert_eq!(lifetimes.lag, MOUNT_LAG);
        let renewed = lifetimes.leaf - lifetimes.remainder(lifetimes.leaf);
        assert!(renewed + MOUNT_LAG + lifetimes.recheck < lifetimes.leaf);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = Lifetimes::default();
        let cases = [
            (
                Lifetimes {
                    renew_percent: 95,
                    ..good
                },
                "renewal after 95 %",
            ),
            (
                Lifetimes {
                    renew_percent: 0,
                    ..good
                },
                "renewal after 0 %",
            ),
            (
                Lifetimes {
                    backdate: 10 * MINUTE,
                    ..good
                },
                "backdated by 600s",
            ),
            (
                Lifetimes {
                    backdate: Duration::ZERO,
                    ..good
                },
                "backdated by 0ns",
            ),
            (
                Lifetimes {
                    leaf: 2 * MINUTE,
                    ..good
                },
                "certificates of 120s",
            ),
            (
                Lifetimes {
                    overlap: 2 * MINUTE,
                    ..good
                },
                "overlap of 120s",
            ),
            (
                Lifetimes {
                    authority: 48 * 60 * MINUTE,
                    ..good
                },
                "authorities of",
            ),
            (
                Lifetimes {
                    recheck: Duration::ZERO,
                    ..good
                },
                "at least a second",
            ),
        ];
        for (lifetimes, message) in cases {
            let error = lifetimes.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        for short in [0, 1, 60, 80, 85] {
            assert!(
                Lifetimes::with_leaf(Duration::from_secs(short)).is_err(),
                "{short}"
            );
        }
    }
}
