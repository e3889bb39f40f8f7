//! A proxy beyond the gateway: who reaches it, and when, under the enforcer and under nftables.

use anyhow::Result;
use enforcer_tests::lab::{
    Lab,
    exported::export,
    probe::{self, Outcome},
    product::Enforcer,
    server::Servers,
};
use jiff::{Timestamp, tz::TimeZone};

/// A rule that sends clients through the proxy, by what more there is of it.
fn policy(more: &str) -> String {
    format!(
        r#"default = "drop"
[[proxy]]
address = "203.0.113.9"
port = 3128
services = ["web"]
[[service]]
name = "web"
to = ["17.1.2.3"]
ports = ["tcp/443"]
[[rule]]
name = "web"
action = "allow"
services = ["web"]
{more}
"#
    )
}

#[test]
fn those_reach_a_proxy_whom_a_rule_sends_through_it_while_it_applies() -> Result<()> {
    use Outcome::{Answered, Silence};
    let (enforced, filtered) = (Lab::new()?, Lab::new()?);
    let _servers = [&enforced, &filtered].map(|lab| Servers::start(&lab.internet, &[443, 3128, 3129], &[]));
    let today = Timestamp::now().to_zoned(TimeZone::UTC).weekday();
    // A rule's schedule of whole days, so many ahead.
    let when = |ahead: [i8; 2]| {
        let times = ahead.map(|ahead| format!("{:?}", today.wrapping_add(ahead)).to_lowercase()[..3].to_owned());
        format!("when = \"some\"\n[[schedule]]\nname = \"some\"\nzone = \"UTC\"\ntimes = {times:?}")
    };
    let enforcer = Enforcer::start(&enforced, &policy(""), "--lan lan0 --wan wan0")?;
    for (more, reached) in [
        ("", true),
        ("from = [\"10.1.0.3\"]", false),
        ("from = [\"10.1.0.2\"]", true),
        (&when([0, 1]), true),
        (&when([3, 4]), false),
    ] {
        let policy = policy(more);
        enforcer.ask(&format!("apply {}", enforced.file("other.toml", &policy)?.display()))?;
        let now = Timestamp::now();
        let (table, _) = export(&filtered, "nftables", &policy, &format!("--lan lan0 --wan wan0 --at {now}"))?;
        filtered.gateway.run(&format!("nft -f {}", filtered.file("exported.nft", &table)?.display()))?;
        let wanted = if reached { Answered } else { Silence };
        for lab in [&enforced, &filtered] {
            assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 3128)?, wanted, "{more}");
            assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 3129)?, Silence, "{more}");
            assert_ne!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered, "{more}");
        }
    }
    enforcer.stop()
}
