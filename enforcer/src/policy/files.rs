//! A policy's files, wherever they are: on disk, or together as they are sent and kept.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{
    Policy,
    source::{FileError, Source},
};

/// Where files are read from.
pub trait Files {
    /// A file.
    ///
    /// # Errors
    /// If it cannot be read, is too large or no text.
    fn read(&self, path: &Path) -> Result<Source, FileError>;
    /// One path for one file, whatever it is called; a file that is not there keeps its own.
    fn real(&self, path: &Path) -> PathBuf;
    /// The files of a folder, in order; none if there is no such folder.
    fn list(&self, folder: &Path) -> Vec<PathBuf>;
    /// Returns whether a policy may include a file. A file that does not exist is not refused here:
    /// reading it fails.
    fn allows(&self, policy: &Path, file: &Path) -> bool;
}

/// The file system.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Folders whose files any policy may include, in addition to its own folder.
    pub include_roots: Vec<PathBuf>,
}

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<Source, FileError> {
        Source::read(path)
    }

    fn real(&self, path: &Path) -> PathBuf {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }

    fn list(&self, folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort_unstable();
        paths
    }

    /// Compares real paths, so that neither `..` nor a symbolic link leads out of a folder.
    fn allows(&self, policy: &Path, file: &Path) -> bool {
        let Ok(real) = fs::canonicalize(file) else { return !file.exists() };
        let own = policy.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let mut folders = self.include_roots.iter().map(PathBuf::as_path).chain([own]);
        folders.any(|folder| fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder)))
    }
}

/// A policy with all that it is made of: its file, those that it includes, and the catalogues beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The policy's own file.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Texts by the paths by which they are read.
    #[schema(value_type = BTreeMap<String, String>)]
    pub files: BTreeMap<PathBuf, String>,
}

impl Bundle {
    /// Reads a policy from disk, and takes along whatever it is made of.
    ///
    /// # Errors
    /// If a file cannot be read or has mistakes.
    pub fn load(disk: &Disk, path: &Path) -> Result<(Self, Policy), FileError> {
        let (bundle, policy) = Self::read(disk, path);
        Ok((bundle, policy?))
    }

    /// The same of files that may be of no use: what there is of them, and the policy or what is wrong. Its hash tells whether they are the same at another time.
    pub fn read(disk: &Disk, path: &Path) -> (Self, Result<Policy, FileError>) {
        let noting = Noting { disk, files: RefCell::default() };
        let policy = Policy::load_from(&noting, path);
        (Self { path: path.to_owned(), files: noting.files.into_inner() }, policy)
    }

    /// The policy.
    ///
    /// # Errors
    /// If a file is missing or has mistakes.
    pub fn policy(&self) -> Result<Policy, FileError> {
        Policy::load_from(self, &self.path)
    }

    /// SHA-256 in hexadecimal: of the policy's text; if there are other files, behind it of each the path, a zero byte, the text's length in eight bytes
    /// (big-endian) and the text, in the order of their paths.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.files.get(&self.path).map_or("", String::as_str));
        for (path, text) in self.files.iter().filter(|(path, _)| **path != self.path) {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Files for Bundle {
    fn read(&self, path: &Path) -> Result<Source, FileError> {
        let name = path.display().to_string();
        match self.files.get(path) {
            Some(text) => Ok(Source::new(&name, text.clone())),
            None => Err(FileError::Read(name, io::ErrorKind::NotFound.into())),
        }
    }

    fn real(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn list(&self, folder: &Path) -> Vec<PathBuf> {
        self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect()
    }

    /// Allows all: it has no files but those that were sent.
    fn allows(&self, _: &Path, _: &Path) -> bool {
        true
    }
}

/// The file system, and what was read from it.
struct Noting<'a> {
    disk: &'a Disk,
    files: RefCell<BTreeMap<PathBuf, String>>,
}

impl Files for Noting<'_> {
    fn read(&self, path: &Path) -> Result<Source, FileError> {
        let source = self.disk.read(path)?;
        self.files.borrow_mut().insert(path.to_owned(), source.text.clone());
        Ok(source)
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.disk.real(path)
    }

    fn list(&self, folder: &Path) -> Vec<PathBuf> {
        self.disk.list(folder)
    }

    fn allows(&self, policy: &Path, file: &Path) -> bool {
        self.disk.allows(policy, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_the_policy_that_was_on_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(&path, text).expect("a file");
            path
        };
        let path = file(
            "policy.toml",
            "include = [\"more/servers.toml\"]\ndefault = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"mail\", \"own/one\"]\n",
        );
        file("more/servers.toml", "[[service]]\nname = \"mail\"\nto = [\"192.0.2.1\"]\nports = [\"tcp/25\"]\n");
        file(
            "catalog/own.toml",
            "title = \"Own\"\nsource = \"us\"\ndate = \"2026\"\n[[service]]\nname = \"one\"\ntitle = \"One\"\npurpose = \"p\"\n[[service.entry]]\nhosts = [\"192.0.2.2\"]\nports = [\"tcp/1\"]\n",
        );
        let (bundle, policy) = Bundle::load(&Disk::default(), &path).expect("a policy");
        fs::remove_dir_all(folder.path()).expect("to be removed");
        let sent: Bundle = serde_json::from_str(&serde_json::to_string(&bundle).expect("JSON")).expect("a bundle");
        assert_eq!(sent, bundle);
        let services = |policy: &Policy| policy.services.iter().map(|service| service.name.clone()).collect::<Vec<_>>();
        assert_eq!(services(&sent.policy().expect("the same")), services(&policy));
        assert_eq!(services(&policy), ["mail", "own/one"]);
        assert_eq!(bundle.files.len(), 3);
    }

    #[test]
    fn files_with_mistakes_have_a_hash_by_which_they_are_known_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let hash = |text: &str| {
            fs::write(&path, text).expect("a file");
            let (bundle, policy) = Bundle::read(&Disk::default(), &path);
            assert!(policy.is_err(), "{text}");
            bundle.sha256()
        };
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_ne!(hash("abd"), hash("abc"));
    }

    #[test]
    fn a_bundle_without_a_file_says_which() {
        let bundle =
            Bundle { path: "p.toml".into(), files: [("p.toml".into(), "include = [\"q.toml\"]\n".into())].into() };
        let error = bundle.policy().expect_err("no q.toml").to_string();
        assert!(error.contains("cannot read q.toml"), "{error}");
        let gone = Bundle::default().policy().expect_err("nothing").to_string();
        assert!(gone.contains("cannot read"), "{gone}");
    }

    #[test]
    fn the_hash_of_one_file_is_the_files_own() {
        let bundle = Bundle { path: "p".into(), files: [("p".into(), "abc".into())].into() };
        assert_eq!(bundle.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
