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
use rustls::{
    ClientConfig,
    pki_types::{self, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    super::{counters::Counters, query::Query},
    MAX_MESSAGE,
    fault::Fault,
    kept::{Carrier, Failure, Protocol},
    trust::Handshake,
};

/// HTTP/2 by its name in TLS.
pub const ALPN: &[u8] = b"h2";

const MESSAGE: &str = "application/dns-message";

/// The protocol.
pub struct Https {
    handshake: Handshake,
    uri: Uri,
    counters: Arc<Counters>,
}

type Client = SendRequest<Full<Bytes>>;

impl Https {
    /// Posts to a path.
    ///
    /// # Errors
    /// If name, port and path make no URL.
    pub fn new(
        address: SocketAddr,
        name: &ServerName<'static>,
        path: PathAndQuery,
        tls: Arc<ClientConfig>,
        counters: Arc<Counters>,
    ) -> http::Result<Self> {
        let host = match name {
            ServerName::IpAddress(pki_types::IpAddr::V6(_)) => format!("[{}]", name.to_str()),
            name => name.to_str().into_owned(),
        };
        let authority = if address.port() == 443 { host } else { format!("{host}:{}", address.port()) };
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build()?;
        Ok(Self { handshake: Handshake::new(name.clone(), tls), uri, counters })
    }
}

impl Protocol for Https {
    type Client = Client;

    async fn begin(&self, stream: TcpStream) -> Result<(Client, Carrier), Fault> {
        let stream = self.handshake.on(stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(Fault::new("it does not speak HTTP/2"));
        }
        speak(stream).await
    }

    /// Under id 0, as the RFC asks for the sake of caches: what answers what is HTTP's affair.
    async fn ask(&self, client: &Client, query: &Query) -> Result<Vec<u8>, Failure> {
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
        if !sent.is_answered_in_any_case_by(&message) {
            self.counters.mismatched.add();
            return Err(Failure::Final(Fault::new("what it sends does not answer the query")));
        }
        Ok(message)
    }

    fn answered(_: &Client) -> usize {
        0
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<(Client, Carrier), Fault> {
    let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
    let (client, connection) = handshake.map_err(|error| Fault::new(in_full(&error)))?;
    // How it ended is of no use: whoever waits asks anew.
    let carrier = async { connection.await.unwrap_or_default() };
    Ok((client, Box::pin(carrier)))
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
    use std::{convert::Infallible, sync::Arc};

    use hickory_proto::rr::RecordType;
    use http_body_util::{BodyExt as _, Full};
    use hyper::{
        Request, Response,
        body::{Bytes, Incoming},
        server::conn::http2,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::runtime::Runtime;

    use super::{Failure, Https, MESSAGE, Protocol as _, Query, speak};
    use crate::dns::forwarder::{
        counters::Counters,
        upstream::{Server, Trust, Way},
    };

    fn protocol(text: &str) -> Https {
        let Server { address, way: Way::Https { name, path } } = text.parse().unwrap() else { panic!("{text}") };
        let tls = Trust::none().client(None).unwrap();
        Https::new(address, &name, path, tls, Arc::<Counters>::default()).unwrap()
    }

    #[test]
    fn the_url_has_the_certificates_name_or_the_address() {
        let url = |text: &str| protocol(text).uri.to_string();
        assert_eq!(url("https://192.0.2.1#dns.example"), "https://dns.example/dns-query");
        assert_eq!(url("https://192.0.2.1:8443/q?a=b#dns.example"), "https://dns.example:8443/q?a=b");
        assert_eq!(url("https://[2001:db8::1]/q"), "https://[2001:db8::1]/q");
        assert_eq!(url("https://192.0.2.1:8443"), "https://192.0.2.1:8443/dns-query");
    }

    /// A server's answer to a request with a body, or why there is none, and that of the next query.
    fn asked(respond: fn(&Request<Incoming>, Vec<u8>) -> Response<Vec<u8>>) -> [Result<Vec<u8>, String>; 2] {
        Runtime::new().unwrap().block_on(async {
            let (near, far) = tokio::io::duplex(4096);
            let serving = service_fn(move |mut request: Request<Incoming>| async move {
                let body = request.body_mut().collect().await.unwrap().to_bytes().to_vec();
                Ok::<_, Infallible>(respond(&request, body).map(Full::<Bytes>::from))
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), serving));
            let (client, carrier) = speak(near).await.unwrap();
            tokio::spawn(carrier);
            let https = protocol("https://192.0.2.1#dns.example");
            let query = Query::new(&"www.example".parse().unwrap(), RecordType::A).unwrap();
            let ask = async || match https.ask(&client, &query).await {
                Ok(mut answer) => {
                    query.claim(&mut answer);
                    Ok(answer)
                }
                Err(Failure::Final(fault)) => Err(fault.to_string()),
                Err(Failure::Ended(fault)) => panic!("{fault}"),
            };
            [ask().await, ask().await]
        })
    }

    fn answer(mut message: Vec<u8>) -> Response<Vec<u8>> {
        message[2] |= 0x80;
        Response::builder().header("content-type", MESSAGE).body(message).unwrap()
    }

    #[test]
    fn a_query_is_posted_under_id_0_and_its_answer_is_the_body() {
        let answers = asked(|request, body| {
            let header = |name: &str| request.headers()[name].to_str().unwrap();
            let url = format!("{} {}", request.method(), request.uri());
            assert_eq!(url, "POST https://dns.example/dns-query");
            let length = body.len().to_string();
            assert_eq!(["accept", "content-type", "content-length"].map(header), [MESSAGE, MESSAGE, &length]);
            assert_eq!(body[..2], [0, 0]);
            let mut answer = answer(body);
            answer.headers_mut().insert("content-type", "Application/DNS-Message; a=b".parse().unwrap());
            // The largest there is.
            answer.body_mut().resize(65_535, 7);
            answer
        });
        for answer in answers {
            assert_eq!(answer.unwrap().len(), 65_535);
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_and_the_connection_goes_on() {
        fn but(response: Response<Vec<u8>>, status: u16, change: fn(&mut Response<Vec<u8>>)) -> Response<Vec<u8>> {
            let mut response = response;
            *response.status_mut() = status.try_into().unwrap();
            change(&mut response);
            response
        }
        let other_kind = "it answers with something else than application/dns-message";
        let other_answer = "what it sends does not answer the query";
        type Respond = fn(&Request<Incoming>, Vec<u8>) -> Response<Vec<u8>>;
        let cases: [(&str, Respond); 8] = [
            ("it answers with HTTP status 403 Forbidden", |_, body| but(answer(body), 403, |_| {})),
            ("it answers with HTTP status 307 Temporary Redirect", |_, body| {
                but(answer(body), 307, |response| {
                    response.headers_mut().insert("location", "https://192.0.2.1/".parse().unwrap());
                })
            }),
            (other_kind, |_, body| {
                but(answer(body), 200, |response| {
                    response.headers_mut().insert("content-type", "text/html".parse().unwrap());
                })
            }),
            (other_kind, |_, body| but(answer(body), 200, |response| response.headers_mut().clear())),
            (other_answer, |_, _| but(answer(vec![0; 12]), 200, |response| response.body_mut().clear())),
            (other_answer, |_, body| but(answer(body), 200, |response| response.body_mut()[0] = 1)),
            (other_answer, |_, body| but(answer(body), 200, |response| response.body_mut()[13] = b'v')),
            ("its answer is longer than a DNS message can be", |_, body| {
                but(answer(body), 200, |response| response.body_mut().resize(65_536, 0))
            }),
        ];
        for (fault, respond) in cases {
            assert_eq!(asked(respond), [Err(fault.into()), Err(fault.into())]);
        }
    }
}
