//! Whether an object of the cluster says what was stamped, and nothing more.
//!
//! An API server fills in defaults, so what comes back is never what was written. Yet what *else*
//! is there matters: a foreign container, argument or variable in our pod template is drift. So
//! [`same`] is careful: it answers yes only if everything that was stamped is there and
//! everything else is a default of the API that it knows by name and value. Any other answer is
//! "unsure", and the caller asks the API server itself, by a dry run, what the stamped object
//! would become ([`equal`]).

use serde_json::{Map, Value, json};

/// Fields that an API server adds, with the value that it adds. Wherever one of them stands, that
/// value is what its absence means.
const DEFAULTS: &[(&str, &str)] = &[
    ("apiVersion", r#""v1""#),
    ("defaultMode", "420"),
    ("divisor", r#""0""#),
    ("dnsPolicy", r#""ClusterFirst""#),
    ("externalTrafficPolicy", r#""Cluster""#),
    ("failureThreshold", "3"),
    ("imagePullPolicy", r#""IfNotPresent""#),
    ("internalTrafficPolicy", r#""Cluster""#),
    ("mode", r#""Terminate""#),
    ("periodSeconds", "10"),
    ("progressDeadlineSeconds", "600"),
    ("protocol", r#""TCP""#),
    ("restartPolicy", r#""Always""#),
    ("revisionHistoryLimit", "10"),
    ("schedulerName", r#""default-scheduler""#),
    ("scheme", r#""HTTP""#),
    ("securityContext", "{}"),
    ("sessionAffinity", r#""None""#),
    ("successThreshold", "1"),
    ("terminationGracePeriodSeconds", "30"),
    ("terminationMessagePath", r#""/dev/termination-log""#),
    ("terminationMessagePolicy", r#""File""#),
    ("timeoutSeconds", "1"),
    ("wildcardPolicy", r#""None""#),
];

/// Fields that an API server allocates or derives for Services.
const ALLOCATED: &[&str] = &[
    "clusterIP",
    "clusterIPs",
    "healthCheckNodePort",
    "ipFamilies",
    "ipFamilyPolicy",
    "nodePort",
];

/// What an object says: everything but what identifies it and what others report about it. The
/// tokens and pull secrets of a ServiceAccount are the platform's.
#[must_use]
pub fn content(kind: &str, object: &Map<String, Value>) -> Map<String, Value> {
    object
        .iter()
        .filter(|(key, _)| is_content(kind, key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether a field of the top level is one that we stamp.
#[must_use]
pub fn is_content(kind: &str, key: &str) -> bool {
    let platform = kind == "ServiceAccount" && matches!(key, "secrets" | "imagePullSecrets");
    !matches!(key, "apiVersion" | "kind" | "metadata" | "status") && !platform
}

/// Whether `live` says what `desired` says and nothing more, but for known defaults. If not
/// sure: the first field in doubt.
///
/// # Errors
/// The path of the first field that differs or is not known to be a default.
pub fn same(desired: &Map<String, Value>, live: &Map<String, Value>) -> Result<(), String> {
    same_map(desired, live, "")
}

fn same_map(
    desired: &Map<String, Value>,
    live: &Map<String, Value>,
    path: &str,
) -> Result<(), String> {
    for (key, value) in desired {
        let at = || format!("{path}.{key}");
        match live.get(key) {
            Some(there) => same_value(value, there, &at())?,
            None if is_nothing(value) => {}
            None => return Err(at()),
        }
    }
    let unknown = live.iter().find(|(key, value)| {
        let twin = || {
            // The deprecated twin of a field.
            *key == "serviceAccount" && desired.get("serviceAccountName") == Some(value)
        };
        !desired.contains_key(*key) && !is_nothing(value) && !is_default(key, value) && !twin()
    });
    match unknown {
        Some((key, _)) => Err(format!("{path}.{key}")),
        None => Ok(()),
    }
}

fn same_value(desired: &Value, live: &Value, path: &str) -> Result<(), String> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => same_map(desired, live, path),
        (Value::Array(desired), Value::Array(live)) => {
            if desired.len() != live.len() {
                return Err(path.to_owned());
            }
            let pairs = desired.iter().zip(live).enumerate();
            for (index, (desired, live)) in pairs {
                same_value(desired, live, &format!("{path}[{index}]"))?;
            }
            Ok(())
        }
        (desired, live) if desired == live => Ok(()),
        (desired, live) if is_nothing(desired) && is_nothing(live) => Ok(()),
        _ => Err(path.to_owned()),
    }
}

/// Null and the empty list mean the same as no field. An empty *object* does not: an empty
/// selector selects everything.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    if ALLOCATED.contains(&key) {
        return true;
    }
    let of_key = DEFAULTS.iter().filter(|(name, _)| *name == key);
    of_key.map(|(_, default)| *default).any(|default| {
        serde_json::from_str::<Value>(default).is_ok_and(|default| default == *value)
    })
}

/// Whether two objects that an API server completed say the same.
#[must_use]
pub fn equal(kind: &str, left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    content(kind, left) == content(kind, right)
}

/// The annotation by which `kubectl rollout restart` asks for new pods. It says nothing else, so
/// one that somebody set is kept: taking it away would undo the restart.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Takes over into `desired` what others may rightly have set in `live`.
pub fn keep_allowed(kind: &str, desired: &mut Map<String, Value>, live: &Map<String, Value>) {
    if kind != "Deployment" {
        return;
    }
    let restarted = live
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/annotations"))
        .and_then(|annotations| annotations.get(RESTARTED))
        .and_then(Value::as_str)
        .filter(|time| time.len() <= 64)
        .map(str::to_owned);
    let metadata = desired
        .get_mut("spec")
        .and_then(|spec| spec.pointer_mut("/template/metadata"))
        .and_then(Value::as_object_mut);
    if let (Some(time), Some(metadata)) = (restarted, metadata) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(RESTARTED.to_owned(), Value::String(time));
        }
    }
}

#[cfg(test)]
mod tests;
