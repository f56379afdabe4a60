//! The light variant: etcd and an API server on the loopback of the ordinary namespace, as any
//! user. It has no controllers (so no aggregated roles, no garbage collection, no ServiceAccounts
//! made by themselves) and no pods.

use anyhow::{Context as _, Result};

use crate::forward::listen;
use crate::layout::{Layout, State};
use crate::process::Parts;
use crate::progress::Progress;
use crate::start::{Settings, save_identities, start_control_plane, wait_for_api};

/// How often another port is taken because somebody took the first one in between.
const TRIES: u32 = 3;

pub(crate) fn up(layout: &Layout, settings: &Settings, progress: &Progress) -> Result<State> {
    let mut last = None;
    for _ in 0..TRIES {
        match attempt(layout, settings, progress) {
            Ok(state) => return Ok(state),
            Err(error) if format!("{error:#}").contains("address already in use") => {
                progress.stage("the port was taken by somebody else: another one");
                crate::teardown::remove(layout)?;
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.context("no try was made")?)
}

fn attempt(layout: &Layout, settings: &Settings, progress: &Progress) -> Result<State> {
    // An API server cannot be handed a socket: the port is free a moment before it starts.
    let (listener, port) = listen(0)?;
    drop(listener);
    let config = settings.config(layout, port);
    let mut state = settings.state(port);
    layout.create()?;
    layout.save(&state)?;
    save_identities(&config, &[])?;
    let mut parts = Parts::new(layout);
    start_control_plane(&mut parts, &config, None)?;
    state.processes = parts.started().to_vec();
    layout.save(&state)?;
    wait_for_api(&config, &parts)?;
    progress.stage("API server ready");
    Ok(state)
}
