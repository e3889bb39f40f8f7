//! Real resolvers on the internet or the gateway, with zones of the lab's own.

use std::{
    fmt::Write as _,
    fs::File,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Lab, Namespace, certificate::Certificate, dns};

/// A running resolver; dropping it stops it.
pub struct Resolver {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

/// How many addresses `many.lab.example` has: more than a datagram of 512 bytes takes.
pub const MANY: u8 = 60;

/// How many texts unbound's `huge.lab.example` has, of 253 bytes each with what is before them: nearly all that a message takes.
pub const HUGE: u16 = 250;

/// Long enough for a loaded machine.
const START: Duration = Duration::from_secs(10);

impl Resolver {
    /// Starts dnsmasq on one of the internet's addresses.
    pub fn dnsmasq(lab: &Lab, address: &str) -> Result<Self> {
        Self::dnsmasq_with(lab, address, "")
    }

    /// The same with more lines of configuration.
    pub fn dnsmasq_with(lab: &Lab, address: &str, more: &str) -> Result<Self> {
        Self::dnsmasq_in(lab, &lab.internet, address, more)
    }

    /// The same in some namespace, such as the gateway.
    pub fn dnsmasq_in(lab: &Lab, place: &Namespace, address: &str, more: &str) -> Result<Self> {
        // A line of its configuration has at most 1,024 characters.
        let text = |letter: &str| format!(",{}", letter.repeat(200)).repeat(3);
        let mut config = format!(
            "port=53\nlisten-address={address}\nbind-interfaces\nno-resolv\nno-hosts\nno-round-robin\nlocal-ttl=300\nuser=root\n\
             pid-file=\nlog-facility=-\ncache-size=0\nlocal=/example/\n\
             host-record=edge.cdn.example,203.0.113.40,2001:db8::40\ncname=www.lab.example,edge.cdn.example,30\n\
             address=/wild.lab.example/203.0.113.50\naddress=/wild.lab.example/2001:db8::50\n\
             txt-record=medium.lab.example{}\ntxt-record=large.lab.example{}\ntxt-record=large.lab.example{}\n\
             dns-rr=service.lab.example,65,00010000040004cb00713c\n",
            text("m"),
            text("k"),
            text("l"),
        );
        for host in 1..=MANY {
            writeln!(config, "address=/many.lab.example/203.0.113.{host}")?;
        }
        config += more;
        let file = lab.file(&format!("dnsmasq-{address}"), &config)?;
        Self::start(lab, place, address, &["dnsmasq", "--keep-in-foreground", "-C"], &file)
    }

    /// Starts unbound on one of the internet's addresses.
    pub fn unbound(lab: &Lab, address: &str) -> Result<Self> {
        Self::unbound_with(lab, address, "")
    }

    /// The same, which also answers by TLS and HTTPS on their usual ports. Its datagrams are no longer than newer versions make them.
    pub fn unbound_encrypted(lab: &Lab, address: &str, certificate: &Certificate) -> Result<Self> {
        let Certificate { chain, key } = certificate;
        let (chain, key) = (chain.display(), key.display());
        let more = format!(
            " interface: {address}@853\n interface: {address}@443\n tls-service-pem: {chain}\n tls-service-key: {key}\n max-udp-size: 1232\n"
        );
        Self::unbound_with(lab, address, &more)
    }

    /// The same with more lines of configuration, which may begin clauses of their own.
    pub fn unbound_with(lab: &Lab, address: &str, more: &str) -> Result<Self> {
        let soa = "@ 300 SOA ns.lab.example. nobody.lab.example. 1 3600 600 86400 60\n@ 300 NS ns.lab.example.\n";
        let mut zone = format!(
            "{soa}ns 300 A 198.51.100.2\nwww 30 CNAME edge.cdn.example.\n\
             *.wild 5 A 203.0.113.50\n*.wild 5 AAAA 2001:db8::50\nold 60 DNAME cdn.example.\n\
             medium 300 TXT {}\nlarge 300 TXT {}\nservice 300 HTTPS 1 . ipv4hint=203.0.113.60\n",
            format!("\"{}\" ", "m".repeat(200)).repeat(3),
            format!("\"{}\" ", "l".repeat(200)).repeat(6),
        );
        for number in 0..HUGE {
            writeln!(zone, "huge 300 TXT \"{number:0>240}\"")?;
        }
        for host in 1..=MANY {
            writeln!(zone, "many 300 A 203.0.113.{host}")?;
        }
        let lab_zone = lab.file("lab.example", &zone)?;
        let cdn_zone = lab.file("cdn.example", &format!("{soa}edge 20 A 203.0.113.40\nedge 20 AAAA 2001:db8::40\n"))?;
        let mut config = format!(
            "server:\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n interface: {address}\n\
             access-control: 0.0.0.0/0 allow\n access-control: ::/0 allow\n module-config: \"iterator\"\n rrset-roundrobin: no\n\
             domain-insecure: example\n incoming-num-tcp: 200\n num-queries-per-thread: 4096\n outgoing-range: 4096\n{more}"
        );
        for (name, file) in [("lab.example", &lab_zone), ("cdn.example", &cdn_zone)] {
            writeln!(
                config,
                "auth-zone:\n name: {name}\n zonefile: {}\n for-downstream: no\n for-upstream: yes\n fallback-enabled: no",
                file.display()
            )?;
        }
        let file = lab.file(&format!("unbound-{address}"), &config)?;
        Self::start(lab, &lab.internet, address, &["unbound", "-d", "-c"], &file)
    }

    fn start(lab: &Lab, place: &Namespace, address: &str, command: &[&str], config: &Path) -> Result<Self> {
        let log = config.with_extension("log");
        let output = File::create(&log)?;
        let child = Command::new("ip")
            .args(["netns", "exec", place.name()])
            .args(command)
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut resolver = Self { child, address: SocketAddr::new(address.parse::<IpAddr>()?, 53) };
        let start = Instant::now();
        let question = dns::query("ns.lab.example", dns::A);
        while lab.gateway.enter(|| dns::ask_udp(resolver.address, &question, Duration::from_millis(200)))?.is_none() {
            if let Some(status) = resolver.child.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", command[0], std::fs::read_to_string(&log)?);
            }
            if start.elapsed() > START {
                bail!("{} does not answer:\n{}", command[0], std::fs::read_to_string(&log)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(resolver)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
