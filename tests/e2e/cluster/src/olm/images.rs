//! Images around OLM: its own tools, with which it unpacks bundles, and catalogs, which these tools serve.

use std::path::Path;

use anyhow::Result;

use super::programs::OlmPrograms;
use crate::image::{Entry, ImageConfig, oci_archive};

/// OLM's image of `opm`, and that of its utilities.
pub(super) const TOOLS_IMAGE: &str = "postern.test/olm-tools:dev";
/// Where a catalog lies in its image.
const CATALOG: &str = "/configs";

impl OlmPrograms {
    /// Writes the archive of the image of OLM's tools.
    pub(super) fn tools_image(&self, archive: &Path) -> Result<()> {
        let config = ImageConfig {
            // Pods name the programs without a folder.
            env: vec!["PATH=/bin".to_owned()],
            ..ImageConfig::default()
        };
        oci_archive(archive, TOOLS_IMAGE, &[self.tools()], &config)
    }

    fn tools(&self) -> Vec<Entry> {
        let program = |inside: &str, name: &str| {
            Entry::File(Path::new("/bin").join(inside), self.program(name), 0o755)
        };
        vec![
            program("opm", "opm"),
            program("cpb", "cpb"),
            program("cp", "cp"),
            program("grpc_health_probe", "grpc-health-probe"),
            Entry::Dir("/tmp".into(), 0o1777),
        ]
    }

    /// Writes the archive of a catalog's image, as `opm generate dockerfile` describes it, but for a cache
    /// that is made beforehand: a folder with the catalog, served by `opm`.
    ///
    /// # Errors
    /// Where something cannot be read or written.
    pub fn catalog_image(&self, catalog: &Path, archive: &Path) -> Result<()> {
        let label = "operators.operatorframework.io.index.configs.v1";
        let config = ImageConfig {
            entrypoint: [
                "/bin/opm",
                "serve",
                CATALOG,
                "--cache-dir=/tmp/cache",
                // There is none in the image: it is made when it is served.
                "--cache-enforce-integrity=false",
            ]
            .map(str::to_owned)
            .to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            labels: vec![(label.to_owned(), CATALOG.to_owned())],
            ..ImageConfig::default()
        };
        let layers = [
            self.tools(),
            vec![Entry::Tree(CATALOG.into(), catalog.into())],
        ];
        oci_archive(archive, "postern.test/catalog:dev", &layers, &config)
    }
}
