//! Random policies and packets through the kernel's programs, against the oracle; and frames of every length.

use anyhow::Result;
use enforcer_ebpf::abi::pseudo;
use enforcer_tests::{
    bed::Bed,
    bench::measure,
    differential,
    oracle::{Hook, LanProgram},
};

#[test]
fn the_programs_agree_with_the_oracle_on_every_packet() -> Result<()> {
    let packets = 500_000;
    let tally = differential::run(packets, 1)?;
    assert!(tally.packets >= packets);
    // All but what takes an interface that no policy covers, and a defect.
    for name in pseudo::NAMES.iter().copied().filter(|&name| name != "unlisted" && name != "fault").chain(["rules"]) {
        assert!(
            tally.counted.get(name).is_some_and(|&count| count > 100),
            "too few packets count as {name}: {tally:?}"
        );
    }
    Ok(())
}

/// Behind the Ethernet header: test runs take no shorter frame.
#[test]
fn truncated_frames_of_every_length_are_malformed() -> Result<()> {
    let mut bed = Bed::new()?;
    for v6 in [false, true] {
        bed.enforce("default = \"allow\"\n", 1)?;
        let frame = measure::frame(v6)?;
        let whole = if v6 { 14 + 40 + 20 } else { 14 + 20 + 20 };
        for length in 14..whole {
            for program in [LanProgram::Xdp, LanProgram::XdpFrags] {
                assert!(!bed.passes(Hook::Lan(program), &frame[..length])?, "{length} bytes pass");
            }
        }
        let malformed = bed.counted().find(|(name, _)| *name == "malformed");
        assert_eq!(malformed, Some(("malformed", 2 * (whole as u64 - 14))));
    }
    Ok(())
}
