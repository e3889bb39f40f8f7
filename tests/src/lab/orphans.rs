//! Namespaces and folders of tests that were killed. Their names end with the number of the process that made them, and one more.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::command;

/// Removes them, and ends the processes in the namespaces.
pub fn remove() {
    for namespace in namespaces().filter_map(|path| Some(path.file_name()?.to_owned())) {
        let listed = Command::new("ip").args(["netns", "pids"]).arg(&namespace).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for process in listed.split_whitespace().filter_map(|process| process.parse().ok()) {
            // SAFETY: a signal, to a process that was in that namespace a moment ago.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
        // Another run may have removed it meanwhile.
        let _ = command(&format!("ip netns del {}", namespace.display()));
    }
    folders().for_each(|folder| remove_folder(&folder));
}

/// Removes them, and returns the paths that could not be removed.
pub fn remove_all() -> Vec<PathBuf> {
    remove();
    namespaces().chain(folders()).collect()
}

fn namespaces() -> impl Iterator<Item = PathBuf> {
    orphans(Path::new("/run/netns"), &["enf-", "enforcer-bench-"])
}

fn folders() -> impl Iterator<Item = PathBuf> {
    orphans(&std::env::temp_dir(), &[super::FOLDER, super::system::FOLDER])
}

/// Removes a lab's folder. What is pinned in it goes with its file system.
pub fn remove_folder(folder: &Path) {
    let bpf = folder.join("bpf");
    if bpf.exists() {
        let _ = command(&format!("umount --lazy {}", bpf.display()));
    }
    let _ = fs::remove_dir_all(folder);
}

/// Entries of a folder that are named after a process that is no more.
fn orphans(folder: &Path, prefixes: &'static [&'static str]) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(move |path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|name| owner(prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?));
        // Whoever may write to the folder might lead elsewhere by that name.
        let is_ours = path.symlink_metadata().is_ok_and(|found| found.uid() == 0);
        is_ours && owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
    })
}

/// The process that something was made by.
fn owner(name: &str) -> Option<u32> {
    let mut words = name.rsplit('-');
    words.next()?.parse::<u32>().ok()?;
    words.next()?.parse().ok()
}
