//! What operators are told of names: by events, `explain`, `resolve` and `names --watch`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab,
    dns::A,
    names::{POLICY, SHORT, ask, known, resolver, start, wait},
    probe::{self, Outcome::*},
    product::Enforcer,
};
use serde_json::Value;

/// What a command says, and the code that it exits with.
fn said(enforcer: &Enforcer, command: &str) -> Result<(i32, String)> {
    let output = enforcer.command(command).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().context("no code")?, String::from_utf8(text)?.trim().to_owned()))
}

#[test]
fn explain_knows_what_dns_has_told() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let enforcer = start(&lab, POLICY)?;
    ask(&lab, "n7.fresh.lab.example", A)?;
    wait("www.lab.example is known", || Ok(known(&enforcer, "www.lab.example")?.len() == 2))?;
    let rule = "rule names (line 14) allows service";
    for (question, code, answer) in [
        ("203.0.116.7 tcp/443", 0, format!("allow: {rule} web, whose *.fresh.lab.example covers n7.fresh.lab.example")),
        ("2001:db8::40 tcp/443", 0, format!("allow: {rule} store, which has www.lab.example")),
        ("192.0.2.9 tcp/443", 0, format!("allow: {rule} web, whose 192.0.2.0/24 covers 192.0.2.9")),
        ("203.0.116.8 tcp/443", 3, "drop: no rule names this destination, port and source; the default is drop".into()),
        (
            "n8.fresh.lab.example tcp/5223",
            0,
            format!(
                "an address that nothing else covers (none is known): allow: {rule} web, whose *.fresh.lab.example covers n8.fresh.lab.example"
            ),
        ),
        (
            "www.lab.example tcp/443 --from 10.1.0.2",
            0,
            format!("203.0.113.40: allow: {rule} store, which has www.lab.example"),
        ),
    ] {
        assert_eq!(said(&enforcer, &format!("explain {question}"))?, (code, answer), "{question}");
    }
    let mistyped = said(&enforcer, "explain 203.0.113.999 tcp/443")?;
    assert!(mistyped.0 == 2 && mistyped.1.contains("no address"), "{mistyped:?}");
    let both = said(&enforcer, "explain WWW.lab.example tcp/80")?;
    assert_eq!((both.0, both.1.lines().count()), (3, 2), "{}", both.1);

    // What another policy would do with what is known now.
    let other = lab.file("other.toml", &POLICY.replace("*.fresh", "*.stale"))?;
    let question = format!("explain 203.0.116.7 tcp/443 --policy {}", other.display());
    assert_eq!(said(&enforcer, &question)?.0, 3);

    // What is in force counts, whatever its file says by now.
    lab.file("policy.toml", "default = \"drop\"\n")?;
    assert_eq!(said(&enforcer, "explain 203.0.116.7 tcp/443")?.0, 0);
    enforcer.stop()
}

#[test]
fn resolve_asks_and_what_it_hears_counts() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = resolver(&lab)?;
    let enforcer = start(&lab, POLICY)?;
    assert_eq!(known(&enforcer, "n3.fresh.lab.example")?, [""; 0]);
    assert_eq!(
        said(&enforcer, "resolve N3.fresh.lab.example")?,
        (
            0,
            "n3.fresh.lab.example  web\n203.0.116.3           matched, valid for 300 s\n2001:db8:cd::3        matched, valid for 300 s".into()
        )
    );
    assert_eq!(known(&enforcer, "n3.fresh.lab.example")?.len(), 2);
    let www: Value = serde_json::from_str(&enforcer.ask("resolve www.lab.example --json")?)?;
    assert_eq!(www["aliases"][0], "edge.cdn.example");
    assert_eq!(www["services"][0], "store");
    assert_eq!(www["addresses"][1]["matched"], true);
    let (code, rebound) = said(&enforcer, "resolve rebound.wild.lab.example")?;
    assert!(code == 0 && rebound.contains("192.168.7.7") && rebound.contains("not matched: not the internet's"));
    let (code, other) = said(&enforcer, "resolve many.lab.example")?;
    assert!(code == 0 && other.starts_with("many.lab.example  of no service that a rule names"), "{other}");
    assert!(said(&enforcer, "resolve nobody.lab.example")?.1.ends_with("none"));
    let (code, refused) = said(&enforcer, "resolve -- a..b")?;
    assert!(code == 1 && refused.contains("not a name"), "{refused}");
    drop(dnsmasq);
    let (code, silent) = said(&enforcer, "resolve n4.fresh.lab.example")?;
    assert!(code == 1 && silent.contains("no resolver has an answer"), "{silent}");
    enforcer.stop()
}

#[test]
fn events_tell_the_destinations_names() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let enforcer = start(&lab, POLICY)?;
    ask(&lab, "n7.fresh.lab.example", A)?;
    assert_eq!(probe::tcp(&lab.client, "203.0.116.7", 80)?, Silence);
    assert_eq!(probe::tcp(&lab.client, "203.0.116.8", 80)?, Silence);
    wait("both are told", || Ok(enforcer.ask("events")?.lines().count() >= 2))?;
    let told = enforcer.ask("events")?;
    let of = |address: &str| told.lines().find(|line| line.contains(address)).unwrap_or_default().to_owned();
    assert!(of("203.0.116.7:80").ends_with("default, name n7.fresh.lab.example"), "{told}");
    assert!(of("203.0.116.8:80").ends_with("default"), "{told}");
    enforcer.stop()
}

#[test]
fn watching_tells_of_addresses_that_come_and_go() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let enforcer = start(&lab, &format!("{POLICY}{SHORT}"))?;
    let mut watching =
        enforcer.command("names --watch *.fresh.lab.example").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no output")?).lines();
    assert!(lines.next().context("no table")??.starts_with("NAME"));
    ask(&lab, "n9.fresh.lab.example", A)?;
    let come = lines.next().context("nothing came")??;
    assert!(come.ends_with("live      n9.fresh.lab.example  203.0.116.9  web"), "{come}");
    let gone = lines.next().context("nothing went")??;
    assert!(gone.contains("  gone      n9.fresh.lab.example  203.0.116.9"), "{gone}");
    watching.kill()?;
    watching.wait()?;
    enforcer.stop()
}
