//! What there is of an instance's keys, and what there should be.
//!
//! [`plan`] is a pure function of what was found, the subject and the clock. It makes what is
//! missing, renews what has had its time, and moves from one authority to the next in steps, so
//! that whoever still has old files and whoever has the new ones can talk to each other:
//!
//! | step | until | trusted | signs |
//! | --- | --- | --- | --- |
//! | 1 | the authority has had its time | A | A |
//! | 2 | B has been announced everywhere for an overlap | A, B | A |
//! | 3 | no certificate of A's is left, and an overlap more | A, B | B |
//! | 4 | | B | B |
//!
//! The times that decide are not those of writing, but of finding: B counts as announced when it
//! was read back from everywhere, and A as unused when no certificate of A's was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::lifetimes::{Lifetimes, PATIENCE};
use super::make::{self, MakeError};
use super::material::{Authority, Key, Leaf, MAX_AUTHORITIES, Usage, Wanted};
use super::subject::Subject;

/// All keys of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The authorities that are trusted, the newest first. Those with a key sign, or will. (Their
    /// order is kept, since times in certificates do not tell it: they are backdated.)
    pub authorities: Vec<Authority>,
    /// The xDS server's certificate.
    pub server: Option<Leaf>,
    /// The certificate of each shard's Envoys.
    pub envoys: BTreeMap<String, Leaf>,
    /// The published authorities, in PEM.
    pub public: Option<Arc<str>>,
}

/// What a plan changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The authorities, or what is remembered of them.
    pub authorities: bool,
    /// The published authorities.
    pub public: bool,
    /// The server's certificate, or the authorities beside it.
    pub server: bool,
    /// Likewise for these shards.
    pub envoys: BTreeSet<String>,
}

impl Changed {
    /// Whether there is anything to write.
    #[must_use]
    pub fn any(&self) -> bool {
        let Changed {
            authorities,
            public,
            server,
            envoys,
        } = self;
        *authorities || *public || *server || !envoys.is_empty()
    }
}

/// What there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// All keys.
    pub bundle: Bundle,
    /// In what it differs from what was found.
    pub changed: Changed,
    /// When to look again, at the latest. After a change: as soon as it is written.
    pub next_check: Duration,
}

/// What there should be, given what was found. `current` holds what is readable of it: see
/// [`super::store::decode`]. With `keep_keys` a certificate is renewed for the key that it has.
///
/// # Errors
/// When the system gives no random numbers, or making a certificate fails. Never because of what
/// was found.
pub fn plan(
    current: Option<&Bundle>,
    subject: &Subject,
    now: UnixTime,
    lifetimes: &Lifetimes,
    keep_keys: bool,
) -> Result<Plan, MakeError> {
    let none = Bundle::default();
    let found = current.unwrap_or(&none);
    let planner = Planner {
        found,
        subject,
        now,
        t: now.as_secs(),
        lifetimes,
        keep_keys,
    };
    planner.plan()
}

