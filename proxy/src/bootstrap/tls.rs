//! The TLS side of the connection to the control plane.
//!
//! Certificates come by SDS from files, which in turn name the files of the mounted Secret, so
//! that a rotated Secret is taken up without a restart. Envoy watches the *directory* for moves:
//! a Secret volume changes by one rename of its `..data` link, and other writers must rename too.

use std::path::Path;

use serde::Serialize;

use super::{ApiVersion, ConfigSource, ConfigSourceSpecifier, PathSource, SecretPaths};
use crate::identity::Identity;

const CERTIFICATE: &str = "xds-certificate";
const VALIDATION: &str = "xds-validation";

/// `UpstreamTlsContext` in its transport socket.
#[derive(Clone, Debug, Serialize)]
pub struct TlsContext {
    name: &'static str,
    typed_config: Context,
}

#[derive(Clone, Debug, Serialize)]
struct Context {
    #[serde(rename = "@type")]
    type_url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    common_tls_context: Common,
}

#[derive(Clone, Debug, Serialize)]
struct Common {
    tls_params: Params,
    alpn_protocols: [&'static str; 1],
    tls_certificate_sds_secret_configs: [SdsConfig; 1],
    validation_context_sds_secret_config: SdsConfig,
}

#[derive(Clone, Debug, Serialize)]
struct Params {
    tls_minimum_protocol_version: &'static str,
    tls_maximum_protocol_version: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct SdsConfig {
    name: &'static str,
    sds_config: ConfigSource,
}

impl SdsConfig {
    fn new(name: &'static str, path: &Path) -> Self {
        Self {
            name,
            sds_config: ConfigSource {
                specifier: ConfigSourceSpecifier::PathConfigSource(PathSource {
                    path: path.to_string_lossy().into_owned(),
                }),
                resource_api_version: ApiVersion::V3,
                initial_fetch_timeout: None,
            },
        }
    }
}

impl TlsContext {
    pub(super) fn new(secrets: SecretPaths<'_>, server_name: Option<&str>) -> Self {
        Self {
            name: "envoy.transport_sockets.tls",
            typed_config: Context {
                type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                sni: server_name.map(str::to_owned),
                common_tls_context: Common {
                    tls_params: Params {
                        tls_minimum_protocol_version: "TLSv1_3",
                        tls_maximum_protocol_version: "TLSv1_3",
                    },
                    alpn_protocols: ["h2"],
                    tls_certificate_sds_secret_configs: [SdsConfig::new(
                        CERTIFICATE,
                        secrets.certificate,
                    )],
                    validation_context_sds_secret_config: SdsConfig::new(
                        VALIDATION,
                        secrets.validation,
                    ),
                },
            },
        }
    }
}

/// The two SDS files, each a `DiscoveryResponse` with one `Secret`.
#[derive(Clone, Debug)]
pub struct SecretFiles {
    /// Our certificate and key.
    pub certificate: SecretFile,
    /// The authority to believe, and the identity that the server must have.
    pub validation: SecretFile,
}

/// One SDS file.
#[derive(Clone, Debug, Serialize)]
pub struct SecretFile {
    resources: [Secret; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Secret {
    #[serde(rename = "@type")]
    type_url: &'static str,
    name: &'static str,
    #[serde(flatten)]
    kind: SecretKind,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum SecretKind {
    TlsCertificate {
        certificate_chain: DataSource,
        private_key: DataSource,
        watched_directory: PathSource,
    },
    ValidationContext {
        trusted_ca: DataSource,
        watched_directory: PathSource,
        match_typed_subject_alt_names: [SanMatcher; 1],
    },
}

#[derive(Clone, Debug, Serialize)]
struct DataSource {
    filename: String,
}

#[derive(Clone, Debug, Serialize)]
struct SanMatcher {
    san_type: &'static str,
    matcher: Exact,
}

#[derive(Clone, Debug, Serialize)]
struct Exact {
    exact: String,
}

impl SecretFiles {
    /// Names `tls.crt`, `tls.key` and `ca.crt` in `tls_dir`, which must be absolute; the server
    /// must be the control plane of `identity`'s instance, and no other holder of a certificate
    /// of the same authority, such as another Envoy.
    pub fn new(tls_dir: &Path, identity: &Identity) -> Self {
        let source = |name: &str| DataSource {
            filename: tls_dir.join(name).to_string_lossy().into_owned(),
        };
        let watched = || PathSource {
            path: tls_dir.to_string_lossy().into_owned(),
        };
        let secret = |name, kind| SecretFile {
            resources: [Secret {
                type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                name,
                kind,
            }],
        };
        Self {
            certificate: secret(
                CERTIFICATE,
                SecretKind::TlsCertificate {
                    certificate_chain: source("tls.crt"),
                    private_key: source("tls.key"),
                    watched_directory: watched(),
                },
            ),
            validation: secret(
                VALIDATION,
                SecretKind::ValidationContext {
                    trusted_ca: source("ca.crt"),
                    watched_directory: watched(),
                    match_typed_subject_alt_names: [SanMatcher {
                        san_type: "URI",
                        matcher: Exact {
                            exact: identity.control_plane(),
                        },
                    }],
                },
            ),
        }
    }
}

impl SecretFile {
    /// The JSON that Envoy reads.
    ///
    /// # Errors
    ///
    /// None that a value of this type can cause.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }
}
