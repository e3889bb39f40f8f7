//! DNS over HTTPS (RFC 8484): each query a request of its own, all on one HTTP/2 connection.

use std::{error::Error, net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http2::{Builder, SendRequest},
    header::{ACCEPT, CONTENT_TYPE},
    http::{self, uri::PathAndQuery},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{self, ServerName};

use super::{
    super::{counters::Counters, query::Query},
    MAX_MESSAGE,
    fault::Fault,
    kept::{Carrier, Failure, Protocol, Stream},
};

/// HTTP/2 by its name in TLS.
pub const ALPN: &[u8] = b"h2";

const MESSAGE: &str = "application/dns-message";

/// The protocol.
pub struct Https {
    uri: Uri,
    counters: Arc<Counters>,
}

impl Https {
    /// Posts to a path.
    ///
    /// # Errors
    /// If name, port and path make no URL.
    pub fn new(
        address: SocketAddr,
        name: &ServerName<'_>,
        path: PathAndQuery,
        counters: Arc<Counters>,
    ) -> http::Result<Self> {
        let host = match name {
            ServerName::IpAddress(pki_types::IpAddr::V6(_)) => format!("[{}]", name.to_str()),
            name => name.to_str().into_owned(),
        };
        let authority = if address.port() == 443 { host } else { format!("{host}:{}", address.port()) };
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build()?;
        Ok(Self { uri, counters })
    }
}

impl Protocol for Https {
    type Client = SendRequest<Full<Bytes>>;

    async fn begin(&self, stream: Stream) -> Result<(Self::Client, Carrier), Fault> {
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(Fault::new("it does not speak HTTP/2"));
        }
        let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (client, connection) = handshake.map_err(|error| Fault::new(in_full(&error)))?;
        // How it ended is of no use: whoever waits asks anew.
        let carrier = async { connection.await.unwrap_or_default() };
        Ok((client, Box::pin(carrier)))
    }

    /// Under id 0, as the RFC asks for the sake of caches: what answers what is HTTP's affair.
    async fn ask(&self, client: &Self::Client, query: &Query) -> Result<Vec<u8>, Failure> {
        let sent = query.under([0, 0]);
        let request = Request::post(self.uri.clone())
            .header(ACCEPT, MESSAGE)
            .header(CONTENT_TYPE, MESSAGE)
            .body(Full::from(sent.bytes().to_vec()))
            .map_err(|error| Failure::Final(Fault::new(error.to_string())))?;
        let ended = |error: &(dyn Error + 'static)| Failure::Ended(Fault::new(in_full(error)));
        let response = client.clone().send_request(request).await.map_err(|error| ended(&error))?;
        check(&response).map_err(Failure::Final)?;
        let body = Limited::new(response.into_body(), MAX_MESSAGE).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::Final(Fault::new("its answer is longer than a DNS message can be"))
            } else {
                ended(&*error)
            }
        })?;
        let message = Vec::from(body.to_bytes());
        if !sent.is_answered_by(&message) {
            self.counters.mismatched.add();
            return Err(Failure::Final(Fault::new("what it sends does not answer the query")));
        }
        Ok(message)
    }
}

/// Whether a response is to carry an answer; where another URL is named, it is not followed.
fn check(response: &Response<Incoming>) -> Result<(), Fault> {
    if response.status() != StatusCode::OK {
        return Err(Fault::new(format!("it answers with HTTP status {}", response.status())));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(MESSAGE) {
        Ok(())
    } else {
        Err(Fault::new(format!("it answers with something else than {MESSAGE}")))
    }
}

/// An error with what is behind it: hyper's own words say little.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words += &format!(": {error}");
        next = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Https;
    use crate::dns::forwarder::upstream::{Server, Way};

    #[test]
    fn the_url_has_the_certificates_name_or_the_address() {
        let url = |text: &str| {
            let Server { address, way: Way::Https { name, path } } = text.parse().unwrap() else { panic!("{text}") };
            Https::new(address, &name, path, Arc::default()).unwrap().uri.to_string()
        };
        assert_eq!(url("https://192.0.2.1#dns.example"), "https://dns.example/dns-query");
        assert_eq!(url("https://192.0.2.1:8443/q?a=b#dns.example"), "https://dns.example:8443/q?a=b");
        assert_eq!(url("https://[2001:db8::1]/q"), "https://[2001:db8::1]/q");
        assert_eq!(url("https://192.0.2.1:8443"), "https://192.0.2.1:8443/dns-query");
    }
}
