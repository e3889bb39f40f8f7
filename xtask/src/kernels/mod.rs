//! The lab's core on kernels that routers have, each in a virtual machine.

mod architecture;
mod arm64;
mod core;
mod guest;
mod images;
mod root;
mod table;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cross::{self, Architecture},
    package,
    run::{build_product, built, cargo_path, target_directory},
    setup,
    steps::Counts,
    test::libtest,
};
use images::Served;
use root::Root;

/// Runs the tests of the lab's core that show what differs between kernels, on one kernel, and counts them.
pub fn test_first(name: &str, counts: &mut Counts) -> Result<()> {
    setup::install_for_kernels()?;
    test_on(&chosen(images::served()?, name)?, None, false, counts)
}

/// Runs the lab's core on the named kernels, or on all that are served, and counts its tests.
pub fn test(names: &str, counts: &mut Counts) -> Result<()> {
    setup::install_for_kernels()?;
    test_on(&chosen(images::served()?, names)?, None, true, counts)
}

/// Runs the lab's core on one kernel of each series that Debian serves, of the usual flavour.
pub fn test_series(counts: &mut Counts) -> Result<()> {
    setup::install_for_kernels()?;
    let usual = images::served()?.into_iter().filter(|kernel| !kernel.name.contains('-')).collect();
    test_on(&chosen(usual, "")?, None, true, counts)
}

/// Installs the package for arm64 in a guest, and runs the lab's core with the program that it installs.
pub fn test_package(counts: &mut Counts) -> Result<()> {
    setup::install_for_kernels()?;
    let package = package::debian(Architecture::Arm64, None, false)?;
    let arm64 = images::served()?.into_iter().filter(|kernel| kernel.architecture == Architecture::Arm64).collect();
    test_on(&chosen(arm64, "")?, Some(&package), true, counts)
}

/// Runs the lab's core on kernels, with `more` all of it: with the product that is built for them, or with a package of it.
fn test_on(kernels: &[Served], package: Option<&Path>, more: bool, counts: &mut Counts) -> Result<()> {
    let folder = folder()?;
    let (mut roots, mut costs, mut failed) = (BTreeMap::new(), table::Costs::default(), Vec::new());
    for kernel in kernels {
        let root = match roots.entry(kernel.architecture) {
            Entry::Occupied(root) => root.into_mut(),
            Entry::Vacant(root) => root.insert(built_for(kernel.architecture, &folder, package)?),
        };
        let start = Instant::now();
        let image = images::fetch(kernel, &folder)?;
        let archive = folder.join("initramfs");
        root.pack(&image, &core::script(package.is_some(), more), &archive)?;
        println!("kernels: {} boots", kernel.name);
        let log = folder.join(format!("{}.log", kernel.name));
        let show = |line: &str| println!("{}: {line}", kernel.name);
        let told = guest::boot(kernel.architecture, &image, &archive, &log, show)?;
        costs.take(&kernel.name, &told.lines);
        let mut here = Counts::default();
        told.lines.iter().filter_map(|line| libtest(line)).for_each(|sum| here += sum);
        if told.failed_programs.is_none() {
            let last = told.lines.iter().rev().find(|line| line.starts_with("begins: "));
            println!("kernels: {}: ended early, during or after {}", kernel.name, last.map_or("boot", |line| line));
        }
        // A program that ends early prints no sum of its tests, nor does a guest that hangs.
        if here.failed == 0 && told.failed_programs != Some(0) {
            here.failed = 1;
        }
        println!("kernels: {}: {here} in {} s", kernel.name, start.elapsed().as_secs());
        *counts += here;
        if here.failed > 0 {
            failed.push(kernel.name.as_str());
        }
    }
    println!("{costs}");
    if !failed.is_empty() {
        bail!("tests failed on {}: see above, and the logs in {}", failed.join(", "), folder.display());
    }
    Ok(())
}

/// Returns the folder of kernels and guests.
fn folder() -> Result<PathBuf> {
    let folder = Path::new(&target_directory()?).join("kernels");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A file system with the product and the tests, which are built for such a machine.
fn built_for(architecture: Architecture, folder: &Path, package: Option<&Path>) -> Result<Root> {
    let (root, built) = match architecture {
        Architecture::Amd64 => {
            build_product()?;
            let programs = test_programs(&mut Command::new(cargo_path()))?;
            let root = Root::of_this_system(folder.join("root"))?;
            (root, Built { product: built("enforcer")?.into(), programs })
        }
        Architecture::Arm64 => {
            setup::install_for_arm64_guests()?;
            let product = cross::build_product()?;
            let programs = test_programs(&mut cross::cargo()?)?;
            let root = Root::of_system(folder.join("root-arm64"), &arm64::system(folder)?)?;
            (root, Built { product, programs })
        }
    };
    match package {
        Some(package) => root.copy(package, core::PACKAGE)?,
        None => root.add(&built.product, Path::new("tests/release/enforcer"))?,
    }
    for name in core::programs() {
        let program = built.programs.get(name).with_context(|| format!("cargo has built no test {name}"))?;
        root.add(program, &Path::new("tests/deps").join(name))?;
    }
    Ok(root)
}

/// What cargo has built for a guest.
struct Built {
    product: PathBuf,
    /// By their names.
    programs: BTreeMap<String, PathBuf>,
}

fn chosen(served: Vec<Served>, names: &str) -> Result<Vec<Served>> {
    let known: Vec<&str> = served.iter().map(|kernel| kernel.name.as_str()).collect();
    let wanted: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("apt knows no kernel {unknown}; it knows {}", known.join(", "));
    }
    if known.is_empty() {
        bail!("apt knows no kernel: Debian serves them");
    }
    Ok(served.into_iter().filter(|kernel| wanted.is_empty() || wanted.contains(&kernel.name.as_str())).collect())
}

/// Test programs by name, as a call of cargo tells where it has built them.
fn test_programs(cargo: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    let output = cargo
        .args(["test", "--workspace", "--no-run"])
        .args(core::programs().flat_map(|name| ["--test", name]))
        .output()
        .context("cannot run cargo")?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the tests do not build:\n{told}");
    }
    Ok(programs_of(&told))
}

fn programs_of(told: &str) -> BTreeMap<String, PathBuf> {
    let program = |line: &str| {
        let (source, path) = line.trim().strip_prefix("Executable tests/")?.split_once("/main.rs (")?;
        Some((source.to_owned(), PathBuf::from(path.strip_suffix(')')?)))
    };
    told.lines().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_what_cargo_says() {
        let told = "    Finished `release` profile [optimized] target(s) in 0.20s\n  \
                    Executable tests/lab/main.rs (target/debug/deps/lab-d8f2)\n  \
                    Executable unittests src/main.rs (target/debug/deps/xtask-1b)\n";
        let expected = [("lab".to_owned(), PathBuf::from("target/debug/deps/lab-d8f2"))];
        assert_eq!(programs_of(told), expected.into());
    }
}
