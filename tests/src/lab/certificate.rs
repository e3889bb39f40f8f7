//! Certificates of the lab's own.

use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::Lab;

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub file: PathBuf,
}

/// What a server shows, and what proves that it may; files in PEM.
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let file = lab.file(&format!("{name}.pem"), &params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), file })
    }

    /// A certificate for names and addresses, whose last year is a given one.
    pub fn certify(&self, lab: &Lab, names: &[&str], year: i32) -> Result<Certificate> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate()?;
        let name = format!("{}-{year}", names.join("-").replace(':', "_"));
        let chain = lab.file(&format!("{name}.pem"), &params.signed_by(&key, &self.issuer)?.pem())?;
        Ok(Certificate { chain, key: lab.file(&format!("{name}.key"), &key.serialize_pem())? })
    }
}
