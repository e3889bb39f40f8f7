//! Builds the eBPF programs that the binary embeds.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    enforcer_ebpf_build::build("enforcer-ebpf", "../enforcer-ebpf", &["enforcer-programs"])
}
