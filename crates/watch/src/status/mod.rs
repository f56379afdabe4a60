//! The status writer: silent unless it is the leader, and where nothing is to be said.
//!
//! It is told what statuses are meant ([`StatusWriter::set`]) and sees, by their digests, what is
//! there. Where the two differ it reads the object, puts our part into what it has just read, and
//! replaces the status under the resource version that it has read: never by apply, since
//! `status.parents` is one atomic list, in which the second writer erases the first.

mod merge;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use postern_refs::status::{Status, Statuses};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::merge::merge;
use self::plan::{Id, Outcome, Plan, Write};
use crate::debounce::Debounce;
use crate::kube::{Discovered, jittered};
use crate::observed::Observed;

/// How many objects are written at once.
const IN_FLIGHT: usize = 8;
/// How often one object is read again because another writer came first.
const CONFLICTS: u32 = 5;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The whole status that is written over that of an object to say this; `None` if it says it already.
/// `now` is RFC 3339.
#[must_use]
pub fn merged(object: &Value, desired: &Status, now: &str) -> Option<Value> {
    merge(object, desired, &[], now)
}

/// What the writer has done, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Statuses that were replaced.
    pub written: u64,
    /// Statuses that turned out to be as they should be.
    pub equal: u64,
    /// Objects that were gone.
    pub gone: u64,
    /// Tries that failed and are done again.
    pub failed: u64,
}

/// Writes statuses until it is dropped.
#[derive(Debug)]
pub struct StatusWriter {
    desired: watch::Sender<Option<Arc<Statuses>>>,
    written: watch::Receiver<Written>,
    task: JoinHandle<()>,
}

impl StatusWriter {
    /// Starts a writer. `kinds` and `observed` come from the source that watches the same objects;
    /// while `leader` is false nothing is written. Needs a tokio runtime.
    #[must_use]
    pub fn spawn(
        client: Client,
        kinds: watch::Receiver<Arc<Discovered>>,
        observed: Arc<Observed>,
        leader: watch::Receiver<bool>,
    ) -> StatusWriter {
        let (desired, desired_in) = watch::channel(None);
        let (written, written_out) = watch::channel(Written::default());
        let writer = Writer {
            client,
            kinds,
            observed,
            leader,
            desired: desired_in,
            written,
        };
        StatusWriter {
            desired,
            written: written_out,
            task: tokio::spawn(writer.run()),
        }
    }

    /// Says which statuses are meant. Objects that do not exist are passed over. A route that is
    /// left out keeps no entry of ours; a Gateway that is left out is left as it is.
    pub fn set(&self, statuses: Arc<Statuses>) {
        self.desired.send_replace(Some(statuses));
    }

    /// What was done so far.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Written> {
        self.written.clone()
    }
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Writer {
    client: Client,
    kinds: watch::Receiver<Arc<Discovered>>,
    observed: Arc<Observed>,
    leader: watch::Receiver<bool>,
    desired: watch::Receiver<Option<Arc<Statuses>>>,
    written: watch::Sender<Written>,
}

