//! Whom the certificates of an instance name.

use std::collections::BTreeSet;

use postern_xds::Identity;

/// The greatest number of shards of an instance that get certificates.
pub const MAX_SHARDS: usize = 64;

/// An instance, the DNS names of its control plane, and its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    trust_domain: String,
    namespace: String,
    instance: String,
    dns: BTreeSet<String>,
    shards: BTreeSet<String>,
}

/// Why certificates cannot be made for a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A part of the identity has characters or a length that it must not have.
    #[error("{0}")]
    Identity(String),
    /// Not a DNS name.
    #[error("not a DNS name: {0:?}")]
    Dns(String),
    /// Too many.
    #[error("{0} shards, and at most {MAX_SHARDS} are possible")]
    Shards(usize),
}

impl Subject {
    /// The instance `namespace`/`instance` of a trust domain; the DNS names of its control plane
    /// (see [`service_names`]; only clients other than Envoy look at them) and its shards.
    ///
    /// # Errors
    /// When something is no name.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        instance: &str,
        dns: impl IntoIterator<Item = String>,
        shards: impl IntoIterator<Item = String>,
    ) -> Result<Subject, SubjectError> {
        let dns: BTreeSet<String> = dns.into_iter().collect();
        let shards: BTreeSet<String> = shards.into_iter().collect();
        if shards.len() > MAX_SHARDS {
            return Err(SubjectError::Shards(shards.len()));
        }
        // One made-up shard, so that the other parts are looked at where there is none.
        for shard in shards.iter().map(String::as_str).chain(["none"]) {
            Identity::new(trust_domain, namespace, instance, shard)
                .map_err(|error| SubjectError::Identity(error.to_string()))?;
        }
        for name in &dns {
            let known = rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
            if !known || name.contains(|c: char| c.is_ascii_uppercase() || c == '_') {
                return Err(SubjectError::Dns(name.chars().take(80).collect()));
            }
        }
        Ok(Subject {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            instance: instance.to_owned(),
            dns,
            shards,
        })
    }

    /// The shards, each with a certificate for its Envoys.
    #[must_use]
    pub fn shards(&self) -> &BTreeSet<String> {
        &self.shards
    }

    /// Namespace and instance, for logs.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.instance)
    }

    /// The URI in the authority's certificate: the trust domain, without a path
    /// (X509-SVID, section 3.2). Neither webpki nor rcgen knows name constraints for URIs.
    pub(super) fn authority_uri(&self) -> String {
        format!("spiffe://{}", self.trust_domain)
    }

    /// The URI in the xDS server's certificate, the one that Envoys ask for.
    #[must_use]
    pub fn control_plane_uri(&self) -> String {
        format!("{}{}/controlplane", self.authority_uri(), self.path())
    }

    /// The URI in the certificate of a shard's Envoys; it picks the resources that they get.
    #[must_use]
    pub fn shard_uri(&self, shard: &str) -> String {
        format!("{}{}/shard/{shard}", self.authority_uri(), self.path())
    }

    /// DNS names of the xDS server's certificate.
    #[must_use]
    pub fn dns(&self) -> &BTreeSet<String> {
        &self.dns
    }

    /// The common name of an authority: at most 64 characters (X.520, `ub-common-name`). It is
    /// different for each authority, so that verifiers find the right one of several by name.
    pub(super) fn common_name(&self, serial: &[u8]) -> String {
        let mark: String = serial.iter().take(4).map(|b| format!("{b:02x}")).collect();
        let label: String = self.label().chars().take(54).collect();
        format!("{label} {mark}")
    }

    fn path(&self) -> String {
        format!("/ns/{}/instance/{}", self.namespace, self.instance)
    }
}

/// The names under which a Service is found in a cluster.
#[must_use]
pub fn service_names(service: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{cluster_domain}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(ns: &str, name: &str, dns: &str, shard: &str) -> Result<Subject, SubjectError> {
        Subject::new(
            "postern.local",
            ns,
            name,
            [dns.to_owned()],
            [shard.to_owned()],
        )
    }

    #[test]
    fn uris_are_those_that_the_server_and_the_envoys_ask_for() {
        let subject = subject("team-a", "web.v2", "x.team-a.svc", "default").unwrap();
        let path = "spiffe://postern.local/ns/team-a/instance/web.v2";
        assert_eq!(subject.control_plane_uri(), format!("{path}/controlplane"));
        assert_eq!(
            subject.shard_uri("default"),
            format!("{path}/shard/default")
        );
        let read: Identity = subject.shard_uri("default").parse().unwrap();
        assert_eq!((read.namespace(), read.instance()), ("team-a", "web.v2"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(subject("a", "b", "c", "d").is_ok());
        for (ns, name, dns, shard) in [
            ("a/b", "b", "c", "d"),
            ("a", "../b", "c", "d"),
            ("a", "b\0", "c", "d"),
            ("a", "b", "c", "d/shard/e"),
            ("a", "b", "c", ""),
            ("a", "b", "", "d"),
            ("a", "b", "*.c", "d"),
            ("a", "b", "c\n", "d"),
            ("a", "b", "C", "d"),
            ("a", "b", "1.2.3.4/5", "d"),
        ] {
            assert!(
                subject(ns, name, dns, shard).is_err(),
                "{ns} {name} {dns} {shard}"
            );
        }
        let many = (0..=MAX_SHARDS).map(|i| format!("s{i}"));
        let error = Subject::new("d", "a", "b", [], many);
        assert_eq!(error, Err(SubjectError::Shards(MAX_SHARDS + 1)));
        assert!(Subject::new("d", "a/b", "b", [], []).is_err());
    }

    #[test]
    fn common_names_stay_short_and_differ() {
        let long = subject(&"n".repeat(63), &"i".repeat(63), "c", "d").unwrap();
        let one = long.common_name(&[1, 2, 3, 4, 5]);
        assert!(one.len() <= 64, "{one}");
        assert!(one.ends_with(" 01020304"));
        assert_ne!(one, long.common_name(&[9, 2, 3, 4, 5]));
    }

    #[test]
    fn a_service_has_four_names() {
        let names = service_names("xds", "team-a", "cluster.local");
        assert_eq!(names[3], "xds.team-a.svc.cluster.local");
        assert!(subject("a", "b", &names[3], "d").is_ok());
    }
}
