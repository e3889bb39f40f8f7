//! Policies with proxies: a real proxy, a real evaluator of PAC files, a reader of property lists.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use enforcer::{
    catalog::{Catalogs, Entry, Host},
    policy::{PortMatch, Transport},
};
use enforcer_tests::lab::{
    Lab, Namespace, Plan, binary, dns,
    exported::{ask, export},
    probe::{self, Outcome},
    product::Enforcer,
    resolver::Resolver,
    server::Servers,
};
use serde_json::{Value, json};

/// A program in a namespace; dropping it stops it.
struct Running(Child);

impl Running {
    fn start(lab: &Lab, place: &Namespace, command: &str) -> Result<Self> {
        let log = fs::File::create(lab.path("running.log"))?;
        let mut words = Command::new("ip");
        words.args(["netns", "exec", place.name()]).args(command.split_whitespace()).stdin(Stdio::null());
        Ok(Self(words.stdout(log.try_clone()?).stderr(log).spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PROXIED: &str = r#"
default = "drop"
[[proxy]]
address = "10.1.0.3"
port = 3128
services = ["web"]
[[service]]
name = "web"
to = ["17.1.2.3", "www.example.org"]
ports = ["tcp/443"]
[[service]]
name = "resolvers"
to = ["198.51.100.2", "17.253.4.5"]
ports = ["udp/53", "tcp/53", "tcp/443"]
[[rule]]
name = "proxy"
action = "allow"
from = ["10.1.0.3"]
services = ["resolvers"]
[[rule]]
name = "web"
action = "allow"
services = ["web"]
"#;

#[test]
fn squid_reaches_what_the_policy_allows_and_clients_reach_it_by_no_other_way() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let _servers = Servers::start(&lab.internet, &[443, 80], &[])?;
    let _resolver = Resolver::dnsmasq_with(
        &lab,
        "198.51.100.2",
        "host-record=www.example.org,17.253.4.5\nhost-record=www.example.net,17.253.4.5\n",
    )?;
    let _enforcer = Enforcer::start(&lab, PROXIED, "--lan br-lan --wan wan0")?;
    let (lines, _) = export(&lab, "squid", PROXIED, "")?;
    let log = lab.file("squid.log", "")?;
    // Squid gives up root's rights before it writes.
    Command::new("chmod").args(["666"]).arg(&log).status()?;
    let config = format!(
        "http_port 10.1.0.3:3128\ninclude {}\ncache deny all\ncache_log {}\naccess_log none\npid_filename none\n\
         pinger_enable off\nnetdb_filename none\nvisible_hostname lab\ndns_nameservers 198.51.100.2\nshutdown_lifetime 0 seconds\n",
        lab.file("exported.squid", &lines)?.display(),
        log.display()
    );
    let config = lab.file("squid.conf", &config)?;
    lab.neighbour.run(&format!("squid -k parse -f {}", config.display()))?;
    let squid = Running::start(&lab, &lab.neighbour, &format!("squid -N -f {}", config.display()))?;
    let started = Instant::now();
    while probe::tcp(&lab.client, "10.1.0.3", 3128)? == Outcome::Refused {
        if started.elapsed() > Duration::from_secs(20) {
            bail!(
                "squid does not start: {}{}",
                fs::read_to_string(&log)?,
                fs::read_to_string(lab.path("running.log"))?
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    let fetch = |way: &str, place: &str| -> Result<bool> {
        let said = lab.client.output(&format!("curl --silent --http0.9 --max-time 4 {way} http://{place}/"))?;
        Ok(said == "hello\n")
    };
    let through = "--proxytunnel --proxy http://10.1.0.3:3128";
    for (way, place, reached) in [
        (through, "17.1.2.3:443", true),
        (through, "www.example.org:443", true),
        ("", "17.1.2.3:443", false),
        ("", "17.253.4.5:443", false),
        (through, "17.1.2.3:80", false),
        (through, "www.example.org:80", false),
        // The same address by a name that the policy does not have.
        (through, "www.example.net:443", false),
        (through, "203.0.113.9:443", false),
    ] {
        assert_eq!(fetch(way, place)?, reached, "{way} {place}: {}", fs::read_to_string(&log)?);
    }
    drop(squid);
    Ok(())
}

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

#[test]
fn dnsmasq_takes_what_tells_clients_of_a_pac_file() -> Result<()> {
    let lab = Lab::new()?;
    let output = Command::new(binary("enforcer")?)
        .args([
            "export",
            "wpad",
            "--url",
            "http://10.1.0.1:8080/wpad.dat",
            "--domain",
            "school.example",
            "--address",
            "10.1.0.1",
        ])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lab.file("wpad.conf", &String::from_utf8(output.stdout)?)?;
    lab.gateway.run(&format!("dnsmasq --test -C {}", lines.display()))?;
    let resolver = Resolver::dnsmasq_in(&lab, &lab.gateway, "10.1.0.1", &format!("conf-file={}\n", lines.display()))?;
    let answer = ask(&lab, &resolver, "wpad.school.example", dns::A)?;
    assert!(answer.ends_with(&[10, 1, 0, 1]), "{answer:?}");
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
