//! The lab's core: what shows of a kernel that the product works on it.

use std::fmt::Write as _;

/// Programs, and parts of the names of those of their tests that show what differs between kernels: the verifier, the hooks,
/// maps, timers and ring buffers.
const CORE: &[(&str, &[&str])] = &[
    (
        "lab",
        &[
            "kernels::",
            "interfaces::generic_xdp_judges_clients",
            "interfaces::jumbo_frames_are_judged",
            "interfaces::native_xdp_judges_clients",
            "clsact::clients_the_gateway",
            "lifecycle::a_policy_is_exchanged",
            "traffic::counters_are_exact",
            "reject::by_xdp",
            "events::tc_tells",
        ],
    ),
    ("parity", &["shapes::"]),
];

/// Returns the names of the programs.
pub fn programs() -> impl Iterator<Item = &'static str> {
    CORE.iter().map(|(name, _)| *name)
}

/// Further tests of the second tier, of the same programs.
const MORE: &[(&str, &[&str])] = &[(
    "lab",
    &[
        "interfaces::an_interface_that_is_made_again",
        "fail_closed::an_interface_that_is_made_anew_under_its_index",
        "lifecycle::enforcement_goes_on",
        "traffic::replies_pass",
        "snoop::what_the_gateways_dnsmasq_answers_opens_behind_a_nic",
        "portal::a_bridges_clients_are_told_apart",
        "portal::an_admission_ends_on_time",
    ],
)];

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

/// Runs one test in a process with a time limit. A test that prints no result, as one that is killed, counts as failed.
const RUN_ONE: &str = r#"
cat >/tmp/one <<'END'
echo "begins: $2"
timeout -s KILL 600 deps/$1 --exact "$2" --test-threads=1 --show-output >/tmp/output.$$ 2>&1
status=$?
cat /tmp/output.$$
if ! grep -q "test result: " /tmp/output.$$; then
    echo "test $2 ... FAILED with status $status (137: killed after 600 s)"
    echo "test result: FAILED. 0 passed; 1 failed"
fi
exit $status
END
"#;

/// Returns a shell script that runs the tests, and leaves in `failed` how many of its steps failed. A part of a name that
/// matches no test is a failure. One test at a time: with two, each took much longer.
pub fn script(installs: bool, more: bool) -> String {
    let mut script = format!("cd /tests\nfailed=0\n{RUN_ONE}");
    if installs {
        script += INSTALL;
    }
    for (name, parts) in CORE.iter().chain(if more { MORE } else { &[] }) {
        for part in *parts {
            let _ = writeln!(
                script,
                "names=$(deps/{name} --list {part} | sed -n 's/: test$//p')\n\
                 [ \"$names\" ] || {{ echo \"{name} has no test {part}\"; failed=$((failed + 1)); }}\n\
                 for test in $names; do echo \"{name} $test\"; done >>/tmp/tests"
            );
        }
    }
    script + "sort -u /tmp/tests | xargs -n 2 sh /tmp/one || failed=$((failed + 1))\n"
}
