//! Which Gateways belong to which instance.

use std::collections::BTreeSet;

use postern_api::{CONTROLLER_NAME, DEFAULT_INSTANCE, GROUP};
use postern_refs::objects::{Gateway, GatewayClass};
use postern_refs::{FieldPath, Key, Map, Name, Object, Snapshot};

/// Whose a Gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Another controller's, or nobody's that we know.
    NotOurs,
    /// It belongs to the instance of this key, whether or not there is one.
    Instance(Key),
    /// It is ours, but belongs to no instance.
    Wrong {
        /// The field that is wrong.
        field: FieldPath,
        /// What is wrong with it and what to do.
        message: String,
    },
}

/// Whether a GatewayClass names us as its controller.
#[must_use]
pub fn is_our_class(class: &Object<GatewayClass>) -> bool {
    class
        .valid()
        .is_some_and(|class| &*class.controller == CONTROLLER_NAME)
}

/// Whose a Gateway is. `classes` are those of [`crate::Facts::classes`].
#[must_use]
pub fn owner(snapshot: &Snapshot, classes: &BTreeSet<Name>, object: &Object<Gateway>) -> Ownership {
    let key = &object.meta.key;
    let Some(gateway) = object.valid() else {
        // Its class could not be read, so it may be anybody's.
        return Ownership::NotOurs;
    };
    match snapshot
        .gateway_classes
        .get(&key.sibling("", gateway.class.clone()))
    {
        Some(class) if !is_our_class(class) => return Ownership::NotOurs,
        Some(class)
            if class
                .valid()
                .is_some_and(|class| class.parameters.is_some()) =>
        {
            return Ownership::Wrong {
                field: FieldPath::parse("spec.gatewayClassName"),
                message: format!(
                    "the GatewayClass {} is not accepted: its spec.parametersRef is not supported; \
                     remove it there, or name another class",
                    gateway.class
                ),
            };
        }
        Some(_) => {}
        None if classes.contains(&gateway.class) => {}
        None => return Ownership::NotOurs,
    }
    let name = match &gateway.parameters {
        None => DEFAULT_INSTANCE.into(),
        Some(to) if &*to.group == GROUP && &*to.kind == "GatewayInstance" => {
            // The Gateway API gives this reference no namespace. A source that lets one through
            // must not lend the Gateway to another namespace's instance.
            if to
                .namespace
                .as_ref()
                .is_some_and(|namespace| *namespace != key.namespace)
            {
                return wrong_parameters("it names a GatewayInstance of another namespace");
            }
            to.name.clone()
        }
        Some(to) => {
            return wrong_parameters(&format!("it names a {} of group {:?}", to.kind, to.group));
        }
    };
    Ownership::Instance(key.sibling(key.namespace.clone(), name))
}

fn wrong_parameters(what: &str) -> Ownership {
    Ownership::Wrong {
        field: FieldPath::parse("spec.infrastructure.parametersRef"),
        message: format!(
            "{what}; name a GatewayInstance (group {GROUP}) of this namespace, or leave the field \
             out for the one named {DEFAULT_INSTANCE}"
        ),
    }
}

/// The names of the classes whose Gateways we serve, sorted.
pub(crate) fn our_classes(snapshot: &Snapshot, classes: &BTreeSet<Name>) -> Vec<String> {
    let there = snapshot.gateway_classes.values();
    let ours = there
        .filter(|class| is_our_class(class))
        .filter(|class| {
            class
                .valid()
                .is_some_and(|class| class.parameters.is_none())
        })
        .map(|class| class.meta.key.name.clone());
    let own = classes.iter().filter(|name| {
        !snapshot
            .gateway_classes
            .keys()
            .any(|key| key.name == **name)
    });
    let all: BTreeSet<Name> = ours.chain(own.cloned()).collect();
    all.iter().map(ToString::to_string).collect()
}

/// The instance's Gateways, by key.
pub(crate) fn gateways_of<'a>(
    snapshot: &'a Snapshot,
    tenant: &Key,
    classes: &BTreeSet<Name>,
) -> Vec<(&'a Object<Gateway>, &'a Gateway)> {
    in_namespace(&snapshot.gateways, tenant)
        .filter(|object| owner(snapshot, classes, object) == Ownership::Instance(tenant.clone()))
        .filter_map(|object| object.valid().map(|gateway| (object, gateway)))
        .collect()
}

/// The objects of a kind in the namespace of this key, by key.
pub(crate) fn in_namespace<'a, T>(
    map: &'a Map<T>,
    tenant: &Key,
) -> impl Iterator<Item = &'a Object<T>> {
    let own = tenant.clone();
    map.range(tenant.sibling(tenant.namespace.clone(), "")..)
        .take_while(move |(key, _)| key.source == own.source && key.namespace == own.namespace)
        .map(|(_, object)| &**object)
}
