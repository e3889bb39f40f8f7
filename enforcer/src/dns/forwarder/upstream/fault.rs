//! Why an upstream gave no answer.

use std::{fmt, io, sync::Arc};

use rustls::CertificateError;

/// Why there is no answer, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Arc<str>);

impl Fault {
    /// A fault in words.
    pub fn new(words: impl Into<Arc<str>>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(error) => of_tls(error),
            None => Self::new(error.to_string()),
        }
    }
}

fn of_tls(error: &rustls::Error) -> Fault {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => return Fault::new("it does not speak TLS there"),
        other => return Fault::new(other.to_string()),
    };
    match certificate {
        UnknownIssuer => Fault::new("its certificate is of an unknown CA (one of your own is named with --dns-ca)"),
        NotValidForNameContext { expected, .. } => {
            Fault::new(format!("its certificate is not for {}", expected.to_str()))
        }
        NotValidForName => Fault::new("its certificate is for another name"),
        Expired | ExpiredContext { .. } => Fault::new("its certificate has expired"),
        NotValidYet | NotValidYetContext { .. } => {
            Fault::new("its certificate is not valid yet (is this machine's clock right?)")
        }
        other => Fault::new(format!("its certificate is no good: {other}")),
    }
}
