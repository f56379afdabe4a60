//! `cargo xtask run` and `stop` with `CLUSTER=current`: two teams on somebody's cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use postern_e2e::current::{self, Context, Delivery, Removed};
use postern_e2e::demo::Install;

/// Leaves two teams served on the cluster of the current context.
pub fn run(
    images: Option<&str>,
    install: Install,
    profile: &str,
    tell: &dyn Fn(&str),
) -> Result<ExitCode> {
    let delivery: Delivery = images
        .context(
            "CLUSTER=current needs IMAGES, which says how the images that are built here come to its nodes: \
             IMAGES=push:REGISTRY, or IMAGES='load:COMMAND' as `kind load image-archive`",
        )?
        .parse()?;
    let context = Context::current()?;
    if install == Install::Olm {
        bail!("{}", current::about_olm(&context)?);
    }
    println!(
        "Two teams that each have their own gateway, on the cluster of the current kubeconfig context:\n\n    {}\n\n\
         Images are built here (about ten minutes the first time) and {}. Then the operator is installed from\n\
         config/, with definitions and roles for the whole cluster, and the namespaces {} are made:\n\
         one or two minutes. What is there already is not touched. `make stop CLUSTER=current` removes it all.\n",
        context.about(),
        delivery.about(),
        current::namespaces().join(", "),
    );
    current::up(&context, &delivery, profile, tell)?;
    tell("two teams are served; try:");
    for (about, line) in current::lines(&context)? {
        println!("\n# {about}\n{line}");
    }
    println!("\nTo undo it: make stop CLUSTER=current");
    Ok(ExitCode::SUCCESS)
}

/// Removes what [`run`] made.
pub fn stop() -> Result<ExitCode> {
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let context = Context::current()?;
    println!(
        "Removes from {} what `make run CLUSTER=current` made there (up to a minute).",
        context.about()
    );
    println!(
        "{}",
        match current::stop(&context, &tell)? {
            Removed::Nothing => "Nothing of it is there.",
            Removed::All => "Nothing of it is left.",
            Removed::ButGatewayApi => "Nothing else of it is left.",
        }
    );
    Ok(ExitCode::SUCCESS)
}
