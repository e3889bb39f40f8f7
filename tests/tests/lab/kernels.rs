//! What differs between kernels: what the programs cost their verifiers, and which ways they offer. `cargo xtask test --kernels` runs this on older ones, too.

use std::fs;

use anyhow::Result;
use enforcer_tests::{
    bench::programs::{self, Size},
    lab::{
        Lab, POLICY, enforcer_binary,
        probe::{self, Outcome::*},
        product::Enforcer,
        server::Servers,
    },
};

const RUN: &str = "--lan lan0 --wan wan0";

/// Instructions that a verifier goes through at most. It gives up after a million, and each version counts otherwise: this leaves room for those that were not tried.
const CEILING: u32 = 700_000;

#[test]
fn every_program_is_verified_with_room_to_the_limit() -> Result<()> {
    let sizes = programs::sizes()?;
    sizes.iter().for_each(|Size { program, verified, .. }| println!("verified {program} {verified}"));
    let over: Vec<_> = sizes.iter().filter(|size| size.verified > CEILING).collect();
    assert!(over.is_empty(), "over {CEILING}: {over:?}");
    Ok(())
}

/// Whether this kernel has TCX, by its version: another way than the product's.
fn has_tcx() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(6)))
}

/// What `doctor` says of the gateway, whatever it finds.
fn doctor(lab: &Lab) -> Result<String> {
    lab.gateway.output(&format!("{} doctor {RUN} --pins {}", enforcer_binary()?.display(), lab.pins()?.display()))
}

#[test]
fn the_way_in_is_the_kernels_and_status_and_doctor_tell_it() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    let (status, doctor, tcx) = (enforcer.ask("status")?, doctor(&lab)?, has_tcx()?);
    let way = if tcx { "TCX" } else { "clsact" };
    for line in [format!("lan0 by native XDP and {way} egress"), format!("wan0 by {way} ingress and {way} egress")] {
        assert!(status.contains(&line), "{line}\n{status}");
    }
    assert_eq!(status.contains("in filters of the clsact qdisc"), !tcx, "{status}");
    assert_eq!(doctor.contains("has no TCX"), !tcx, "{doctor}");
    assert!(!doctor.contains("too old"), "{doctor}");
    enforcer.stop()
}

#[test]
fn a_way_that_the_kernel_does_not_have_is_refused_with_the_version_that_has_it() -> Result<()> {
    let lab = Lab::new()?;
    let started = Enforcer::start(&lab, POLICY, &format!("{RUN} --tc tcx"));
    match (has_tcx()?, started) {
        (true, started) => started?.stop(),
        (false, Ok(_)) => anyhow::bail!("a kernel before 6.6 has no TCX"),
        (false, Err(error)) => {
            assert!(format!("{error:#}").contains("which Linux has from 6.6 on"), "{error:#}");
            Ok(())
        }
    }
}

#[test]
fn a_kernel_that_tells_no_types_is_enough() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    // `ip netns exec` has given it mounts of its own.
    let hide = lab.file(
        "hide",
        "set -e\nmount -t tmpfs none /sys/kernel/btf\ntest ! -e /sys/kernel/btf/vmlinux\nexec \"$@\"\n",
    )?;
    lab.file("policy.toml", POLICY)?;
    let enforcer = Enforcer::start_by(&lab, &format!("sh {}", hide.display()), RUN)?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    enforcer.stop()
}
