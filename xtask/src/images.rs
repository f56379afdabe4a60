//! `cargo xtask images`: our container images, as archives.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use postern_e2e::images;

/// Container images of operator, control plane, proxy and echo, as OCI archives.
#[derive(Args)]
pub struct ImagesArgs {
    /// Where the archives go [default: the folder `images` of the cache].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The profile that cargo builds the programs with.
    #[arg(long, default_value = "release", value_name = "PROFILE")]
    profile: String,
}

/// Builds what changed, and names the archives.
pub fn run(arguments: &ImagesArgs) -> Result<ExitCode> {
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => images::default_dir()?,
    };
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    println!(
        "Four images: programs are built with profile {} (the first time takes minutes), the base is assembled \
         from Debian's packages (3 MB). What did not change is not built again.",
        arguments.profile
    );
    let images = images::build(&out, &arguments.profile, &tell)?;
    for archive in images.all() {
        println!("{}", archive.display());
    }
    Ok(ExitCode::SUCCESS)
}
