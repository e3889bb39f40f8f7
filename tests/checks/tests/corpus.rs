//! The seeds of the fuzz targets, and the shipped policies and catalogues, through the targets' checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use enforcer_checks::{catalog, dns, frame, policy};

/// The repository's root.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Returns the paths and contents of a folder's files.
fn files(folder: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(ROOT).join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            files.push((path.clone(), fs::read(&path)?));
        }
    }
    ensure!(!files.is_empty(), "{} has no files", folder.display());
    Ok(files)
}

/// Returns the paths and texts of a folder's files with an extension, or without one.
fn texts(folder: &str, extension: Option<&str>) -> Result<Vec<(PathBuf, String)>> {
    let named = |path: &PathBuf| path.extension().and_then(|extension| extension.to_str()) == extension;
    let files = files(folder)?.into_iter().filter(|(path, _)| named(path));
    files.map(|(path, bytes)| Ok((path, String::from_utf8(bytes)?))).collect()
}

#[test]
fn frames_pass_their_check() -> Result<()> {
    files("tests/fuzz/seeds/frame")?.iter().for_each(|(_, bytes)| frame::check(bytes));
    Ok(())
}

#[test]
fn dns_messages_pass_their_check() -> Result<()> {
    files("tests/fuzz/seeds/dns")?.iter().for_each(|(_, bytes)| dns::check(bytes));
    Ok(())
}

#[test]
fn policies_pass_their_check() -> Result<()> {
    for (path, text) in texts("tests/fuzz/seeds/policy", None)?.into_iter().chain(texts("policies", Some("toml"))?) {
        assert!(policy::check(&text), "{} is not a policy", path.display());
    }
    Ok(())
}

#[test]
fn catalogues_pass_their_check() -> Result<()> {
    for (path, text) in
        texts("tests/fuzz/seeds/catalog", None)?.into_iter().chain(texts("policies/catalog", Some("toml"))?)
    {
        assert!(catalog::check(&text), "{} is not a catalogue", path.display());
    }
    Ok(())
}
