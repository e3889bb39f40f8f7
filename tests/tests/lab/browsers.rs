//! Chromium as a client. These tests are of the second tier: `cargo xtask test --full=browsers`.

use std::time::{Duration, Instant};

use anyhow::Result;
use enforcer_tests::lab::{Lab, client, names, resolver::Resolver, server::web};

/// Requests of Chromium's own would wait for addresses that the lab does not have.
const CHROMIUM: &str = "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
                        --disable-background-networking --disable-component-update --dump-dom";

/// Returns the page that Chromium shows for a URL, which may be its own error page, and how long it took.
fn page(lab: &Lab, url: &str) -> Result<(String, Duration)> {
    let profile = format!("--user-data-dir={}", lab.path("chromium").display());
    let command: Vec<&str> = CHROMIUM.split_whitespace().chain([profile.as_str(), url]).collect();
    let start = Instant::now();
    let (_, page) = client::run(lab, &command)?;
    Ok((page, start.elapsed()))
}

#[test]
fn allowed_name_opens_and_others_fail_at_once() -> Result<()> {
    let lab = Lab::new()?;
    // Its address is of no other name: a browser tries all addresses of a name, and one that an allowed name also has would open.
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", "host-record=denied.lab.example,203.0.113.99\n")?;
    lab.internet.run("ip route add local 203.0.113.0/24 dev lo")?;
    web(&lab)?;
    let policy = names::POLICY.replace("default = \"drop\"", "default = \"reject\"");
    let enforcer = names::start(&lab, &policy)?;
    let (allowed, _) = page(&lab, "http://www.lab.example:443/")?;
    assert!(allowed.contains("hello"), "{allowed}");
    let (denied, took) = page(&lab, "http://denied.lab.example:443/")?;
    assert!(denied.contains("ERR_CONNECTION_REFUSED"), "{denied}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    enforcer.stop()
}
