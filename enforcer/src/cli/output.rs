//! Files that commands write.

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Writes a text to where a path leads. Whoever reads a file meanwhile, or after a crash, finds what was there or all of the new text. A link stays one, and a
/// file keeps its owner and mode; a secret is for its owner alone. What is no file, such as a pipe or a device, is written to.
///
/// # Errors
/// If that cannot be done; a file is then as it was.
pub fn write(path: &Path, text: &str, is_secret: bool) -> Result<()> {
    let (path, before) = match fs::canonicalize(path) {
        Ok(path) => (path.clone(), Some(fs::metadata(&path)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => (PathBuf::from(path), None),
        Err(error) => return Err(error.into()),
    };
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Ok(fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())?);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    let mut mode = 0o644;
    if let Some(before) = before {
        // The owner first: giving a file away takes some of its mode.
        fchown(file.as_file(), Some(before.uid()), Some(before.gid())).context("it would change its owner")?;
        mode = before.permissions().mode();
    }
    file.as_file().set_permissions(Permissions::from_mode(if is_secret { mode & 0o600 } else { mode }))?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_file_is_replaced_as_it_was_and_a_secret_is_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        let mode = || fs::metadata(&file).expect("a file").permissions().mode() & 0o777;
        write(&file, "new", false).expect("written");
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a mode");
        symlink(&file, &link).expect("a link");
        write(&link, "newer", false).expect("written");
        assert_eq!((fs::read_to_string(&file).expect("a file").as_str(), mode()), ("newer", 0o640));
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        write(&link, "secret", true).expect("written");
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe)
        });
        write(&pipe, "text", false).expect("written");
        assert_eq!(read.join().expect("a thread").expect("a text"), "text");
        assert!(!fs::metadata(&pipe).expect("a pipe").is_file());
        assert!(write(Path::new("/dev/full"), "text", false).is_err());
    }
}
