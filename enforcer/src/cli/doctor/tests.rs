use std::collections::BTreeMap;

use super::{
    checks::{Level, examine},
    facts::{Facts, Interface, Program},
    gather, render,
};

/// A gateway on which nothing is wrong.
fn healthy() -> Facts {
    let interface = |name: &str, role| Interface {
        name: name.into(),
        role: Some(role),
        driver: Some("igc".into()),
        mtu: 1500,
        queues: 4,
        xdp_features: Some(0x3f),
        offloads: BTreeMap::new(),
        xdp: Vec::new(),
        tcx: Ok(Vec::new()),
        filters: Vec::new(),
        vlans: Vec::new(),
        rp_filter: Some(0),
        gso_max: 65_536,
    };
    Facts {
        kernel: "6.12.9-amd64".into(),
        tcx: Some(true),
        btf: true,
        jit: Some(1),
        unprivileged_disabled: Some(2),
        pins: "/sys/fs/bpf/enforcer".into(),
        bpffs: true,
        own: Some([7, 8].into()),
        controller: Ok(Vec::new()),
        capabilities: u64::MAX,
        forwarding: [Some(1), Some(1)],
        dns: Vec::new(),
        clock: true,
        flow_offload: Some(Vec::new()),
        interfaces: vec![interface("lan0", "lan"), interface("wan0", "wan")],
        missing: Vec::new(),
    }
}

fn program(number: u32, name: &str, side: Option<&'static str>) -> Program {
    Program { number, name: name.into(), side }
}

#[test]
fn nothing_is_said_of_a_healthy_gateway_but_that_it_is() {
    let findings = examine(&healthy());
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    let text = anstream::adapter::strip_str(&render(&findings)).to_string();
    assert!(text.starts_with("kernel\n  ok       6.12.9-amd64 has TCX"), "{text}");
    assert!(text.contains("\nlan0\n  ok       driver igc has native XDP\n"), "{text}");
    assert!(text.ends_with("\n0 problems, 0 warnings\n"), "{text}");
}

#[test]
fn each_fault_is_told_with_what_to_do() {
    type Fault = fn(&mut Facts);
    let faults: [(Fault, Level, &str, &str); 30] = [
        (|facts| facts.kernel = "5.15.0-91-generic".into(), Level::Problem, "5.15.0-91-generic is too old", "6.1"),
        (|facts| facts.tcx = None, Level::Note, "cannot be told", "as root"),
        (
            |facts| {
                facts.interfaces[1].filters =
                    vec![program(9, "bpf shaper", Some("ingress")), program(8, "bpf wan_ingress", Some("ingress"))];
            },
            Level::Warning,
            "TC filters come before enforcer's: ingress bpf shaper",
            "higher priority number",
        ),
        (|facts| facts.tcx = Some(false), Level::Warning, "6.12.9-amd64 has no TCX", "clsact"),
        (
            |facts| facts.interfaces[1].filters = vec![program(0, "u32", Some("egress"))],
            Level::Note,
            "egress u32",
            "behind",
        ),
        (
            |facts| facts.interfaces[1].filters = vec![program(9, "bpf wan_egress", Some("egress"))],
            Level::Warning,
            "another enforcer judges, too",
            "--pins",
        ),
        (
            |facts| {
                facts.interfaces[1].filters = vec![program(8, "bpf wan_egress", Some("egress"))];
                facts.interfaces[1].tcx = Ok(vec![program(9, "cil_to", Some("egress"))]);
            },
            Level::Warning,
            "egress cil_to",
            "without --tc clsact",
        ),
        (|facts| facts.jit = Some(0), Level::Problem, "JIT is off", "bpf_jit_enable=1"),
        (|facts| facts.jit = None, Level::Note, "not visible", "first network namespace"),
        (|facts| facts.unprivileged_disabled = Some(0), Level::Warning, "everybody", "unprivileged_bpf_disabled=1"),
        (|facts| facts.bpffs = false, Level::Warning, "/sys/fs/bpf", "mount -t bpf"),
        (|facts| facts.capabilities = 1 << 12, Level::Problem, "CAP_PERFMON, CAP_BPF missing", "as root"),
        (|facts| facts.forwarding[1] = Some(0), Level::Warning, "ipv6", "forwarding=1"),
        (|facts| facts.flow_offload = Some(vec!["ft".into()]), Level::Problem, "flow table ft", "flags offload"),
        (|facts| facts.dns = vec![([127, 0, 0, 53], 53).into()], Level::Note, "127.0.0.53:53", "--dns-snoop"),
        (|facts| facts.missing = vec!["ppp0".into()], Level::Warning, "no such interface", "appears"),
        (|facts| facts.clock = false, Level::Warning, "clock", "chrony"),
        (|facts| facts.interfaces[0].xdp_features = Some(0), Level::Note, "no native XDP", "TC at ingress"),
        (
            |facts| (facts.interfaces[0].mtu, facts.interfaces[0].xdp_features) = (9000, Some(1)),
            Level::Warning,
            "an MTU of 9000",
            "mtu 3498",
        ),
        (
            |facts| facts.interfaces[0].xdp = vec![program(9, "xdp_dispatcher", None)],
            Level::Problem,
            "xdp_dispatcher",
            "xdp off",
        ),
        (
            |facts| facts.interfaces[1].tcx = Ok(vec![program(9, "cil_to", Some("egress"))]),
            Level::Note,
            "egress cil_to",
            "behind",
        ),
        (
            |facts| facts.interfaces[0].xdp = vec![program(9, "lan_xdp", None)],
            Level::Problem,
            "another enforcer is there, with other pins than /sys/fs/bpf/enforcer: lan_xdp",
            "--pins",
        ),
        (
            |facts| facts.interfaces[1].tcx = Ok(vec![program(9, "wan_egress", Some("egress"))]),
            Level::Warning,
            "another enforcer judges, too",
            "--pins",
        ),
        (|facts| facts.controller = Ok(vec!["lan0 is gone".into()]), Level::Warning, "lan0 is gone", "status"),
        (|facts| facts.controller = Err("no controller".into()), Level::Warning, "no controller", "go on enforcing"),
        (
            |facts| (facts.controller, facts.own) = (Err("no controller".into()), Some([].into())),
            Level::Note,
            "no controller",
            "start it",
        ),
        (|facts| facts.interfaces[1].tcx = Err("not permitted".into()), Level::Note, "not permitted", "CAP_SYS_ADMIN"),
        (|facts| facts.interfaces[0].vlans = vec!["lan0.5".into()], Level::Problem, "VLAN", "--lan instead: lan0.5"),
        (
            |facts| facts.interfaces[0].offloads = [("rx-lro".into(), true)].into(),
            Level::Warning,
            "merges",
            "ethtool -K lan0 lro off",
        ),
        (|facts| facts.interfaces[1].gso_max = 200_000, Level::Warning, "BIG TCP", "gso_max_size 65536"),
    ];
    for (fault, level, message, help) in faults {
        let mut facts = healthy();
        fault(&mut facts);
        let found: Vec<_> = examine(&facts).into_iter().filter(|finding| finding.level != Level::Ok).collect();
        let [found] = &found[..] else { panic!("{message}: {found:#?}") };
        assert!(found.level == level && found.message.contains(message), "{message}: {found:?}");
        assert!(found.help.as_ref().is_some_and(|told| told.contains(help)), "{help}: {found:?}");
    }
}

