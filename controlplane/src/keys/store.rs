//! Where the keys of an instance are kept.
//!
//! A [`Store`] moves named [`Contents`]; [`encode`] and [`decode`] know what is in them:
//!
//! | part | keys |
//! | --- | --- |
//! | [`Part::Authority`] | `tls.crt`, `tls.key` of the authority that signs; `next.crt`, `next.key` of one that is only announced; `old.crt`: those still trusted; `ca.crt`: all; `state`: since when |
//! | [`Part::Public`] | `ca.crt` |
//! | [`Part::Server`], [`Part::Envoy`] | `tls.crt`, `tls.key`, `ca.crt` |
//!
//! Reading is tolerant of the order in which things are kept, since a directory is written file by
//! file, and of nothing else.

mod directory;
mod kubernetes;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

pub use directory::DirectoryStore;
pub use kubernetes::{KubernetesStore, Names};
pub use memory::MemoryStore;

use super::authority::{Bundle, signing, trust};
use super::material::{Authority, Damage, Key, Leaf, MAX_PEM, Wanted, split};
use super::subject::Subject;

pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const TRUST: &str = "ca.crt";
pub(super) const NEXT_CERTIFICATE: &str = "next.crt";
pub(super) const NEXT_KEY: &str = "next.key";
pub(super) const OLD: &str = "old.crt";
pub(super) const STATE: &str = "state";

/// One object of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The authorities, with keys.
    Authority,
    /// The authorities, for all to read.
    Public,
    /// The xDS server's certificate.
    Server,
    /// The certificate of this shard's Envoys.
    Envoy(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Authority => f.write_str("the certificate authority"),
            Part::Public => f.write_str("the published authority"),
            Part::Server => f.write_str("the xDS server's certificate"),
            Part::Envoy(shard) => write!(f, "the certificate of shard {shard}"),
        }
    }
}

impl Part {
    /// The parts of a subject, in the order in which they are written: what signs before what it
    /// signed.
    #[must_use]
    pub fn of(subject: &Subject) -> Vec<Part> {
        let envoys = subject.shards().iter().cloned().map(Part::Envoy);
        [Part::Authority, Part::Public]
            .into_iter()
            .chain(envoys)
            .chain([Part::Server])
            .collect()
    }
}

/// What is in a part, by key. `Debug` shows the keys alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Contents {
    fn put(&mut self, key: &str, text: &str) {
        self.0.insert(key.to_owned(), text.as_bytes().to_vec());
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, Damage> {
        let Some(bytes) = self.0.get(key) else {
            return Ok(None);
        };
        if bytes.len() > MAX_PEM {
            return Err(Damage::TooLarge);
        }
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Damage::NotText)
    }

    fn needed(&self, key: &'static str) -> Result<&str, Damage> {
        self.text(key)?.ok_or(Damage::Missing(key))
    }
}

/// What a store holds of the parts that were asked for, each with what a store needs to know to
/// replace it.
pub type Stored<V> = BTreeMap<Part, (Contents, V)>;

/// Why a part was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Someone else wrote it meanwhile: read it again.
    #[error("someone else wrote it meanwhile")]
    Conflict,
    /// The store refuses, or is not to be reached.
    #[error("{0}")]
    Failed(String),
}

/// Keeps contents under fixed names.
pub trait Store: Send + Sync {
    /// What was read, to be replaced.
    type Version: Clone + Send + Sync;

    /// Reads these parts; those that do not exist are left out.
    fn load(
        &self,
        parts: &[Part],
    ) -> impl Future<Output = Result<Stored<Self::Version>, StoreError>> + Send;

    /// Writes a part: in place of what was read as `over`, or anew where nothing was.
    fn save(
        &self,
        part: &Part,
        contents: &Contents,
        over: Option<&Self::Version>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether certificates are renewed for the keys that they have, since the store cannot
    /// replace certificate and key in one step.
    fn keeps_leaf_keys(&self) -> bool {
        false
    }
}

/// Something in the store that is of no use, and is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it is.
    pub part: Part,
    /// What is wrong with it.
    pub damage: Damage,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.damage)
    }
}

/// What of the stored is readable and the subject's own, and warnings about the rest.
#[must_use]
pub fn decode<V>(stored: &Stored<V>, subject: &Subject) -> (Bundle, Vec<Warning>) {
    let mut bundle = Bundle::default();
    let mut warnings = Vec::new();
    for (part, (contents, _)) in stored {
        let mut warn = |damage| {
            warnings.push(Warning {
                part: part.clone(),
                damage,
            });
        };
        match part {
            Part::Authority => bundle.authorities = authorities(contents, subject, &mut warn),
            Part::Public => match contents.needed(TRUST) {
                Ok(text) => bundle.public = Some(text.into()),
                Err(damage) => warn(damage),
            },
            Part::Server => match leaf(contents, &Wanted::server(subject)) {
                Ok(leaf) => bundle.server = Some(leaf),
                Err(damage) => warn(damage),
            },
            Part::Envoy(shard) => match leaf(contents, &Wanted::shard(subject, shard)) {
                Ok(leaf) => drop(bundle.envoys.insert(shard.clone(), leaf)),
                Err(damage) => warn(damage),
            },
        }
    }
    (bundle, warnings)
}