struct Planner<'a> {
    found: &'a Bundle,
    subject: &'a Subject,
    now: UnixTime,
    t: u64,
    lifetimes: &'a Lifetimes,
    keep_keys: bool,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, MakeError> {
        let mut authorities = self.authorities()?;
        let signer = self.signer(&authorities);
        // What was replaced signs no more: its key goes.
        for old in authorities.iter_mut().skip(signer + 1) {
            old.key = None;
        }
        self.retire(&mut authorities, signer);
        let signer = authorities
            .get(self.signer(&authorities))
            .cloned()
            .ok_or(MakeError::NoKey)?;
        let trust: Arc<str> = trust(&authorities).into();

        let wanted = Wanted::server(self.subject);
        let server = self.leaf(
            self.found.server.as_ref(),
            &wanted,
            &authorities,
            &signer,
            &trust,
        )?;
        let mut envoys = BTreeMap::new();
        for shard in self.subject.shards() {
            let wanted = Wanted::shard(self.subject, shard);
            let found = self.found.envoys.get(shard);
            let leaf = self.leaf(found, &wanted, &authorities, &signer, &trust)?;
            envoys.insert(shard.clone(), leaf);
        }

        let bundle = Bundle {
            authorities,
            server: Some(server),
            envoys,
            public: Some(trust),
        };
        let changed = Changed {
            authorities: bundle.authorities != self.found.authorities,
            public: bundle.public != self.found.public,
            server: bundle.server != self.found.server,
            envoys: bundle
                .envoys
                .iter()
                .filter(|(shard, leaf)| self.found.envoys.get(*shard) != Some(leaf))
                .map(|(shard, _)| shard.clone())
                .collect(),
        };
        let next_check = self.next_check(&bundle);
        Ok(Plan {
            bundle,
            changed,
            next_check,
        })
    }

    /// The authorities that are valid now, the newest first, and a new one where one is needed.
    fn authorities(&self) -> Result<Vec<Authority>, MakeError> {
        let valid = |a: &&Authority| a.not_before <= self.t && self.t < a.not_after;
        let mut authorities: Vec<Authority> = self
            .found
            .authorities
            .iter()
            .filter(valid)
            .cloned()
            .collect();
        // Someone may have planted many; those that sign are not pushed out by them.
        let mut keyless = 0;
        authorities.retain(|authority| {
            keyless += usize::from(authority.key.is_none());
            authority.key.is_some() || keyless <= MAX_AUTHORITIES
        });
        for authority in &mut authorities {
            // Times to come are made up, or of a clock that is ahead of ours.
            let latest = self.t + self.lifetimes.backdate.as_secs();
            authority.published = authority.published.map(|at| at.min(latest));
            authority.retired = authority.retired.map(|at| at.min(latest));
            if authority.published.is_none() && self.announced(authority) {
                authority.published = Some(self.t);
            }
        }
        // One successor at a time: the next one waits until this one signs.
        let keyed: Vec<&Authority> = authorities.iter().filter(|a| a.key.is_some()).collect();
        let needed = match keyed.as_slice() {
            [] => true,
            [only] => self.due(only.not_after, self.lifetimes.authority),
            [newest, ..] => {
                self.mature(newest).is_some_and(|at| at <= self.t)
                    && self.due(newest.not_after, self.lifetimes.authority)
            }
        };
        if needed {
            authorities.insert(0, make::authority(self.subject, self.t, self.lifetimes)?);
        }
        Ok(authorities)
    }

    /// Whether all who need to trust this authority were found to, or have had their time.
    fn announced(&self, authority: &Authority) -> bool {
        let made = authority.not_before + self.lifetimes.backdate.as_secs();
        if self.t >= made + u64::from(PATIENCE) * self.lifetimes.overlap.as_secs() {
            return true;
        }
        let lists = |trust: &str| trust.contains(&*authority.certificate);
        let envoys = &self.found.envoys;
        self.found.public.as_deref().is_some_and(lists)
            && self
                .found
                .server
                .as_ref()
                .is_some_and(|leaf| lists(&leaf.trust))
            && self
                .subject
                .shards()
                .iter()
                .all(|shard| envoys.get(shard).is_some_and(|leaf| lists(&leaf.trust)))
    }

    /// When an authority may sign: it has been announced for an overlap.
    fn mature(&self, authority: &Authority) -> Option<u64> {
        authority.key.as_ref()?;
        Some(authority.published? + self.lifetimes.overlap.as_secs())
    }

    /// Which one signs: the newest that may; else, at the very beginning or after damage, the
    /// oldest that can.
    fn signer(&self, authorities: &[Authority]) -> usize {
        let may = |a: &Authority| self.mature(a).is_some_and(|at| at <= self.t);
        let can = |a: &Authority| a.key.is_some();
        let newest = authorities.iter().position(may);
        newest
            .or_else(|| authorities.iter().rposition(can))
            .unwrap_or(0)
    }

    /// Drops authorities that no certificate in the store has needed for an overlap.
    fn retire(&self, authorities: &mut Vec<Authority>, signer: usize) {
        let signing = authorities.get(signer).map(|a| a.serial.clone());
        let overlap = self.lifetimes.overlap.as_secs();
        authorities.retain_mut(|authority| {
            let coming = authority.key.is_some();
            if coming || Some(&authority.serial) == signing.as_ref() || self.used(authority) {
                authority.retired = None;
                return true;
            }
            self.t < *authority.retired.get_or_insert(self.t) + overlap
        });
    }

    /// Whether a certificate that is in use was signed by this authority.
    fn used(&self, authority: &Authority) -> bool {
        let server = self.found.server.iter().map(|leaf| (leaf, Usage::Server));
        let envoys = self.found.envoys.values().map(|leaf| (leaf, Usage::Envoy));
        server
            .chain(envoys)
            .any(|(leaf, usage)| authority.issued(leaf, usage, self.now))
    }

    /// The certificate that was found, or a new one in its place.
    fn leaf(
        &self,
        found: Option<&Leaf>,
        wanted: &Wanted,
        authorities: &[Authority],
        signer: &Authority,
        trust: &Arc<str>,
    ) -> Result<Leaf, MakeError> {
        let good = found.filter(|leaf| {
            let mut all = authorities.iter();
            let issuer = all.find(|a| a.issued(leaf, wanted.usage, self.now));
            issuer.is_some_and(|issuer| !self.replace(leaf, issuer, signer))
        });
        let mut leaf = match good {
            Some(leaf) => leaf.clone(),
            None => {
                let key: Option<&Key> = found.filter(|_| self.keep_keys).map(|leaf| &leaf.key);
                make::leaf(wanted, signer, key, self.t, self.lifetimes)?
            }
        };
        leaf.trust = trust.clone();
        Ok(leaf)
    }

    /// Whether a good certificate is to be replaced by one of the signer's.
    fn replace(&self, leaf: &Leaf, issuer: &Authority, signer: &Authority) -> bool {
        let life = self.lifetimes.leaf;
        if issuer.serial != signer.serial {
            // Damage made a new authority without notice: as long as the old certificate serves,
            // those who have not heard of the new one are served.
            let at = signer.published.unwrap_or(self.t) + self.lifetimes.overlap.as_secs();
            return at <= self.t || leaf.not_after <= at + self.lifetimes.lag.as_secs();
        }
        let end = make::end(signer, self.t, self.lifetimes);
        if leaf.not_after > end + self.lifetimes.backdate.as_secs() {
            return true; // longer than certificates live now
        }
        // No renewal that gains next to nothing, at the end of an authority.
        self.due(leaf.not_after, life) && end > leaf.not_after + life.as_secs() / 20
    }

    /// Whether something of this end and life has had its time, or has more than its life left:
    /// lives became shorter, or a clock was wrong (by more than clocks may differ).
    fn due(&self, not_after: u64, life: Duration) -> bool {
        let latest = self.t + (life + self.lifetimes.backdate).as_secs();
        self.t >= self.due_at(not_after, life) || not_after > latest
    }

    fn due_at(&self, not_after: u64, life: Duration) -> u64 {
        not_after.saturating_sub(self.lifetimes.remainder(life).as_secs())
    }

    fn next_check(&self, bundle: &Bundle) -> Duration {
        let overlap = self.lifetimes.overlap.as_secs();
        let of_authorities = bundle.authorities.iter().flat_map(|a| {
            let due = self.due_at(a.not_after, self.lifetimes.authority);
            let dropped = a.retired.map(|at| at + overlap);
            [Some(due), Some(a.not_after), self.mature(a), dropped]
        });
        let leaves = bundle.server.iter().chain(bundle.envoys.values());
        let of_leaves = leaves.map(|leaf| self.due_at(leaf.not_after, self.lifetimes.leaf));
        let next = of_authorities
            .flatten()
            .chain(of_leaves)
            .filter(|at| *at > self.t)
            .min()
            .map_or(self.lifetimes.recheck, |at| {
                Duration::from_secs(at - self.t)
            });
        next.min(self.lifetimes.recheck)
    }
}

/// The certificates of authorities in one PEM text.
pub(super) fn trust(authorities: &[Authority]) -> String {
    authorities.iter().map(|a| &*a.certificate).collect()
}

/// Which of the authorities signs: the oldest that has a key, since those after it are only
/// announced. In a bundle that was planned, all older ones have lost their keys.
pub(super) fn signing(authorities: &[Authority]) -> Option<&Authority> {
    authorities.iter().rev().find(|a| a.key.is_some())
}

#[cfg(test)]
mod tests;
