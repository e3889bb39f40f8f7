//! `enforcer fmt`.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::policy::{Source, format::format};

#[derive(clap::Args)]
pub struct Arguments {
    /// Policies or catalogues; `-` reads standard input and writes standard output
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change nothing: name the files that are laid out otherwise, and exit with 4 if there are any
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for path in &arguments.files {
        let piped = path == Path::new("-");
        let source = if piped { Source::read_from("-", io::stdin())? } else { Source::read(path)? };
        let text = format(&source)?;
        if arguments.check {
            if text != source.text {
                super::print(&format!("{}\n", path.display()))?;
                code = ExitCode::from(super::CHANGED);
            }
        } else if piped {
            super::print(&text)?;
        } else if text != source.text {
            super::output::write(path, &text, false).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_behind_its_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("p.toml"), folder.path().join("link.toml"));
        fs::write(&file, "default=\"drop\"").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        symlink(&file, &link).expect("a link");
        let arguments = |check| Arguments { files: vec![link.clone()], check };
        assert_eq!(run(&arguments(true)).expect("a check"), ExitCode::from(crate::cli::CHANGED));
        assert_eq!(run(&arguments(false)).expect("a change"), ExitCode::SUCCESS);
        assert_eq!(run(&arguments(true)).expect("a check"), ExitCode::SUCCESS);
        assert_eq!(fs::read_to_string(&file).expect("a file"), "default = \"drop\"\n");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_keeps_its_owner_and_group() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("p.toml");
        fs::write(&file, "default=\"drop\"").expect("a file");
        // Only root can give files away; anybody else's stay with them.
        let given = std::os::unix::fs::chown(&file, Some(1000), Some(1000)).is_ok();
        let before = fs::metadata(&file).expect("a file");
        assert_eq!(given, before.uid() == 1000 && before.gid() == 1000);
        run(&Arguments { files: vec![file.clone()], check: false }).expect("a change");
        let after = fs::metadata(&file).expect("a file");
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino());
    }

    #[test]
    fn a_file_with_mistakes_is_refused_and_unchanged() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("p.toml");
        fs::write(&file, "default=").expect("a file");
        let error = run(&Arguments { files: vec![file.clone()], check: false }).expect_err("a mistake");
        assert!(error.to_string().contains("p.toml:1:9"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "default=");
    }
}
