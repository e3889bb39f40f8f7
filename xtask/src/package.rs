//! The Debian package. What is in it is listed in `enforcer/Cargo.toml`; here is what has to be made first.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    run::{self, ROOT, cargo, cargo_path, run},
    tools,
};

/// Where shells look for completions, below `/usr/share`, by what the product calls them.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/enforcer"),
    ("zsh", "zsh/vendor-completions/_enforcer"),
    ("fish", "fish/vendor_completions.d/enforcer.fish"),
];

/// Makes `target/package/enforcer_VERSION_amd64.deb`, of what is built already if `built`.
pub fn debian(version: Option<&str>, built: bool) -> Result<()> {
    if !built {
        // By itself: with the whole workspace, it would have the benchmark's programs in it.
        cargo(&["build", "--quiet", "--release", "--package", "enforcer"])?;
    }
    tools::cargo_install("cargo-deb")?;
    let version = version.unwrap_or(concat!(env!("CARGO_PKG_VERSION"), "-1"));
    let folder = Path::new(ROOT).join("target/package");
    gather(&folder, version)?;
    let mut deb = Command::new(cargo_path());
    deb.current_dir(ROOT).args(["deb", "--quiet", "--no-build", "--no-dbgsym", "--package", "enforcer"]);
    deb.args(["--deb-version", version, "--output"]).arg(&folder);
    run(&mut deb)
}

/// What the product writes of itself, what operators' other programs read, and the changelog.
fn gather(folder: &Path, version: &str) -> Result<()> {
    let share = folder.join("root");
    let _ = fs::remove_dir_all(&share);
    let product = run::built("enforcer")?;
    for (shell, path) in SHELLS {
        let output = Command::new(&product).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "no completions for {shell}");
        fs::write(made(share.join(path))?, output.stdout)?;
    }
    let pages = made(share.join("man/man1/enforcer.1"))?;
    run(Command::new(&product).arg("man").arg(pages.with_file_name("")))?;
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
