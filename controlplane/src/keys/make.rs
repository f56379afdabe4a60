//! Making authorities and certificates: ECDSA on P-256, random serial numbers.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use super::lifetimes::Lifetimes;
use super::material::{Authority, Key, Leaf, Usage, Wanted, hex, provider};
use super::subject::Subject;

/// The latest second that a certificate may name: the end of 9999 (RFC 5280, section 4.1.2.5).
const LATEST: u64 = 253_402_300_799;

/// Why nothing could be made. None of it depends on what the store holds.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The system has no random numbers to give.
    #[error("the system gives no random numbers")]
    Random,
    /// The certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The authority has no key, or one that does not work.
    #[error("the authority cannot sign")]
    NoKey,
}

/// A new authority, valid from now on (and a bit before).
pub(super) fn authority(
    subject: &Subject,
    now: u64,
    lifetimes: &Lifetimes,
) -> Result<Authority, MakeError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let serial = serial()?;
    let (not_before, not_after) = validity(now, lifetimes.authority, u64::MAX, lifetimes);

    let mut params = parameters(not_before, not_after, &serial);
    let name = subject.common_name(&serial);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri(&subject.authority_uri())?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&pair)?.pem();
    Ok(Authority {
        certificate: certificate.into(),
        key: Some(Key::new(&pair.serialize_pem())),
        serial: hex(&serial),
        not_before,
        not_after,
        published: None,
        retired: None,
    })
}

/// When a certificate that this authority signs now would end.
pub(super) fn end(issuer: &Authority, now: u64, lifetimes: &Lifetimes) -> u64 {
    validity(now, lifetimes.leaf, issuer.not_after, lifetimes).1
}

/// A new certificate, for a new key or for the one that is given.
pub(super) fn leaf(
    wanted: &Wanted,
    issuer: &Authority,
    key: Option<&Key>,
    now: u64,
    lifetimes: &Lifetimes,
) -> Result<Leaf, MakeError> {
    let issuer_key = issuer.key.as_ref().ok_or(MakeError::NoKey)?;
    let issuer_pair = issuer_key.pair().map_err(|_| MakeError::NoKey)?;
    let signer = Issuer::from_ca_cert_pem(&issuer.certificate, issuer_pair)?;
    let pair = match key.map(Key::pair) {
        Some(Ok(pair)) => pair,
        _ => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    };
    let (not_before, not_after) = validity(now, lifetimes.leaf, issuer.not_after, lifetimes);

    let mut params = parameters(not_before, not_after, &serial()?);
    let role = match wanted.usage {
        Usage::Server => "controlplane",
        Usage::Envoy => "envoy",
    };
    params.distinguished_name.push(DnType::CommonName, role);
    params.subject_alt_names = vec![uri(&wanted.uri)?];
    for name in &wanted.dns {
        let name = SanType::DnsName(name.as_str().try_into()?);
        params.subject_alt_names.push(name);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Envoys are servers too, to routers that speak TLS to them. That none poses as the control plane
    // is the URI's doing: Envoys ask their xDS server for one.
    params.extended_key_usages = match wanted.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Envoy => vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ],
    };
    let certificate = params.signed_by(&pair, &signer)?.pem();
    Ok(Leaf {
        certificate: certificate.into(),
        key: Key::new(&pair.serialize_pem()),
        trust: issuer.certificate.clone(),
        not_before,
        not_after,
    })
}

/// Beginning and end, in seconds since 1970; the end is not after the authority's.
fn validity(now: u64, life: Duration, latest: u64, lifetimes: &Lifetimes) -> (u64, u64) {
    let end = now.saturating_add(life.as_secs());
    let begin = now.saturating_sub(lifetimes.backdate.as_secs());
    (begin.min(LATEST), end.min(latest).min(LATEST))
}

fn parameters(not_before: u64, not_after: u64, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    // rcgen's own constructor of times, since `time` is no dependency of ours.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    params
}

/// 128 random bits, positive and not zero (RFC 5280, section 4.1.2.2).
fn serial() -> Result<[u8; 16], MakeError> {
    let mut serial = [0; 16];
    provider()
        .secure_random
        .fill(&mut serial)
        .map_err(|_| MakeError::Random)?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn uri(text: &str) -> Result<SanType, MakeError> {
    Ok(SanType::URI(text.try_into()?))
}