impl Writer {
    async fn run(mut self) {
        let mut plan = Plan::new();
        let mut changes = self.observed.changes();
        let mut debounce = Debounce::new(Duration::from_millis(20), Duration::from_millis(200));
        let mut queue: Vec<Id> = Vec::new();
        let mut flying = FuturesUnordered::new();
        let mut leading = false;
        debounce.touch(Instant::now());
        let mut later: Option<Instant> = None;
        loop {
            while leading && flying.len() < IN_FLIGHT {
                let Some(id) = queue.pop() else { break };
                let seen = self.observed.get(id.0, &id.1);
                let resource = self.kinds.borrow().resources.get(&id.0).cloned();
                // A kind that is not served has no objects; its watch says so soon.
                let Some(resource) = resource else { continue };
                if let Some(write) = plan.begin(id, seen) {
                    flying.push(carry_out(self.client.clone(), resource, write));
                }
            }
            let alarm = later.map(tokio::time::Instant::from_std);
            tokio::select! {
                wanted = self.desired.changed() => {
                    if wanted.is_err() {
                        return;
                    }
                    let wanted = self.desired.borrow_and_update().clone();
                    if let Some(wanted) = wanted {
                        plan.want(wanted);
                        debounce.touch(Instant::now());
                    }
                }
                led = led(&mut self.leader, !leading) => {
                    // Nothing will say any more who leads: the program ends.
                    let Some(now) = led else { return };
                    leading = now;
                    if leading {
                        plan.doubt();
                        debounce.touch(Instant::now());
                    } else {
                        queue.clear();
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    debounce.touch(Instant::now());
                }
                Some((write, result)) = flying.next() => self.landed(&mut plan, &write, &result),
                () = debounce.settled() => {}
                () = tokio::time::sleep_until(alarm.unwrap_or_else(tokio::time::Instant::now)), if alarm.is_some() => {
                    later = None;
                    debounce.touch(Instant::now());
                    continue;
                }
            }
            if leading && debounce.due().is_none() && queue.is_empty() {
                let due = self
                    .observed
                    .read(|digests| plan.due(digests, Instant::now()));
                queue = due.0;
                // The first is taken from the end.
                queue.reverse();
                later = due.1;
            }
        }
    }

    fn landed(&self, plan: &mut Plan, write: &Write, result: &Result<Done, kube::Error>) {
        let (kind, key) = &write.id;
        let outcome = match result {
            Ok(done) => {
                tracing::debug!(kind = kind.name(), %key, ?done, "status");
                Outcome::Settled
            }
            Err(error) => {
                tracing::warn!(kind = kind.name(), %key, %error, "the status cannot be written; it is tried again");
                Outcome::Failed
            }
        };
        plan.end(write, outcome, Instant::now());
        self.written.send_modify(|count| match result {
            Ok(Done::Written) => count.written += 1,
            Ok(Done::Equal) => count.equal += 1,
            Ok(Done::Gone) => count.gone += 1,
            Err(_) => count.failed += 1,
        });
    }
}

/// Waits until leading is this; `None` if it never will be known again.
async fn led(leader: &mut watch::Receiver<bool>, awaited: bool) -> Option<bool> {
    leader
        .wait_for(|now| *now == awaited)
        .await
        .ok()
        .map(|now| *now)
}

#[derive(Debug)]
enum Done {
    Written,
    Equal,
    Gone,
}

async fn carry_out(
    client: Client,
    resource: ApiResource,
    write: Write,
) -> (Write, Result<Done, kube::Error>) {
    let result = tokio::time::timeout(PATIENCE, write_status(client, &resource, &write)).await;
    let result = result.unwrap_or_else(|elapsed| Err(kube::Error::Service(Box::new(elapsed))));
    (write, result)
}

async fn write_status(
    client: Client,
    resource: &ApiResource,
    write: &Write,
) -> Result<Done, kube::Error> {
    let (_, key) = &write.id;
    let api: Api<DynamicObject> = if key.namespace.is_empty() {
        Api::all_with(client, resource)
    } else {
        Api::namespaced_with(client, &key.namespace, resource)
    };
    let mut conflicts = 0;
    loop {
        let Some(mut object) = api.get_opt(&key.name).await? else {
            return Ok(Done::Gone);
        };
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Some(status) = merge(&object.data, &write.desired, &write.withdrawn, &now) else {
            return Ok(Done::Equal);
        };
        if let Value::Object(fields) = &mut object.data {
            fields.insert("status".into(), status);
        }
        match api
            .replace_status(&key.name, &PostParams::default(), &object)
            .await
        {
            Ok(_) => return Ok(Done::Written),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Done::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 && conflicts < CONFLICTS => {
                conflicts += 1;
                tokio::time::sleep(jittered(Duration::from_millis(20 * u64::from(conflicts))))
                    .await;
            }
            Err(error) => return Err(error),
        }
    }
}
