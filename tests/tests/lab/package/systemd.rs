//! The package on a machine with a systemd of its own, as the README's chapter on the service has it, with a client's real connections.

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{
    Lab, POLICY,
    machine::Machine,
    names::wait,
    probe::{self, Outcome},
    resolver::Resolver,
    server::Servers,
    system::package,
};

/// What needs most of what a confined process may lack: port 53, a filter of nftables, TCP sockets of its own, and resolvers.
const OPTIONS: &str = "ENFORCER_OPTIONS=\"--lan lan0 --wan wan0 --fail closed --dns-listen 10.1.0.1:53 --dns-upstream 198.51.100.2 \
                       --metrics-listen 127.0.0.1:9100\"\n";

const NAMED: &str = "\n[[service]]\nname = \"named\"\nto = [\"www.lab.example\"]\nports = [\"tcp/443\"]\n\n\
                     [[rule]]\naction = \"allow\"\nservices = [\"named\"]\n";

#[test]
fn the_service_is_installed_operated_and_removed_as_the_readme_has_it() -> Result<()> {
    let lab = Lab::new()?;
    let _server = Servers::start(&lab.internet, &[443, 80], &[])?;
    let _resolver = Resolver::dnsmasq(&lab, "198.51.100.2")?;
    let web = |port| probe::tcp(&lab.client, "17.1.2.3", port);
    let machine = Machine::boot(&lab)?;
    let heard = |word: &str| {
        wait(word, || Ok(machine.journal()?.contains(word))).with_context(|| machine.journal().unwrap_or_default())
    };
    machine.install(&package("0.1.0-1", &lab.path(""))?)?;
    assert_eq!(machine.property("ActiveState")?, "inactive", "nothing is started: a policy could cut a network off");

    machine.write("etc/default/enforcer", OPTIONS)?;
    machine.write("etc/enforcer/policy.toml", &format!("{POLICY}{NAMED}"))?;
    machine.run("enforcer check /etc/enforcer/policy.toml")?;
    machine.run("systemctl enable --now enforcer")?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Answered, Outcome::Silence]);
    let first = machine.property("MainPID")?;

    // What the unit promises of it.
    let status = machine.run(&format!("cat /proc/{first}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    for (name, wanted) in [("CapEff:", "000000c000001400"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        assert_eq!(field(name), wanted, "{name}");
    }
    let folders = "/ /etc /usr /var /var/lib /root /run /run/systemd /sys/fs /proc/sys/net /dev /dev/shm /dev/mqueue";
    let write = format!("for path in {folders}; do test -w $path && echo $path; done; test -w /sys/fs/bpf");
    let written = machine.run(&format!("nsenter --mount --target {first} sh -c '{write}'"))?;
    assert_eq!(written, "", "it may write there");
    assert!(machine.run("nft list table inet enforcer_guard")?.contains("lan0"));
    assert!(machine.run("enforcer status")?.contains("lan0"));
    let metrics = lab.gateway.output("curl --silent http://127.0.0.1:9100/metrics")?;
    assert!(metrics.contains("enforcer_packets_total"), "{metrics}");

    // Names are learned through its own port 53.
    ensure!(lab.client.output("dig +short +time=2 +tries=1 @10.1.0.1 www.lab.example")?.contains("203.0.113.40"));
    assert!(machine.run("enforcer names")?.contains("www.lab.example"));

    // What is wrong with a policy is told, in the journal by its level, and what was in force goes on.
    machine.write("etc/enforcer/policy.toml", "default = 3\n")?;
    let reload = machine.output("systemctl reload enforcer")?;
    assert!(!reload.status.success(), "a policy with a mistake is refused");
    heard("policy.toml:1:11")?;
    machine.run("systemctl kill --signal HUP --kill-who main enforcer")?;
    heard("the policy in force stays")?;
    let errors = machine.run("journalctl --unit enforcer --priority err --no-pager --output cat _COMM=enforcer")?;
    assert!(errors.contains("the policy in force stays") && !errors.contains("enforcing"), "{errors}");
    assert_eq!([web(443)?, web(80)?], [Outcome::Answered, Outcome::Silence]);
    machine.write("etc/enforcer/policy.toml", &POLICY.replace("tcp/443", "tcp/80"))?;
    machine.run("systemctl reload enforcer")?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Silence, Outcome::Answered]);
    assert_eq!(machine.property("MainPID")?, first);

    // Members of the group may ask, others may not.
    machine.run("adduser --disabled-password --gecos '' alice && adduser --disabled-password --gecos '' mallory")?;
    machine.run("adduser alice enforcer")?;
    machine.run("runuser --user alice enforcer status")?;
    assert!(!machine.output("runuser --user mallory enforcer status")?.status.success());

    // One that was killed, or that hangs, is started anew, and the kernel judges meanwhile.
    machine.run("systemctl kill --signal KILL enforcer")?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Silence, Outcome::Answered]);
    let started = |before: &str| -> Result<bool> {
        Ok(machine.property("ActiveState")? == "active" && machine.property("MainPID")? != before)
    };
    wait("a start behind a crash", || started(&first)).with_context(|| machine.journal().unwrap_or_default())?;
    machine.write("etc/systemd/system/enforcer.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")?;
    machine.run("systemctl daemon-reload && systemctl restart enforcer")?;
    let second = machine.property("MainPID")?;
    machine.run("systemctl kill --signal STOP enforcer")?;
    wait("a start behind a halt", || started(&second)).with_context(|| machine.journal().unwrap_or_default())?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Silence, Outcome::Answered]);

    // An upgrade is a controller that is started anew, with the operator's files.
    let third = machine.property("MainPID")?;
    machine.install(&package("0.1.0-2", &lab.path(""))?)?;
    assert!(started(&third)?, "the new version runs");
    assert_eq!([web(443)?, web(80)?], [Outcome::Silence, Outcome::Answered]);
    assert!(machine.run("enforcer status")?.contains("lan0"));

    machine.run("systemctl stop enforcer")?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Silence, Outcome::Answered], "the kernel enforces on");
    machine.run("systemctl start enforcer")?;
    machine.run("apt-get remove --yes --quiet enforcer")?;
    assert_eq!([web(443)?, web(80)?], [Outcome::Answered, Outcome::Answered], "all is detached");
    assert!(!machine.output("nft list table inet enforcer_guard")?.status.success());
    machine.run("apt-get purge --yes --quiet enforcer")?;
    assert!(!machine.output("ls /etc/enforcer /var/lib/enforcer")?.status.success());
    Ok(())
}
