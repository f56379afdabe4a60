//! `operator-sdk scorecard` on a cluster: it runs its tests of a bundle as pods there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::programs::ScorecardPrograms;
use crate::image::{Entry, ImageConfig, oci_archive};
use crate::start::must;
use crate::{Cluster, node};

/// The image of scorecard's own tests, as a bundle's scorecard configuration names it.
pub const SCORECARD_IMAGE: &str = "quay.io/operator-framework/scorecard-test:v1.42.3";
/// The image that unpacks the bundle in a test's pod.
const UNTAR_IMAGE: &str = "postern.test/untar:dev";
/// A user that is not root, as the restricted profile asks.
const SOMEBODY: &str = "65532";

impl Cluster {
    /// Runs the suites `basic` and `olm` of a bundle (a folder with `tests/scorecard/config.yaml`) in a
    /// namespace that is there, and returns what they found: a list of tests, each with
    /// `status.results`.
    ///
    /// # Errors
    /// Where its programs do not build, or it cannot run; a test that fails is no error.
    pub fn scorecard(&self, bundle: &Path, namespace: &str) -> Result<Value> {
        self.full("pods")?;
        let programs = ScorecardPrograms::built()?;
        for (file, name, program, inside) in [
            (
                "scorecard-test.tar",
                SCORECARD_IMAGE,
                "scorecard-test",
                "/usr/bin/scorecard-test",
            ),
            ("untar.tar", UNTAR_IMAGE, "untar", "/usr/bin/tar"),
        ] {
            let archive = self.layout.at("images").join(file);
            let layer = vec![Entry::File(inside.into(), programs.program(program), 0o755)];
            let config = ImageConfig {
                // Pods name the programs without a folder.
                env: vec!["PATH=/usr/bin".to_owned()],
                user: SOMEBODY.to_owned(),
                ..ImageConfig::default()
            };
            oci_archive(&archive, name, &[layer], &config)?;
            node::load_image(&self.layout, &self.binaries, &archive)?;
        }
        let sdk = programs.program("operator-sdk").display().to_string();
        let output = self
            .command(&sdk)
            .arg("scorecard")
            .arg(bundle)
            .args(["--namespace", namespace, "--untar-image", UNTAR_IMAGE])
            .args(["--pod-security", "restricted", "--wait-time", "120s"])
            .args(["--output", "json"])
            .env("HOME", self.layout.at("run"))
            .output()
            .context("cannot run operator-sdk")?;
        // It ends with an error where a test fails too: then it has printed what.
        if let Ok(found) = serde_json::from_slice(&output.stdout) {
            return Ok(found);
        }
        must("operator-sdk scorecard", output)?;
        bail!("operator-sdk scorecard printed no JSON")
    }
}
