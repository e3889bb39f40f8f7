//! Reading no more than makes sense, so that a file that has no end ends nothing else.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::libc::O_NONBLOCK;

/// All of a file of one's own, which is no pipe that would be waited for.
///
/// # Errors
/// If it cannot be read, has more bytes, or is no regular file.
pub fn file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    all(file, most)
}

/// All that comes.
///
/// # Errors
/// If it cannot be read, or there are more bytes.
pub fn all(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// All that comes, if it is text.
///
/// # Errors
/// As [`all`]; if it is no UTF-8.
pub fn text(from: impl Read, most: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8");
    String::from_utf8(all(from, most)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "four").expect("a file");
        assert_eq!(file(&path, 4).expect("few enough"), b"four");
        assert_eq!(file(&path, 3).expect_err("too many").kind(), ErrorKind::FileTooLarge);
        assert_eq!(text(io::repeat(b'y'), 1 << 20).expect_err("too many").kind(), ErrorKind::FileTooLarge);
        assert_eq!(text(&[0xff][..], 4).expect_err("no text").kind(), ErrorKind::InvalidData);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for other in [Path::new("/dev/zero"), folder.path(), &pipe] {
            assert_eq!(file(other, 4).expect_err("no file").kind(), ErrorKind::InvalidInput, "{}", other.display());
        }
        assert_eq!(file(&folder.path().join("none"), 4).expect_err("nothing").kind(), ErrorKind::NotFound);
    }
}
