//! What was asked of an API server, and what it answered.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use postern_api::{GATEWAY_CLASS, GATEWAY_GROUP, GROUP};
use serde_json::Value;

/// Kinds of object that pages are made of. None of them needs more than the stock role `view` and
/// ours beside it; what that does not cover on a cluster is told as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `GatewayClass`: those that Gateways name, one by one.
    GatewayClass,
    /// `GatewayInstance`.
    GatewayInstance,
    /// `Entitlement`.
    Entitlement,
    /// `Gateway`.
    Gateway,
    /// `HTTPRoute`.
    HttpRoute,
    /// `Service`.
    Service,
    /// `EndpointSlice`.
    EndpointSlice,
    /// `Deployment`.
    Deployment,
    /// `Lease`: the operator's, by its name.
    Lease,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 9] = [
        Resource::GatewayClass,
        Resource::GatewayInstance,
        Resource::Entitlement,
        Resource::Gateway,
        Resource::HttpRoute,
        Resource::Service,
        Resource::EndpointSlice,
        Resource::Deployment,
        Resource::Lease,
    ];

    /// Those that are listed, in a namespace or in all of them.
    pub const LISTED: [Resource; 7] = [
        Resource::GatewayInstance,
        Resource::Entitlement,
        Resource::Gateway,
        Resource::HttpRoute,
        Resource::Service,
        Resource::EndpointSlice,
        Resource::Deployment,
    ];

    /// Its API group; empty for core.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Resource::GatewayClass | Resource::Gateway | Resource::HttpRoute => GATEWAY_GROUP,
            Resource::GatewayInstance | Resource::Entitlement => GROUP,
            Resource::Service => "",
            Resource::EndpointSlice => "discovery.k8s.io",
            Resource::Deployment => "apps",
            Resource::Lease => "coordination.k8s.io",
        }
    }

    /// Its versions that can be read, the one to try first first.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Resource::GatewayClass | Resource::Gateway | Resource::HttpRoute => &["v1", "v1beta1"],
            Resource::GatewayInstance | Resource::Entitlement => &["v1alpha1"],
            Resource::Service
            | Resource::EndpointSlice
            | Resource::Deployment
            | Resource::Lease => &["v1"],
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Resource::GatewayClass => "GatewayClass",
            Resource::GatewayInstance => "GatewayInstance",
            Resource::Entitlement => "Entitlement",
            Resource::Gateway => "Gateway",
            Resource::HttpRoute => "HTTPRoute",
            Resource::Service => "Service",
            Resource::EndpointSlice => "EndpointSlice",
            Resource::Deployment => "Deployment",
            Resource::Lease => "Lease",
        }
    }

    /// Its name in URLs.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Resource::GatewayClass => "gatewayclasses",
            Resource::GatewayInstance => "gatewayinstances",
            Resource::Entitlement => "entitlements",
            Resource::Gateway => "gateways",
            Resource::HttpRoute => "httproutes",
            Resource::Service => "services",
            Resource::EndpointSlice => "endpointslices",
            Resource::Deployment => "deployments",
            Resource::Lease => "leases",
        }
    }
}

/// What an API server answered about a kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// These objects, and no others of those that were asked for.
    Known(Vec<Value>),
    /// Whoever asks may not know.
    Forbidden,
    /// It does not serve the kind.
    NotServed,
    /// It did not answer: why.
    Failed(String),
}

/// All that is known, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The namespace that was asked about; `None` is all of them.
    pub namespace: Option<String>,
    /// The time of the answers.
    pub now: Timestamp,
    /// The answers. What is missing was not asked.
    pub answers: BTreeMap<Resource, Answer>,
    /// Where the operator's Lease was looked for.
    pub operator_namespace: String,
}

impl Facts {
    /// The objects of a kind; none if it is not known.
    #[must_use]
    pub fn objects(&self, resource: Resource) -> &[Value] {
        match self.answers.get(&resource) {
            Some(Answer::Known(objects)) => objects,
            _ => &[],
        }
    }

    /// Whether the objects of a kind are known.
    #[must_use]
    pub fn knows(&self, resource: Resource) -> bool {
        matches!(self.answers.get(&resource), Some(Answer::Known(_)))
    }

    /// The GatewayClasses to be asked for: those that Gateways name, and ours.
    #[must_use]
    pub fn class_names(&self) -> BTreeSet<String> {
        let named = self.objects(Resource::Gateway).iter();
        named
            .filter_map(|gateway| gateway.pointer("/spec/gatewayClassName")?.as_str())
            .chain([GATEWAY_CLASS])
            .map(str::to_owned)
            .collect()
    }
}
