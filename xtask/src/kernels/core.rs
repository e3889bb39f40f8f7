//! The lab's core: what shows of a kernel that the product works on it.

use std::fmt::Write as _;

/// Test programs, and those of their tests that are run, by parts of their names.
pub const TESTS: &[(&str, &[&str])] = &[
    (
        "lab",
        &[
            "kernels::",
            "interfaces::generic_xdp_judges_clients",
            "interfaces::jumbo_frames_are_judged",
            "interfaces::an_interface_that_is_made_again",
            "interfaces::native_xdp_judges_clients",
            "clsact::clients_the_gateway",
            "fail_closed::an_interface_that_is_made_anew_under_its_index",
            "lifecycle::a_policy_is_exchanged",
            "lifecycle::enforcement_goes_on",
            "traffic::counters_are_exact",
            "traffic::replies_pass",
            "reject::by_xdp",
            "events::tc_tells",
            "snoop::what_the_gateways_dnsmasq_answers_opens_behind_a_nic",
            "portal::a_bridges_clients_are_told_apart",
            "portal::an_admission_ends_on_time",
        ],
    ),
    ("parity", &["shapes::"]),
];

/// The path of the package in a guest that installs it.
pub const PACKAGE: &str = "tests/enforcer.deb";

/// Installs the package, whose program the tests then run. The guest's other packages are unpacked without dpkg's records, so that dpkg finds no
/// dependency installed.
const INSTALL: &str = "
name=\"package::dpkg_installs_it\"
if dpkg --install --force-depends /tests/enforcer.deb && enforcer check /etc/enforcer/policy.toml && grep -q ^enforcer: /etc/group &&
    ln -s /usr/bin/enforcer /tests/release/enforcer; then
    echo \"test $name ... ok\"
    echo \"test result: ok. 1 passed; 0 failed\"
else
    echo \"test $name ... FAILED\"
    echo \"test result: FAILED. 0 passed; 1 failed\"
    failed=$((failed + 1))
fi
";

/// Returns a shell script that runs the tests one by one, and leaves in `failed` how many programs have failed. Parts of names that a
/// program has no test for fail as well: nothing would be run.
pub fn script(installs: bool) -> String {
    let mut script = "cd /tests\nfailed=0\n".to_owned();
    if installs {
        script += INSTALL;
    }
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
