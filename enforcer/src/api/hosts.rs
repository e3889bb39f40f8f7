//! Whom requests over TCP are for. A web page can have its own name resolve to the gateway's address (DNS rebinding): a client's browser then lets it read what is
//! here, but asks for the page's name.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header, uri::Authority},
    middleware::Next,
    response::Response,
};

use super::types::Problem;
use crate::dns::Name;

/// Names by which requests may call this machine, beside its addresses and `localhost`.
pub type Names = Arc<[Name]>;

/// Answers requests that are for an address or one of the names; others with a problem. One that names nobody is of no browser.
pub async fn check(State(names): State<Names>, request: Request, next: Next) -> Result<Response, Problem> {
    let hosts = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut hosts = hosts.chain(request.uri().authority().map(Authority::as_str));
    if let Some(other) = hosts.find(|host| !is_ours(host, &names)) {
        let detail = format!(
            "{other:?} is not known here: ask by address or as localhost, or let `enforcer run` know the name with --metrics-host"
        );
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    Ok(next.run(request).await)
}

fn is_ours(host: &str, names: &[Name]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|name: Name| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_names_that_were_told_are_ours() {
        let names = ["gateway.example".parse().expect("a name")];
        for host in [
            "10.1.0.1",
            "10.1.0.1:9100",
            "[fd00::1]",
            "[fd00::1]:9100",
            "localhost:9100",
            "LocalHost",
            "gateway.example",
            "Gateway.Example.:9100",
        ] {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in
            ["", "page.example", "localhost.page.example", "10.1.0.1.page.example", "gateway", "a b", "[fd00::1"]
        {
            assert!(!is_ours(host, &names), "{host}");
        }
    }
}
