//! The Debian package. What is in it is listed in `enforcer/Cargo.toml`; here is what has to be made first.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cross::{self, Architecture},
    run::{self, PRODUCT, ROOT, cargo_path, run},
    tools,
};

/// Where shells look for completions, below `/usr/share`, by what the product calls them.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/enforcer"),
    ("zsh", "zsh/vendor-completions/_enforcer"),
    ("fish", "fish/vendor_completions.d/enforcer.fish"),
];

/// Makes `target/package/enforcer_VERSION_ARCH.deb`, and returns its path. With `built`, fails if the binary that is there
/// is not what cargo builds of the package alone.
pub fn debian(arch: Architecture, version: Option<&str>, built: bool) -> Result<PathBuf> {
    ensure!(std::env::consts::ARCH == "x86_64", "packages are built on amd64 only");
    let product = run::built("enforcer")?;
    if built {
        verify_built(&product)?;
    } else {
        run::build_product()?;
    }
    tools::cargo_install("cargo-deb")?;
    let version = version.unwrap_or(concat!(env!("CARGO_PKG_VERSION"), "-1"));
    let folder = Path::new(ROOT).join("target/package");
    gather(&product, &folder, version)?;
    let mut deb = match arch {
        Architecture::Amd64 => Command::new(cargo_path()),
        Architecture::Arm64 => {
            cross::build_product()?;
            cross::cargo()?
        }
    };
    let package = folder.join(format!("enforcer_{version}_{}.deb", arch.debian()));
    deb.current_dir(ROOT).args(["deb", "--quiet", "--no-build", "--no-dbgsym", "--package", "enforcer"]);
    // The time of every file in it: packages of one commit have the same bytes.
    deb.env("SOURCE_DATE_EPOCH", last_change("%ct")?);
    run(deb.args(["--deb-version", version, "--output"]).arg(&package))?;
    let output = Command::new("dpkg-deb").arg("--field").arg(&package).arg("Depends").output()?;
    let depends = String::from_utf8_lossy(&output.stdout).into_owned();
    // Where no package is found for a library, cargo-deb only warns. Where the library is a cross-compiler's, the package's
    // name has its architecture.
    let libc = [format!("libc6:{} (>= ", arch.debian()), "libc6 (>= ".to_owned()];
    ensure!(
        libc.iter().any(|libc| depends.contains(libc)),
        "{} does not depend on libc6: {depends}",
        package.display()
    );
    Ok(package)
}

/// Returns a field of the last commit, in git's format.
fn last_change(format: &str) -> Result<String> {
    let format = format!("--format={format}");
    let output = Command::new("git").current_dir(ROOT).args(["log", "-1", &format]).output()?;
    let field = String::from_utf8(output.stdout)?.trim_end().to_owned();
    ensure!(!field.is_empty(), "git knows no last commit: the package names its time");
    Ok(field)
}

/// Fails if a binary is not what cargo builds of the package alone. A build of the whole workspace, for example, has features
/// that other packages ask of its dependencies. The binary stays as it is then, so that a second call fails as well.
fn verify_built(product: &str) -> Result<()> {
    let build = PRODUCT.join(" ");
    let found = fs::read(product).with_context(|| format!("cannot read {product}: run `cargo {build}` first"))?;
    run::build_product()?;
    if found == fs::read(product)? {
        return Ok(());
    }
    // The file is a link to one of cargo's own.
    fs::remove_file(product)?;
    fs::write(product, found)?;
    fs::set_permissions(product, fs::Permissions::from_mode(0o755))?;
    bail!("{product} is not what `cargo {build}` builds: remove it, build it again and test it")
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
    let changed = last_change("%an <%ae>  %aD")?;
    let text = format!("enforcer ({version}) stable; urgency=medium\n\n  * As of this repository.\n\n -- {changed}\n");
    fs::write(folder.join("changelog"), text)?;
    Ok(())
}

/// The path, with the folder that it is in.
fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(path.parent().context("a path without a folder")?)?;
    Ok(path)
}
