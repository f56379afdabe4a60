//! One function makes every name that we stamp.
//!
//! [`name`] is readable where it can be, a DNS label of at most 63 characters (RFC 1123, and
//! RFC 1035 too, since Services ask for that one), equal for equal input, and different for any
//! two inputs. Users write these names (`curl http://postern-web-gateway`), so the function never
//! changes: the goldens below hold it.
//!
//! | form | when | example |
//! | --- | --- | --- |
//! | `postern-{part}-{role}` | one part, a DNS label that fits and is not mistakable for a hash | `postern-web-gateway` |
//! | `postern-{cut}-{hash}-{role}` | all else | `postern-web-example-0hqtiflpvnoylcgpp-gateway` |
//!
//! A hash is `0` and 16 characters of base32 (RFC 4648, lower case): 80 bits of SHA-256 over the
//! role and the parts, each with its length before it. `0` is no character of base32, so few
//! names that people choose look like a hash; those that do get one of their own. Whoever wants
//! another's name has to find a second preimage of 80 bits; two names of one's own that collide
//! (2^40 tries) harm their owner alone, since nothing that exists is ever adopted.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::DEFAULT_SHARD;

/// The longest name: a DNS label (RFC 1123).
pub const MAX_LENGTH: usize = 63;

const PREFIX: &str = "postern";
const HASH_MARK: char = '0';
const HASH_CHARS: usize = 16;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a stamped object is for; the last word of its name. A word holds no `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The control plane: ServiceAccount, Role, RoleBinding, Deployment, Service, policies.
    Controlplane,
    /// The Envoys of a shard: ServiceAccount, Deployment, policies.
    Envoy,
    /// The Service of a Gateway.
    Gateway,
    /// The Service of a Gateway that OpenShift's router takes its pods from.
    Router,
    /// A Route of a Gateway.
    Route,
    /// The Entitlement of an instance.
    Entitlement,
    /// The Secret with an instance's certificate authority.
    Ca,
    /// The Secret with the certificate that a shard's Envoys show to the control plane.
    Tls,
    /// The Secret with the certificate that the control plane shows to Envoys.
    Xds,
    /// The ConfigMap with an instance's public certificate authority.
    Trust,
    /// The Lease of a control plane.
    Lease,
    /// Read of Secrets by name: Role and RoleBinding.
    Secrets,
    /// Read of kinds in a namespace: RoleBinding to a static ClusterRole.
    Reader,
    /// Write of route statuses: Role and RoleBinding.
    Status,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 14] = [
        Role::Controlplane,
        Role::Envoy,
        Role::Gateway,
        Role::Router,
        Role::Route,
        Role::Entitlement,
        Role::Ca,
        Role::Tls,
        Role::Xds,
        Role::Trust,
        Role::Lease,
        Role::Secrets,
        Role::Reader,
        Role::Status,
    ];

    /// The word in names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Controlplane => "controlplane",
            Role::Envoy => "envoy",
            Role::Gateway => "gateway",
            Role::Router => "router",
            Role::Route => "route",
            Role::Entitlement => "entitlement",
            Role::Ca => "ca",
            Role::Tls => "tls",
            Role::Xds => "xds",
            Role::Trust => "trust",
            Role::Lease => "lease",
            Role::Secrets => "secrets",
            Role::Reader => "reader",
            Role::Status => "status",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of what is stamped for `parts` in `role`.
///
/// Parts are names of objects (an instance; a namespace, an instance and a ReferenceGrant) in an
/// order that the caller keeps. Total: any text gives a valid name.
#[must_use]
pub fn name(parts: &[&str], role: Role) -> String {
    if let [part] = parts {
        let readable = format!("{PREFIX}-{part}-{role}");
        if readable.len() <= MAX_LENGTH && is_label(part) && !ends_like_a_hash(part) {
            return readable;
        }
    }
    let hash = hash(parts, role);
    // Besides the readable text: the prefix, the hash, the role and a `-` before each of the last
    // three.
    let room = MAX_LENGTH - (PREFIX.len() + hash.len() + role.as_str().len() + 3);
    let text: String = parts
        .join("-")
        .chars()
        .take(room)
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    match text.trim_matches('-') {
        "" => format!("{PREFIX}-{hash}-{role}"),
        cut => format!("{PREFIX}-{cut}-{hash}-{role}"),
    }
}

/// The name of a Gateway's Service, in the Gateway's namespace.
#[must_use]
pub fn gateway_service(gateway: &str) -> String {
    name(&[gateway], Role::Gateway)
}

/// The name of the Service that OpenShift's router takes a Gateway's pods from, in the Gateway's
/// namespace.
#[must_use]
pub fn router_service(gateway: &str) -> String {
    name(&[gateway], Role::Router)
}

/// The name of a Gateway's Route for a host, in the Gateway's namespace. `host` is that of the
/// claim: empty for a name of the router's domain.
#[must_use]
pub fn route(gateway: &str, host: &str) -> String {
    match host {
        "" => name(&[gateway], Role::Route),
        host => name(&[gateway, host], Role::Route),
    }
}

/// The first label of the host of a Route with `wildcardPolicy: Subdomain`. Any would do: such a
/// Route is for all names beside it.
pub const WILDCARD: &str = "wildcard";

/// `spec.subdomain` of a Gateway's Route without a host: `<gateway>-<namespace>`, as routers name
/// Routes themselves, or a hashed name where that is none.
#[must_use]
pub fn subdomain(gateway: &str, namespace: &str) -> String {
    let readable = format!("{gateway}-{namespace}");
    // Room for the router's domain: a host has 253 characters.
    let fits = readable.len() <= MAX_SUBDOMAIN
        && readable
            .split('.')
            .all(|label| label.len() <= MAX_LENGTH && is_label(label));
    match fits {
        true => readable,
        false => name(&[gateway, namespace], Role::Route),
    }
}

/// The longest readable subdomain.
const MAX_SUBDOMAIN: usize = 150;

/// The names of what one instance has in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceNames<'a> {
    /// The instance's name.
    pub instance: &'a str,
}

impl<'a> InstanceNames<'a> {
    /// Of the instance of this name.
    #[must_use]
    pub const fn new(instance: &'a str) -> Self {
        Self { instance }
    }

    /// The control plane's ServiceAccount, Role, RoleBinding, Deployment, Service, policy and
    /// disruption budget.
    #[must_use]
    pub fn control_plane(self) -> String {
        name(&[self.instance], Role::Controlplane)
    }

    /// A shard's ServiceAccount, Deployment, policy and disruption budget.
    #[must_use]
    pub fn envoy(self, shard: &str) -> String {
        self.of_shard(shard, Role::Envoy)
    }

    /// The Secret with the certificate that a shard's Envoys show to the control plane.
    #[must_use]
    pub fn envoy_tls(self, shard: &str) -> String {
        self.of_shard(shard, Role::Tls)
    }

    /// The Secret with the certificate that the control plane shows to Envoys.
    #[must_use]
    pub fn control_plane_tls(self) -> String {
        name(&[self.instance], Role::Xds)
    }

    /// The Secret with the instance's certificate authority. Its key stays with the control plane.
    #[must_use]
    pub fn ca(self) -> String {
        name(&[self.instance], Role::Ca)
    }

    /// The ConfigMap with the instance's public certificate authority.
    #[must_use]
    pub fn trust(self) -> String {
        name(&[self.instance], Role::Trust)
    }

    /// The control plane's Lease.
    #[must_use]
    pub fn lease(self) -> String {
        name(&[self.instance], Role::Lease)
    }

    /// The instance's Entitlement.
    #[must_use]
    pub fn entitlement(self) -> String {
        name(&[self.instance], Role::Entitlement)
    }

    /// The Role and RoleBinding that give the control plane the Secrets that its tenant's own
    /// objects name.
    #[must_use]
    pub fn secrets(self) -> String {
        name(&[self.instance], Role::Secrets)
    }

    /// The RoleBinding that lets the control plane read the tenant's objects.
    #[must_use]
    pub fn reader(self) -> String {
        name(&[self.instance], Role::Reader)
    }

    fn of_shard(self, shard: &str, role: Role) -> String {
        if shard == DEFAULT_SHARD {
            name(&[self.instance], role)
        } else {
            name(&[self.instance, shard], role)
        }
    }
}

/// Whether this is a DNS label (RFC 1123), but for its length.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether the last word of this could be a hash of ours.
fn ends_like_a_hash(part: &str) -> bool {
    let word = part.rsplit('-').next().unwrap_or(part);
    word.strip_prefix(HASH_MARK)
        .is_some_and(|rest| rest.len() == HASH_CHARS && rest.bytes().all(|b| BASE32.contains(&b)))
}

fn hash(parts: &[&str], role: Role) -> String {
    let mut sha = Sha256::new();
    for text in std::iter::once(role.as_str()).chain(parts.iter().copied()) {
        // `usize` is at most 64 bits wide on every platform that we build for.
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text);
    }
    let digest = sha.finalize();
    let mut out = String::with_capacity(1 + HASH_CHARS);
    out.push(HASH_MARK);
    let (mut bits, mut held) = (0_u16, 0_u8);
    for byte in digest {
        bits = (bits << 8) | u16::from(byte);
        held += 8;
        while held >= 5 && out.len() <= HASH_CHARS {
            held -= 5;
            out.push(char::from(BASE32[usize::from((bits >> held) & 31)]));
        }
        bits &= (1 << held) - 1;
        if out.len() > HASH_CHARS {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests;
