//! The lab's core: what shows of a kernel that the product works on it.

use std::fmt::Write as _;

/// Test programs, and those of their tests that are run, by parts of their names; all, if none is listed.
pub const TESTS: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("shapes", &[]),
    (
        "interfaces",
        &[
            "native_xdp_judges_clients",
            "generic_xdp_judges_clients",
            "a_wan_without_link_layer",
            "an_interface_that_is_made_again",
            "jumbo_frames_are_judged",
        ],
    ),
    ("clsact", &["are_judged", "a_policy_is_exchanged", "enforcement_goes_on"]),
    ("lifecycle", &["enforcement_goes_on", "a_policy_is_exchanged"]),
    ("swap", &[]),
    ("traffic", &["counters_are_exact", "fragments_follow", "replies_pass"]),
    ("reject", &["by_xdp", "by_tc_on_a_bridge"]),
    ("events", &["xdp_tells", "tc_tells"]),
    ("snoop", &["behind_a_nic", "where_there_is_no_tcx"]),
];

/// A shell script that runs them one by one, and leaves in `failed` how many programs have failed.
pub fn script() -> String {
    let mut script = "cd /tests\nfailed=0\n".to_owned();
    for (name, parts) in TESTS {
        let parts = parts.join(" ");
        let _ = writeln!(script, "deps/{name} --test-threads=1 --show-output {parts} || failed=$((failed + 1))");
    }
    script
}
