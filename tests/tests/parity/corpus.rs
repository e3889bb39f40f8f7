//! The seeds of the fuzz targets, and the shipped policies and catalogues, through the targets' checks.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::{
    fuzz::{catalog, dns, frame, policy},
    lab::root,
};

/// Returns the contents of a folder's files.
fn files(folder: &str) -> Result<Vec<Vec<u8>>> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let files: Vec<_> = paths.iter().filter(|path| path.is_file()).map(fs::read).collect::<Result<_, _>>()?;
    ensure!(!files.is_empty(), "{} has no files", folder.display());
    Ok(files)
}

fn texts(folder: &str) -> Result<Vec<String>> {
    files(folder)?.into_iter().map(|bytes| String::from_utf8(bytes).context("not UTF-8")).collect()
}

#[test]
fn frames_pass_their_check() -> Result<()> {
    files("tests/fuzz/seeds/frame")?.iter().for_each(|bytes| frame::check(bytes));
    Ok(())
}

#[test]
fn dns_messages_pass_their_check() -> Result<()> {
    files("tests/fuzz/seeds/dns")?.iter().for_each(|bytes| dns::check(bytes));
    Ok(())
}

#[test]
fn policies_pass_their_check() -> Result<()> {
    for folder in ["tests/fuzz/seeds/policy", "policies"] {
        texts(folder)?.iter().for_each(|text| policy::check(text));
    }
    Ok(())
}

#[test]
fn catalogues_pass_their_check() -> Result<()> {
    for folder in ["tests/fuzz/seeds/catalog", "policies/catalog"] {
        texts(folder)?.iter().for_each(|text| catalog::check(text));
    }
    Ok(())
}
