//! A small Lease holder: who of several replicas may write.
//!
//! The Lease is created by apply without force under the holder's own field manager, and after that
//! only replaced with its resource version. (Two replicas that apply under one manager steal from
//! each other; `kube-lease-manager`, the ready-made crate that was looked at, writes every change by
//! apply.) Whether another's Lease has run out is measured by this process' own clock, from when it
//! saw the Lease change last: clocks of nodes do not agree.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::kube::jittered;

/// How long a Lease lasts. `duration` > `deadline` > `retry`, so that a holder that cannot renew
/// stops before another begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Others take it after this time without a renewal.
    pub duration: Duration,
    /// The holder stops after this time without a renewal.
    pub deadline: Duration,
    /// It is renewed, or looked at, this often.
    pub retry: Duration,
}

impl Timing {
    /// 137, 107 and 26 seconds, as OpenShift asks: one write in 26 s, and no loss of leadership
    /// while an API server restarts.
    pub const OPENSHIFT: Timing = Timing {
        duration: Duration::from_secs(137),
        deadline: Duration::from_secs(107),
        retry: Duration::from_secs(26),
    };

    /// Reads three numbers of seconds, as a command line gives them: duration, deadline, retry; `None`
    /// unless each is greater than the next.
    #[must_use]
    pub fn of_seconds(seconds: &[u64]) -> Option<Timing> {
        match *seconds {
            [duration, deadline, retry] if duration > deadline && deadline > retry && retry > 0 => {
                Some(Timing {
                    duration: Duration::from_secs(duration),
                    deadline: Duration::from_secs(deadline),
                    retry: Duration::from_secs(retry),
                })
            }
            _ => None,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing::OPENSHIFT
    }
}

/// What is to be done about the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    /// It is free, or has run out.
    Take,
    Renew,
    /// Another holds it.
    Wait(Duration),
}

/// What of a Lease shows that its holder lives.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sign {
    holder: String,
    renewed: Option<Timestamp>,
    transitions: i32,
}

/// The rules, without clock and network.
#[derive(Debug)]
struct Machine {
    identity: String,
    timing: Timing,
    /// Another's last sign of life, and when it was seen first.
    sign: Option<(Sign, Instant)>,
    /// Until when this one leads, unless it renews.
    leads_until: Option<Instant>,
}

impl Machine {
    fn new(identity: &str, timing: Timing) -> Machine {
        Machine {
            identity: identity.into(),
            timing,
            sign: None,
            leads_until: None,
        }
    }

