//! Builds the benchmark's eBPF programs.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    // The programs that are timed are the product's.
    println!("cargo:rerun-if-changed=../enforcer-ebpf");
    enforcer_ebpf_build::build("enforcer-tests-ebpf", "ebpf", &["enforcer-bench", "enforcer-traffic"])
}
