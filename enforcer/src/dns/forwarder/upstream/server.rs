//! What an operator says of an upstream.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use hyper::http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use thiserror::Error;

/// A resolver: where it is, and how it is asked. As text, `192.0.2.1:53`, `tls://192.0.2.1:853#dns.example` or
/// `https://192.0.2.1:443/dns-query#dns.example`; ports and the path may be left out. It has an address, so that nobody must be asked for one first;
/// behind `#` is the name that its certificate must be for, as unbound and systemd write it. Without it, that is the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub way: Way,
}

/// How a resolver is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// In clear, by UDP and TCP.
    Plain,
    /// DNS over TLS (RFC 7858).
    Tls {
        /// Whose certificate it has.
        name: ServerName<'static>,
    },
    /// DNS over HTTPS (RFC 8484).
    Https {
        /// Whose certificate it has.
        name: ServerName<'static>,
        /// Where queries are posted.
        path: PathAndQuery,
    },
}

/// What is wrong with the text of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mistake {
    /// No literal address.
    #[error(
        "{0:?} is no address, such as 192.0.2.1 or [2001:db8::1], with or without a port; a certificate's name comes behind it: tls://192.0.2.1#dns.example"
    )]
    Address(String),
    /// Another scheme.
    #[error("there is no {0}://; an upstream is ADDR:PORT, tls://ADDR:PORT#NAME or https://ADDR:PORT/PATH#NAME")]
    Scheme(String),
    /// No name of a host.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
    /// No path.
    #[error("{0:?} is no path of a URL")]
    Path(String),
}

/// Where RFC 8484's examples, and nearly all resolvers, take queries.
const PATH: &str = "/dns-query";

impl Server {
    /// Whether nobody on the way can read what it is asked.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.way != Way::Plain
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self { address, way: Way::Plain }
    }
}

impl FromStr for Server {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(address(text, 53)?.into()) };
        let (place, name) = rest.split_once('#').map_or((rest, None), |(place, name)| (place, Some(name)));
        let name = |address: SocketAddr| match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| Mistake::Name(name.into())),
            None => Ok(ServerName::from(address.ip())),
        };
        match scheme {
            "tls" => {
                let address = address(place, 853)?;
                Ok(Self { address, way: Way::Tls { name: name(address)? } })
            }
            "https" => {
                let (place, path) = place.split_at(place.find('/').unwrap_or(place.len()));
                let address = address(place, 443)?;
                let path = if path.is_empty() { PATH } else { path };
                let path = path.parse().map_err(|_| Mistake::Path(path.into()))?;
                Ok(Self { address, way: Way::Https { name: name(address)?, path } })
            }
            _ => Err(Mistake::Scheme(scheme.into())),
        }
    }
}

/// An address with a port, or with the usual one.
fn address(text: &str, port: u16) -> Result<SocketAddr, Mistake> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without = || bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, port));
    text.parse().or_else(|_| without()).map_err(|_| Mistake::Address(text.into()))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.way {
            Way::Plain => return write!(f, "{}", self.address),
            Way::Tls { name } => {
                write!(f, "tls://{}", self.address)?;
                name
            }
            Way::Https { name, path } => {
                write!(f, "https://{}{path}", self.address)?;
                name
            }
        };
        if *name == ServerName::from(self.address.ip()) { Ok(()) } else { write!(f, "#{}", name.to_str()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mistake, Server};

    #[test]
    fn an_upstream_is_an_address_a_way_and_a_name() {
        let read = |text: &str| text.parse::<Server>().unwrap().to_string();
        let cases = [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53"),
            ("tls://192.0.2.1", "tls://192.0.2.1:853"),
            ("tls://192.0.2.1:8853#dns.example", "tls://192.0.2.1:8853#dns.example"),
            ("tls://192.0.2.1#192.0.2.1", "tls://192.0.2.1:853"),
            ("tls://[2001:db8::1]#192.0.2.1", "tls://[2001:db8::1]:853#192.0.2.1"),
            ("https://192.0.2.1#dns.example", "https://192.0.2.1:443/dns-query#dns.example"),
            ("https://[2001:db8::1]:8443/a/b?c=d", "https://[2001:db8::1]:8443/a/b?c=d"),
        ];
        for (text, canonical) in cases {
            assert_eq!(read(text), canonical);
            assert_eq!(read(canonical), canonical);
        }
    }

    #[test]
    fn what_is_no_upstream_is_told_why() {
        let read = |text: &str| text.parse::<Server>().unwrap_err();
        for text in ["dns.example", "192.0.2.1#dns.example", "192.0.2.1:65536", "", "[192.0.2.1"] {
            assert_eq!(read(text), Mistake::Address(text.into()));
        }
        assert_eq!(read("tls://dns.example"), Mistake::Address("dns.example".into()));
        assert_eq!(read("tls://192.0.2.1/dns-query"), Mistake::Address("192.0.2.1/dns-query".into()));
        assert_eq!(read("quic://192.0.2.1"), Mistake::Scheme("quic".into()));
        assert_eq!(read("tls://192.0.2.1#"), Mistake::Name(String::new()));
        assert_eq!(read("https://192.0.2.1#a b"), Mistake::Name("a b".into()));
        assert_eq!(read("https://192.0.2.1/a b"), Mistake::Path("/a b".into()));
    }
}
