//! What tells clients of proxies: a real evaluator of PAC files, a reader of property lists, a real client of DHCP.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use enforcer::{
    catalog::{Catalogs, Entry, Host},
    policy::{PortMatch, Transport},
};
use enforcer_tests::lab::{
    Lab, dns, enforcer_binary,
    exported::{PROXIED, ask, export},
    product::Enforcer,
    resolver::Resolver,
};
use serde_json::{Value, json};

/// All of Apple's services through a proxy.
const APPLE: &str = "default = \"drop\"\n[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"apple/*\"]\n\
                     [[rule]]\naction = \"allow\"\nservices = [\"apple/*\"]\n";

fn matches(host: &Host, name: &str) -> bool {
    let Host::Name(pattern) = host else { return host.to_string().split('/').next() == Some(name) };
    match pattern.to_string().strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern.to_string() == name,
    }
}

#[test]
fn the_pac_file_sends_every_host_of_the_catalogue_by_its_way() -> Result<()> {
    let lab = Lab::new()?;
    let (pac, _) = export(&lab, "pac", APPLE, "")?;
    let catalogs = Catalogs::default();
    let entries: Vec<&Entry> = catalogs.find("apple/*").iter().flat_map(|(_, service)| &service.entries).collect();
    let takes = |entry: &Entry, name: &str, port: u16| {
        let tcp = |range: &PortMatch| matches!(range, PortMatch::Ports { transport: Transport::Tcp, first, last } if (*first..=*last).contains(&port));
        entry.hosts.iter().any(|host| matches(host, name)) && entry.ports.iter().any(tcp)
    };
    let mut wanted: BTreeMap<(String, u16), &str> = BTreeMap::new();
    for host in entries.iter().flat_map(|entry| &entry.hosts) {
        let name = host.to_string().replace('*', "any").split('/').next().unwrap_or_default().to_owned();
        for port in [443, 80, 5223, 2197, 8443, 123] {
            let all: Vec<&&Entry> = entries.iter().filter(|entry| takes(entry, &name, port)).collect();
            // Of a host that one service has for the proxy and another has not, either may be right.
            let unclear = |entry: &&&Entry| !entry.proxy && entry.hosts.contains(host);
            let way = match (all.iter().any(|entry| entry.proxy), all.iter().any(unclear)) {
                (true, true) => continue,
                (true, false) => "PROXY 10.1.0.5:3128",
                (false, _) => "DIRECT",
            };
            wanted.insert((name.clone(), port), way);
        }
    }
    wanted.insert(("any.push.apple.com".into(), 5223), "DIRECT");
    wanted.insert(("any.push.apple.com".into(), 443), "PROXY 10.1.0.5:3128");
    wanted.insert(("www.example.org".into(), 443), "DIRECT");
    let questions: Vec<Value> = wanted
        .keys()
        .map(|(name, port)| {
            let host = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            json!([format!("https://{host}:{port}/"), name])
        })
        .collect();
    // Of what evaluators bring, this is all that the file calls.
    let script = format!(
        "function number(text) {{ return text.split('.').reduce(function (sum, part) {{ return sum * 256 + (part | 0); }}, 0); }}\n\
         function isInNet(host, net, mask) {{ var bits = number(mask); return ((number(host) & bits) >>> 0) === ((number(net) & bits) >>> 0); }}\n\
         {pac}\nvar QUESTIONS = {};\nprint(JSON.stringify(QUESTIONS.map(function (q) {{ return FindProxyForURL(q[0], q[1]); }})));\n",
        Value::from(questions)
    );
    let output = Command::new("duk").arg(lab.file("pac.js", &script)?).output().context("duk (package duktape)")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let ways: Vec<String> = serde_json::from_slice(&output.stdout)?;
    assert_eq!(ways.len(), wanted.len());
    let proxied = wanted.values().filter(|way| way.starts_with("PROXY")).count();
    assert!(proxied > 30 && wanted.len() - proxied > 100, "{proxied} of {}", wanted.len());
    for (((name, port), way), found) in wanted.iter().zip(&ways) {
        assert_eq!(way, found, "{name}:{port}");
    }
    Ok(())
}

/// Reads a property list by Python's library: keys and values as JSON.
fn plist(path: &std::path::Path) -> Result<Value> {
    let script = "import plistlib,json,sys; print(json.dumps(plistlib.load(open(sys.argv[1],'rb'))))";
    let output = Command::new("python3").args(["-c", script]).arg(path).output().context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn the_profile_is_a_property_list_with_the_documented_keys() -> Result<()> {
    let lab = Lab::new()?;
    let secret = lab.file("secret", "school\n<p&ss>\n")?;
    let common = ["PayloadType", "PayloadVersion", "PayloadIdentifier", "PayloadUUID", "PayloadDisplayName"];
    for (arguments, keys, value) in [
        (
            "",
            &["ProxyType", "ProxyServer", "ProxyServerPort", "ProxyCaptiveLoginAllowed"][..],
            ("ProxyServerPort", json!(3128)),
        ),
        (
            "--pac-url http://10.1.0.1:8080/proxy.pac",
            &["ProxyType", "ProxyPACURL", "ProxyPACFallbackAllowed", "ProxyCaptiveLoginAllowed"][..],
            ("ProxyPACURL", json!("http://10.1.0.1:8080/proxy.pac")),
        ),
        (
            &format!("--credentials {}", secret.display()),
            &[
                "ProxyType",
                "ProxyServer",
                "ProxyServerPort",
                "ProxyCaptiveLoginAllowed",
                "ProxyUsername",
                "ProxyPassword",
            ][..],
            ("ProxyPassword", json!("<p&ss>")),
        ),
    ] {
        let (profile, warned) = export(&lab, "mobileconfig", APPLE, arguments)?;
        assert_eq!(warned.contains("password"), arguments.contains("credentials"), "{warned}");
        let profile = plist(&lab.file("proxy.mobileconfig", &profile)?)?;
        assert_eq!(profile["PayloadType"], "Configuration");
        let payload = &profile["PayloadContent"][0];
        assert_eq!(payload["PayloadType"], "com.apple.proxy.http.global");
        assert_eq!(payload[value.0], value.1);
        let mut written: Vec<&str> = payload.as_object().context("a payload")?.keys().map(String::as_str).collect();
        let mut known = [&common[..], keys].concat();
        written.sort_unstable();
        known.sort_unstable();
        assert_eq!(written, known);
    }
    Ok(())
}

/// What the program writes for dnsmasq.
fn wpad(lab: &Lab) -> Result<String> {
    let output = Command::new(enforcer_binary()?)
        .args(["export", "wpad", "--url", URL, "--domain", "school.example", "--address", "10.1.0.1"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lab.file("wpad.conf", &String::from_utf8(output.stdout)?)?;
    lab.gateway.run(&format!("dnsmasq --test -C {}", lines.display()))?;
    Ok(format!("conf-file={}\n", lines.display()))
}

const URL: &str = "http://10.1.0.1:8080/wpad.dat";

#[test]
fn dnsmasq_knows_the_name_by_which_clients_look_for_a_pac_file() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq_in(&lab, &lab.gateway, "10.1.0.1", &wpad(&lab)?)?;
    let answer = ask(&lab, &resolver, "wpad.school.example", dns::A)?;
    assert!(answer.ends_with(&[10, 1, 0, 1]), "{answer:?}");
    Ok(())
}

#[test]
fn a_client_gets_the_pac_file_by_what_dhcp_tells_it() -> Result<()> {
    let lab = Lab::new()?;
    let _enforcer = Enforcer::start(&lab, PROXIED, "--lan lan0 --wan wan0 --pac-listen 10.1.0.1:8080")?;
    let leases = lab.path("leases");
    let dhcp = format!(
        "{}dhcp-range=10.1.0.100,10.1.0.110,255.255.255.0,10m\ndhcp-authoritative\nno-ping\ndhcp-leasefile={}\n",
        wpad(&lab)?,
        leases.display()
    );
    let _server = Resolver::dnsmasq_in(&lab, &lab.gateway, "10.1.0.1", &dhcp)?;
    // What it has from DHCP alone, from here on.
    lab.client.run("ip -4 addr flush dev eth0")?;
    let told = lab.path("told");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add \"$ip/$mask\" dev \"$interface\"\nprintf %s \"$wpad\" > {}\n",
        told.display()
    );
    let script = lab.file("bound.sh", &script)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    lab.client.run(&format!("busybox udhcpc -f -q -n -t 5 -T 1 -i eth0 -O wpad -s {}", script.display()))?;
    let url = fs::read_to_string(&told)?;
    assert_eq!(url, URL);
    assert!(lab.client.output("ip -4 -o addr show dev eth0")?.contains(" 10.1.0.1"));
    let (pac, _) = export(&lab, "pac", PROXIED, "")?;
    assert_eq!(lab.client.output(&format!("curl --silent --fail --max-time 4 {url}"))?, pac);
    Ok(())
}

#[test]
fn the_controller_serves_the_pac_file_of_the_policy_in_force() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, PROXIED, "--lan lan0 --wan wan0 --pac-listen 10.1.0.1:8080")?;
    let (pac, _) = export(&lab, "pac", PROXIED, "")?;
    let fetch =
        |path: &str| lab.client.output(&format!("curl --silent --include --max-time 4 http://10.1.0.1:8080/{path}"));
    for path in ["proxy.pac", "wpad.dat"] {
        let (head, body) =
            fetch(path)?.split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).context("no answer")?;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-ns-proxy-autoconfig"), "{head}");
        assert_eq!(body, pac);
    }
    assert!(fetch("v1/status")?.starts_with("HTTP/1.1 404"));
    let other = PROXIED.replace("3128", "8888");
    enforcer.ask(&format!("apply {}", lab.file("other.toml", &other)?.display()))?;
    assert!(fetch("proxy.pac")?.contains("PROXY 10.1.0.3:8888"));
    enforcer.ask(&format!("apply {}", lab.file("none.toml", "default = \"drop\"\n")?.display()))?;
    assert!(fetch("proxy.pac")?.starts_with("HTTP/1.1 404"));
    Ok(())
}
