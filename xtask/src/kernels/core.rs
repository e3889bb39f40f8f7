//! The lab's core: what shows of a kernel that the product works on it.

use std::fmt::Write as _;

/// Test programs, and those of their tests that are run, by parts of their names; all, if none is listed.
pub const TESTS: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("shapes", &[]),
    (
        "interfaces",
        &["generic_xdp_judges_clients", "jumbo_frames_are_judged", "made_again_is_judged", "native_xdp_judges_clients"],
    ),
    ("clsact", &["are_judged"]),
    ("fail_closed", &["made_anew_under_its_index"]),
    ("lifecycle", &["a_policy_is_exchanged", "enforcement_goes_on"]),
    ("traffic", &["counters_are_exact", "replies_pass"]),
    ("reject", &["by_xdp"]),
    ("events", &["tc_tells"]),
    ("snoop", &["behind_a_nic"]),
    ("portal", &["told_apart", "ends_on_time"]),
];

/// A shell script that runs them one by one, and leaves in `failed` how many programs have failed. Parts of names that a
/// program has no test for fail as well: nothing would be run.
pub fn script() -> String {
    let mut script = "cd /tests\nfailed=0\n".to_owned();
    for (name, parts) in TESTS {
        for part in *parts {
            let missing = format!("echo \"{name} has no test {part}\"; failed=$((failed + 1))");
            let _ = writeln!(script, "deps/{name} --list {part} | grep ': test' >/dev/null || {{ {missing}; }}");
        }
        let parts = parts.join(" ");
        let _ = writeln!(script, "deps/{name} --test-threads=1 --show-output {parts} || failed=$((failed + 1))");
    }
    script
}