    fn decide(&mut self, lease: Option<&Lease>, now: Instant) -> Action {
        let Some(spec) = lease.map(|lease| lease.spec.clone().unwrap_or_default()) else {
            return Action::Create;
        };
        let holder = spec.holder_identity.unwrap_or_default();
        if holder == self.identity {
            self.sign = None;
            return Action::Renew;
        }
        // Whatever this one believed: it is another's.
        self.leads_until = None;
        if holder.is_empty() {
            return Action::Take;
        }
        let sign = Sign {
            holder,
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or(0),
        };
        let since = match &self.sign {
            Some((last, since)) if *last == sign => *since,
            _ => {
                self.sign = Some((sign, now));
                now
            }
        };
        let lasts = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.timing.duration, Duration::from_secs);
        match (since + lasts)
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
        {
            None => Action::Take,
            Some(left) => Action::Wait(left.min(self.timing.retry)),
        }
    }

    /// The Lease was written; the request was sent at `sent`.
    fn written(&mut self, sent: Instant) {
        self.sign = None;
        self.leads_until = Some(sent + self.timing.deadline);
    }

    fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| until > now)
    }

    /// The Lease as this one writes it: `last` is as it was read.
    fn lease(&self, last: Option<&Lease>, metadata: &ObjectMeta, now: Timestamp) -> Lease {
        let spec = last
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let mine = spec.holder_identity.as_deref() == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: last.map_or_else(|| metadata.clone(), |lease| lease.metadata.clone()),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(
                    i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX),
                ),
                acquire_time: if mine {
                    spec.acquire_time
                } else {
                    Some(MicroTime(now))
                },
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(transitions + i32::from(last.is_some() && !mine)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// One of several that hold a Lease by turns, until this is dropped. Dropped without
/// [`LeaseHolder::release`], the Lease runs out by itself.
#[derive(Debug)]
pub struct LeaseHolder {
    leader: watch::Receiver<bool>,
    release: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl LeaseHolder {
    /// Joins in. `metadata` has name and namespace, and what else the Lease is created with (labels,
    /// an owner); `identity` is the pod's own name, and its field manager. Needs a tokio runtime.
    #[must_use]
    pub fn spawn(
        client: Client,
        metadata: ObjectMeta,
        identity: &str,
        timing: Timing,
    ) -> LeaseHolder {
        let (leader, leader_out) = watch::channel(false);
        let (release, released) = oneshot::channel();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let holder = Holder {
            api: Api::namespaced(client, &namespace),
            metadata,
            machine: Machine::new(identity, timing),
            leader,
        };
        LeaseHolder {
            leader: leader_out,
            release: Some(release),
            task: tokio::spawn(holder.run(released)),
        }
    }

    /// Whether this one leads. It is false before the Lease could be another's.
    #[must_use]
    pub fn leader(&self) -> watch::Receiver<bool> {
        self.leader.clone()
    }

    /// Stops leading and lets the Lease go, so that another need not wait. For a program's end.
    pub async fn release(mut self) {
        if let Some(release) = self.release.take() {
            // Either fails only if the task has ended already.
            let _ = release.send(());
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for LeaseHolder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Holder {
    api: Api<Lease>,
    metadata: ObjectMeta,
    machine: Machine,
    leader: watch::Sender<bool>,
}

impl Holder {
    async fn run(mut self, mut released: oneshot::Receiver<()>) {
        loop {
            let wait = tokio::select! {
                wait = self.turn() => wait,
                gone = &mut released => return self.let_go(gone.is_ok()).await,
            };
            self.tell();
            let next = tokio::time::Instant::now() + wait;
            loop {
                // It stops leading when its time is over, not when it looks next.
                let leads_until = self.machine.leads_until.filter(|_| *self.leader.borrow());
                let alarm = leads_until.map_or(next, |until| next.min(until.into()));
                tokio::select! {
                    () = tokio::time::sleep_until(alarm) => {}
                    gone = &mut released => return self.let_go(gone.is_ok()).await,
                }
                self.tell();
                if tokio::time::Instant::now() >= next {
                    break;
                }
            }
        }
    }

    fn tell(&self) {
        let leads = self.machine.leads(Instant::now());
        self.leader
            .send_if_modified(|last| std::mem::replace(last, leads) != leads);
    }

    /// Looks at the Lease and does what is to be done. Says when to look again.
    async fn turn(&mut self) -> Duration {
        let timing = self.machine.timing;
        let patience = timing.retry.min(Duration::from_secs(10));
        // While it leads, a request must not outlast its time.
        let result = tokio::time::timeout(patience, self.look()).await;
        match result {
            Ok(Ok(Some(wait))) => wait,
            Ok(Ok(None)) => timing.retry,
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer in time".into(),
                };
                tracing::warn!(why, "the Lease cannot be looked at or written");
                jittered((timing.retry / 8).max(Duration::from_millis(50)))
            }
        }
    }

    async fn look(&mut self) -> Result<Option<Duration>, kube::Error> {
        let name = self.metadata.name.clone().unwrap_or_default();
        let lease = self.api.get_opt(&name).await?;
        let sent = Instant::now();
        let action = self.machine.decide(lease.as_ref(), sent);
        let new = self
            .machine
            .lease(lease.as_ref(), &self.metadata, Timestamp::now());
        let identity = &self.machine.identity;
        let result = match action {
            Action::Wait(wait) => return Ok(Some(wait)),
            Action::Create => {
                let params = PatchParams {
                    force: false,
                    ..PatchParams::apply(identity)
                };
                self.api.patch(&name, &params, &Patch::Apply(&new)).await
            }
            Action::Take | Action::Renew => {
                let params = PostParams {
                    field_manager: Some(identity.clone()),
                    ..PostParams::default()
                };
                self.api.replace(&name, &params, &new).await
            }
        };
        match result {
            Ok(now) => {
                // An apply may have met another's: what came back says whose it is.
                let holder = now.spec.and_then(|spec| spec.holder_identity);
                if holder.as_deref() == Some(&self.machine.identity) {
                    if action != Action::Renew {
                        tracing::info!(name, identity = self.machine.identity, "holds the Lease");
                    }
                    self.machine.written(sent);
                }
                Ok(None)
            }
            // Another came first: look again.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Some(jittered(Duration::from_millis(200))))
            }
            Err(error) => Err(error),
        }
    }

    async fn let_go(mut self, asked: bool) {
        let led = self.machine.leads(Instant::now());
        self.machine.leads_until = None;
        self.tell();
        if !asked || !led {
            return;
        }
        let patience = Duration::from_secs(5);
        if let Ok(Err(error)) = tokio::time::timeout(patience, self.empty()).await {
            tracing::warn!(%error, "the Lease is not let go; it runs out by itself");
        }
    }

    async fn empty(&self) -> Result<(), kube::Error> {
        let name = self.metadata.name.clone().unwrap_or_default();
        let Some(mut lease) = self.api.get_opt(&name).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.machine.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        let params = PostParams {
            field_manager: Some(self.machine.identity.clone()),
            ..PostParams::default()
        };
        self.api.replace(&name, &params, &lease).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
