//! Short ways to write a model in tests, examples and measurements.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_model::{
    Action, Backend, Cluster, ClusterId, Endpoint, Endpoints, Fixed, HeaderMatch, Health, Host,
    Listener, ListenerKind, Match, Origin, PathMatch, Proxy, QueryMatch, Redirect, RouteEntry,
    RouteId, Table, TableId, Target, Trust, Upstream, ValueMatch, VirtualHost,
};

/// Where an item comes from.
pub fn origin(kind: &str, name: &str) -> Origin {
    Origin {
        kind: kind.into(),
        namespace: "team-a".into(),
        name: name.into(),
        field: "".into(),
    }
}

/// `/foo` is exact, `/foo*` a prefix.
pub fn path(text: &str) -> Match {
    let path = match text.strip_suffix('*') {
        Some(prefix) => PathMatch::Prefix(prefix.into()),
        None => PathMatch::Exact(text.into()),
    };
    Match {
        path,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// Adds a header condition.
pub fn with_header(mut matcher: Match, name: &str, value: &str) -> Match {
    matcher.headers.push(HeaderMatch {
        name: name.into(),
        value: ValueMatch::Exact(value.into()),
    });
    matcher
}

/// Adds a query condition.
pub fn with_query(mut matcher: Match, name: &str, value: &str) -> Match {
    matcher.query.push(QueryMatch {
        name: name.into(),
        value: ValueMatch::Exact(value.into()),
    });
    matcher
}

/// Adds a method condition.
pub fn with_method(mut matcher: Match, method: &str) -> Match {
    matcher.method = Some(method.into());
    matcher
}

/// Everything to one cluster.
pub fn to(cluster: &str) -> Action {
    Action::Forward(vec![share(1, cluster)])
}

/// A share for a cluster.
pub fn share(weight: u32, cluster: &str) -> Backend {
    Backend {
        weight,
        target: Target::Cluster(ClusterId(cluster.into())),
    }
}

/// A share for nowhere.
pub fn broken(weight: u32) -> Backend {
    Backend {
        weight,
        target: Target::Broken("the Service does not exist".into()),
    }
}

/// An answer without backend.
pub fn status(status: u16) -> Action {
    Action::Fixed(Fixed {
        status,
        because: "a test wants it".into(),
    })
}

/// A redirect that changes nothing yet.
pub fn redirect(status: u16) -> Redirect {
    Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status,
    }
}

/// An entry of the route `name`.
pub fn entry(name: &str, matcher: Match, action: Action) -> Arc<RouteEntry> {
    let id = RouteId {
        namespace: "team-a".into(),
        name: name.into(),
        source: 0,
        rule: 0,
        matching: 0,
    };
    Arc::new(RouteEntry {
        precedence: matcher.precedence(0, id),
        matcher,
        action,
        origin: origin("HTTPRoute", name),
    })
}

/// A virtual host, with its entries in order.
pub fn host(host: &str, mut entries: Vec<Arc<RouteEntry>>) -> Arc<VirtualHost> {
    entries.sort_by(|left, right| left.precedence.cmp(&right.precedence));
    Arc::new(VirtualHost {
        host: Host::parse(host),
        entries,
    })
}

/// A table, with its hosts in order.
pub fn table(id: &str, mut hosts: Vec<Arc<VirtualHost>>) -> Arc<Table> {
    hosts.sort_by(|left, right| left.host.cmp(&right.host));
    Arc::new(Table {
        id: TableId(id.into()),
        hosts,
    })
}

/// A plain listener of that table.
pub fn listener(name: &str, port: u16, table: &str, trust: Trust) -> Arc<Listener> {
    Arc::new(Listener {
        name: name.into(),
        port,
        public_port: 80,
        trust,
        kind: ListenerKind::Http {
            table: TableId(table.into()),
        },
        origin: origin("Gateway", name),
    })
}

/// A cluster.
pub fn cluster(id: &str) -> Arc<Cluster> {
    Arc::new(Cluster {
        id: ClusterId(id.into()),
        upstream: Upstream::Http1,
        origin: origin("Service", id),
    })
}

/// Endpoints that are ready.
pub fn endpoints(id: &str, addresses: &[std::net::SocketAddr]) -> Arc<Endpoints> {
    let endpoint = |address: &std::net::SocketAddr| Endpoint {
        address: address.ip(),
        port: address.port(),
        health: Health::Ready,
    };
    Arc::new(Endpoints {
        cluster: ClusterId(id.into()),
        endpoints: addresses.iter().map(endpoint).collect(),
    })
}

/// Sets one item of a proxy's map.
pub fn put<K: Ord + Clone, V>(map: &mut Arc<BTreeMap<K, Arc<V>>>, key: K, value: Arc<V>) {
    Arc::make_mut(map).insert(key, value);
}

/// Sets a table.
pub fn put_table(proxy: &mut Proxy, table: Arc<Table>) {
    put(&mut proxy.tables, table.id.clone(), table);
}

/// Sets a listener.
pub fn put_listener(proxy: &mut Proxy, listener: Arc<Listener>) {
    put(&mut proxy.listeners, listener.name.clone(), listener);
}

/// Sets a cluster with its endpoints.
pub fn put_cluster(proxy: &mut Proxy, id: &str, addresses: &[std::net::SocketAddr]) {
    put(&mut proxy.clusters, ClusterId(id.into()), cluster(id));
    put(
        &mut proxy.endpoints,
        ClusterId(id.into()),
        endpoints(id, addresses),
    );
}
