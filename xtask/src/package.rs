//! The Debian package. What is in it is listed in `enforcer/Cargo.toml`; here is what has to be made first.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    kernels::{Architecture, arm64},
    run::{self, PRODUCT, ROOT, cargo_path, run},
    tools,
};

/// Where shells look for completions, below `/usr/share`, by what the product calls them.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/enforcer"),
    ("zsh", "zsh/vendor-completions/_enforcer"),
    ("fish", "fish/vendor_completions.d/enforcer.fish"),
];

/// Makes `target/package/enforcer_VERSION_ARCH.deb`, and returns its path. With `built`, of the binary that is there, which must be what cargo builds of the package
/// alone: features that other packages ask of its dependencies are not in what is shipped.
pub fn debian(arch: Architecture, version: Option<&str>, built: bool) -> Result<PathBuf> {
    let product = run::built("enforcer")?;
    let found = fs::read(&product).ok();
    run::build_product()?;
    if built && found != Some(fs::read(&product)?) {
        bail!("{product} was not what `cargo {}` builds, and has been replaced: test it again", PRODUCT.join(" "));
    }
    tools::cargo_install("cargo-deb")?;
    let version = version.unwrap_or(concat!(env!("CARGO_PKG_VERSION"), "-1"));
    let folder = Path::new(ROOT).join("target/package");
    gather(&product, &folder, version)?;
    let mut deb = match arch {
        Architecture::Amd64 => Command::new(cargo_path()),
        Architecture::Arm64 => {
            arm64::build_product()?;
            arm64::cargo()?
        }
    };
    deb.current_dir(ROOT).args(["deb", "--quiet", "--no-build", "--no-dbgsym", "--package", "enforcer"]);
    let package = folder.join(format!("enforcer_{version}_{}.deb", arch.debian()));
    deb.args(["--deb-version", version, "--output"]).arg(&package);
    run(&mut deb)?;
    Ok(package)
}

/// What the product writes of itself, what operators' other programs read, and the changelog.
fn gather(product: &str, folder: &Path, version: &str) -> Result<()> {
    let share = folder.join("root");
    let _ = fs::remove_dir_all(&share);
    for (shell, path) in SHELLS {
        let output = Command::new(product).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "no completions for {shell}");
        fs::write(made(share.join(path))?, output.stdout)?;
    }
    let pages = made(share.join("man/man1/enforcer.1"))?;
    run(Command::new(product).arg("man").arg(pages.with_file_name("")))?;
    for kind in ["grafana", "prometheus"] {
        let source = Path::new(ROOT).join("enforcer/dist").join(kind);
        for entry in fs::read_dir(&source)? {
            let entry = entry?;
            fs::copy(entry.path(), made(share.join("enforcer").join(kind).join(entry.file_name()))?)?;
        }
    }
    let overrides = made(share.join("lintian/overrides/enforcer"))?;
    fs::copy(Path::new(ROOT).join("enforcer/dist/debian/lintian-overrides"), overrides)?;
    let changed = Command::new("git").current_dir(ROOT).args(["log", "-1", "--format= -- %an <%ae>  %aD"]).output()?;
    let changed = String::from_utf8(changed.stdout)?;
    if changed.is_empty() {
        bail!("git knows no last change: the changelog of the package names its time");
    }
    let text = format!("enforcer ({version}) stable; urgency=medium\n\n  * As of this repository.\n\n{changed}");
    fs::write(folder.join("changelog"), text)?;
    Ok(())
}

/// The path, with the folder that it is in.
fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(path.parent().context("a path without a folder")?)?;
    Ok(path)
}