fn leaf(contents: &Contents, wanted: &Wanted) -> Result<Leaf, Damage> {
    let key = Key::new(contents.needed(KEY)?);
    // Missing or damaged trust is no reason to make a new certificate: it is just put right.
    let trust = contents.text(TRUST).ok().flatten().unwrap_or_default();
    Leaf::read(contents.needed(CERTIFICATE)?, &key, trust, wanted)
}

fn authorities(
    contents: &Contents,
    subject: &Subject,
    warn: &mut impl FnMut(Damage),
) -> Vec<Authority> {
    let mut text = |key: &'static str| {
        contents.text(key).unwrap_or_else(|damage| {
            warn(damage);
            None
        })
    };
    // The newest first.
    let certificates = [NEXT_CERTIFICATE, CERTIFICATE, OLD].map(&mut text);
    let keys: Vec<Key> = [KEY, NEXT_KEY]
        .iter()
        .filter_map(|key| text(key))
        .map(Key::new)
        .collect();
    let times = text(STATE).map_or(Ok(BTreeMap::new()), |json| {
        serde_json::from_str::<BTreeMap<String, BTreeMap<String, u64>>>(json)
    });
    let times = times.unwrap_or_else(|_| {
        warn(Damage::State);
        BTreeMap::new()
    });
    if certificates[1].is_none() {
        warn(Damage::Missing(CERTIFICATE));
    }

    let mut seen = BTreeSet::new();
    let mut authorities = Vec::new();
    for (slot, texts) in certificates.into_iter().enumerate() {
        let several = slot == 2;
        let one = |text: &str| vec![text.to_owned()];
        for pem in texts
            .map(|t| if several { split(t) } else { one(t) })
            .unwrap_or_default()
        {
            let mut authority = match Authority::read(&pem, subject) {
                Ok(authority) if seen.insert(authority.serial.clone()) => authority,
                Ok(_) => continue,
                Err(damage) => {
                    warn(damage);
                    continue;
                }
            };
            let fitting = keys
                .iter()
                .find_map(|key| authority.clone().with_key(key).ok());
            match fitting {
                Some(with_key) => authority = with_key,
                None if !several && keys.is_empty() => warn(Damage::Missing(KEY)),
                None if !several => warn(Damage::KeyMismatch),
                None => {}
            }
            let time = |kind: &str| times.get(kind)?.get(&authority.serial).copied();
            authority.published = time("published");
            authority.retired = time("retired");
            authorities.push(authority);
        }
    }
    authorities
}

/// The contents of a part of a bundle; nothing where the bundle has no such part.
#[must_use]
pub fn encode(bundle: &Bundle, part: &Part) -> Option<Contents> {
    let mut contents = Contents::default();
    let leaf = match part {
        Part::Authority => {
            encode_authorities(&bundle.authorities, &mut contents)?;
            return Some(contents);
        }
        Part::Public => {
            contents.put(TRUST, bundle.public.as_ref()?);
            return Some(contents);
        }
        Part::Server => bundle.server.as_ref()?,
        Part::Envoy(shard) => bundle.envoys.get(shard)?,
    };
    contents.put(CERTIFICATE, &leaf.certificate);
    contents.put(KEY, leaf.key.pem());
    contents.put(TRUST, &leaf.trust);
    Some(contents)
}

fn encode_authorities(authorities: &[Authority], contents: &mut Contents) -> Option<()> {
    let signer = signing(authorities)?;
    let mut old = Vec::new();
    let mut times: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for authority in authorities {
        let slots = match &authority.key {
            Some(key) if authority.serial == signer.serial => Some((CERTIFICATE, KEY, key)),
            Some(key) => Some((NEXT_CERTIFICATE, NEXT_KEY, key)),
            None => None,
        };
        if let Some((certificate_slot, key_slot, key)) = slots {
            contents.put(certificate_slot, &authority.certificate);
            contents.put(key_slot, key.pem());
        } else {
            old.push(authority.clone());
        }
        let known = [
            ("published", authority.published),
            ("retired", authority.retired),
        ];
        for (kind, time) in known {
            if let Some(time) = time {
                times
                    .entry(kind)
                    .or_default()
                    .insert(&authority.serial, time);
            }
        }
    }
    if !old.is_empty() {
        contents.put(OLD, &trust(&old));
    }
    contents.put(TRUST, &trust(authorities));
    contents.put(STATE, &serde_json::to_string(&times).ok()?);
    Some(())
}
#[cfg(test)]
mod tests;
