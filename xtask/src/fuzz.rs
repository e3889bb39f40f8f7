//! Fuzzing: random packets through the kernel's programs, or coverage-guided input for one parser.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use enforcer_ebpf_build::toolchain;

use crate::{
    run::{self, as_root, run},
    tools,
};

/// Where the targets and their seeds are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz");

/// The differential test, at any length.
pub fn packets(packets: u64, seed: Option<u64>) -> Result<()> {
    let program = run::build_fast("fuzz")?;
    let mut arguments = vec!["--packets".into(), packets.to_string()];
    arguments.extend(seed.iter().flat_map(|seed| ["--seed".into(), seed.to_string()]));
    as_root(&program, &arguments)
}

/// A target of `tests/fuzz`, by cargo-fuzz. Without a sanitizer: Debian's compiler has none, and the code under test has no unsafe part.
pub fn target(name: &str, seconds: u64) -> Result<()> {
    let folder = Path::new(FOLDER);
    let seeds = folder.join("seeds").join(name);
    if !seeds.is_dir() {
        let known: Vec<_> =
            seeds.with_file_name("").read_dir()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        bail!("there is no target {name:?}, only {known:?}");
    }
    tools::cargo_install("cargo-fuzz")?;
    let corpus = folder.join("corpus").join(name);
    std::fs::create_dir_all(&corpus)?;
    let mut fuzz = Command::new("rustup");
    fuzz.args([
        "run",
        toolchain().context("no toolchain has unstable features")?,
        "cargo",
        "fuzz",
        "run",
        "--fuzz-dir",
    ]);
    // What is found goes into the first folder.
    fuzz.arg(folder).args(["--sanitizer", "none", name]).args([&corpus, &seeds]);
    fuzz.args(["--".into(), format!("-max_total_time={seconds}"), "-print_final_stats=1".into()]);
    if name != "frame" {
        fuzz.arg(format!("-dict={FOLDER}/words.dict"));
    }
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    // cargo hands its own toolchain down; here another one is wanted.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        fuzz.env_remove(variable);
    }
    run(&mut fuzz)
}