#[test]
fn enforcers_own_programs_are_no_others() {
    let mut facts = healthy();
    facts.interfaces[0].xdp = vec![program(7, "lan_xdp_frags", None)];
    facts.interfaces[0].tcx = Ok(vec![program(8, "lan_egress", Some("egress"))]);
    facts.interfaces[1].filters = vec![program(8, "bpf wan_egress", Some("egress"))];
    assert!(examine(&facts).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn whose_programs_are_there_is_not_guessed_without_the_right_to_look() {
    let mut facts = healthy();
    facts.own = None;
    facts.interfaces[0].xdp = vec![program(7, "lan_xdp", None)];
    facts.interfaces[1].filters = vec![program(8, "bpf wan_egress", Some("egress"))];
    let found: Vec<_> = examine(&facts).into_iter().filter(|finding| finding.level != Level::Ok).collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|found| found.level == Level::Note && found.message.contains("cannot be told")));
}

#[test]
fn who_serves_dns_is_read_from_the_kernels_tables() {
    let udp = "  sl  local_address rem_address   st tx_queue\n\
        1: 3500007F:0035 00000000:0000 07 00000000:00000000\n\
        2: 0100007F:0043 00000000:0000 07 00000000:00000000\n\
        3: 0100007F:0035 0200007F:0035 01 00000000:00000000\n";
    assert_eq!(gather::servers(udp, false), [([127, 0, 0, 53], 53).into()]);
    let tcp6 = " 0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 0:0\n";
    assert_eq!(gather::servers(tcp6, true), ["[::1]:53".parse().expect("an address")]);
    assert_eq!(gather::servers("nonsense\n 1: zz:0035 x 07\n", false), []);
}

#[test]
fn flow_tables_of_hardware_are_read_from_what_nft_prints() {
    let text = "table inet filter {\n\tflowtable soft {\n\t\thook ingress priority filter\n\t}\n\tflowtable hard {\n\t\tflags offload;\n\t}\n}\n";
    assert_eq!(gather::offloaded(text), ["hard"]);
}
