//! The Unix socket's file. Who may open it may do everything: its mode is the access control.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _, chown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, getegid};
use socket2::{Domain, SockAddr, Type};
use tokio::net::UnixListener;

/// Clients that may wait until they are served.
const BACKLOG: i32 = 1024;

/// The socket; dropping it removes the file.
pub struct Socket {
    path: PathBuf,
    /// What clients come in by.
    pub listener: UnixListener,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Listens on a path, mode 0660, for root and a group: the controller's own, if none is named. A socket that a dead controller left is replaced; a live
    /// one's is not.
    ///
    /// # Errors
    /// If a controller answers there, something else than a socket is there, or the file cannot be made.
    pub fn bind(path: &Path, group: Option<Gid>) -> io::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            let message =
                format!("another controller answers on {}; stop it first, or choose another --socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            let message = format!("{} is there and is no socket; choose another --socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        // Made under another name: what is at the path is replaced at once, when all is as it should be.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let made = listen(&draft, group.unwrap_or_else(getegid)).and_then(|listener| {
            fs::rename(&draft, path)?;
            Ok(Self { path: path.to_owned(), listener })
        });
        if made.is_err() {
            let _ = fs::remove_file(&draft);
        }
        made
    }
}

fn listen(path: &Path, group: Gid) -> io::Result<UnixListener> {
    let socket = bind_narrow(path)?;
    // In a folder that hands down its group, the file would have that.
    chown(path, None, Some(group.as_raw()))?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// A socket whose file nobody else may open. Linux makes the file with the socket's own mode, less the umask: it never has a wider one.
fn bind_narrow(path: &Path) -> io::Result<socket2::Socket> {
    let socket = File::from(OwnedFd::from(socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = socket2::Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_its_group_and_takes_no_others_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let socket = Socket::bind(&path, None).expect("a socket");
        let made = fs::metadata(&path).expect("a file");
        assert_eq!((made.mode() & 0o777, made.gid()), (0o660, getegid().as_raw()));
        let refused = Socket::bind(&path, None).map(|_| ()).expect_err("it is taken").to_string();
        assert!(refused.contains("another controller answers"), "{refused}");
        drop(socket);
        assert!(!path.exists());
        fs::write(&path, "").expect("a file");
        let refused = Socket::bind(&path, None).map(|_| ()).expect_err("no socket").to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn nobody_else_may_open_the_file_from_its_first_moment_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let _socket = bind_narrow(&path).expect("a socket");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
    }
}
