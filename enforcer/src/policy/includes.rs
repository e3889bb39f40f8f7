//! A policy's files: its own, and those that it includes.

use std::{
    cell::OnceCell,
    collections::HashMap,
    error::Error as _,
    path::{Path, PathBuf},
    slice,
};

use toml::de::DeTable;

use super::{diagnostics::Diagnostics, files::Files, reader::Reader, source::Source, words::Wrong};

/// Files of one policy.
const MOST_FILES: usize = 64;
/// Files in a chain of includes, the policy itself among them.
const DEEPEST: usize = 8;

/// Where the texts of all files stay while tables borrow from them.
pub type Shelf = [OnceCell<Source>; MOST_FILES];

/// An empty one.
pub fn shelf() -> Shelf {
    [const { OnceCell::new() }; MOST_FILES]
}

/// One of a policy's files.
pub struct File<'a> {
    /// Its text.
    pub source: &'a Source,
    /// What the text says.
    pub table: DeTable<'a>,
    /// Its name as the `include` has it; the policy itself has none.
    pub included: Option<String>,
}

/// The files of a policy, each behind those that it includes, and the policy itself last. `place` is where it and they are read from; without, it can include
/// nothing.
pub fn read<'a>(
    root: Source,
    place: Option<(&dyn Files, &'a Path)>,
    shelf: &'a Shelf,
) -> Result<Vec<File<'a>>, Diagnostics> {
    let [first, free @ ..] = shelf;
    let root = first.get_or_init(|| root);
    let mut includes = Includes {
        free: free.iter(),
        reader: Reader::new(root),
        files: Vec::new(),
        chain: Vec::new(),
        seen: HashMap::new(),
        policy: place.map(|(_, path)| path),
    };
    includes.add(root, place, None);
    includes.reader.faultless()?;
    Ok(includes.files)
}

struct Includes<'a> {
    free: slice::Iter<'a, OnceCell<Source>>,
    reader: Reader<'a>,
    files: Vec<File<'a>>,
    /// The files that include the one being read, and itself: where they really are, and what people call them.
    chain: Vec<(PathBuf, String)>,
    /// Which file includes what is there.
    seen: HashMap<PathBuf, String>,
    /// The policy's own path.
    policy: Option<&'a Path>,
}

impl<'a> Includes<'a> {
    fn add(&mut self, source: &'a Source, place: Option<(&dyn Files, &Path)>, included: Option<String>) {
        let table = self.reader.parse(source);
        match (table.get("include"), place) {
            (None, _) => {}
            (Some(value), None) => {
                let help = "paths are relative to the file that includes them: save the policy and name its file";
                self.reader.wrong(value.span(), "a policy that is no file cannot include others", help);
            }
            (Some(value), Some((files, path))) => {
                self.chain.push((files.real(path), source.name.clone()));
                for (span, written) in self.reader.strings(value, "include", "[\"servers.toml\"]") {
                    let path = path.with_file_name("").join(&written);
                    match self.open(files, &path, &source.name) {
                        Ok(inner) => {
                            self.add(inner, Some((files, &path)), Some(written));
                            self.reader.turn_to(source);
                        }
                        Err((message, help)) => self.reader.wrong(span, message, help),
                    }
                }
                self.chain.pop();
            }
        }
        self.files.push(File { source, table, included });
    }

    /// Reads a file that `by` includes.
    fn open(&mut self, files: &dyn Files, path: &Path, by: &str) -> Result<&'a Source, Wrong> {
        let name = path.display();
        let place = files.real(path);
        if self.policy.is_some_and(|policy| !files.allows(policy, path)) {
            let help = "move it there, or allow its folder with --include-root";
            return Err((format!("{name} is outside the policy's folder"), help.into()));
        }
        if let Some(start) = self.chain.iter().position(|(other, _)| *other == place) {
            let chain = self.chain[start..].iter().map(|(_, name)| name.as_str()).chain([self.chain[start].1.as_str()]);
            let chain = chain.collect::<Vec<_>>().join(" → ");
            return Err(("files include each other in a circle".into(), format!("take one out of {chain}")));
        }
        if let Some(other) = self.seen.insert(place, by.to_owned()) {
            let help = format!("{other} includes it: once is enough, names are known in all files");
            return Err((format!("{name} is included twice"), help));
        }
        if self.chain.len() == DEEPEST {
            let help = "include it from a file that is nearer to the policy";
            return Err((format!("{name} would be the {}th file of a chain of includes", DEEPEST + 1), help.into()));
        }
        let source = files.read(path).map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            (format!("{error}{cause}"), "paths are relative to the file that includes them".to_owned())
        })?;
        let free = self.free.next().ok_or_else(|| {
            (format!("{name} is one file too many: a policy has at most {MOST_FILES}"), "join some of them".to_owned())
        })?;
        Ok(free.get_or_init(|| source))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::policy::{Bundle, FileError, Policy, Schedule, ScheduleId, files::Disk};

    /// Loads the first of some files in a folder of their own.
    fn load(files: &[(&str, &str)]) -> Result<(Policy, String), FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let (bundle, policy) = Bundle::load(&Disk::default(), &folder.path().join(files[0].0))?;
        Ok((policy, bundle.sha256()))
    }

    /// The only mistake in some files: the file that it is in, its place, message and help.
    fn mistake(files: &[(&str, &str)]) -> (String, usize, usize, String) {
        let error = load(files).expect_err("a mistake");
        let FileError::Mistakes(mistakes) = error else { panic!("{error}") };
        assert_eq!(mistakes.mistakes.len(), 1, "{mistakes}");
        let one = &mistakes.mistakes[0];
        let file = Path::new(&one.file).file_name().expect("a name").to_string_lossy().into_owned();
        (file, one.line, one.column, format!("{}: {}", one.message, one.help))
    }

    const NAMED: &str = "[[rule]]\nname = \"a\"\naction = \"drop\"\n";

    #[test]
    fn what_is_included_comes_first_and_names_are_known_everywhere() {
        let policy = "default = \"drop\"\ninclude = [\"parts/a.toml\", \"b.toml\"]\n[prefixes]\npupils = [\"10.1.0.0/16\"]\n[[rule]]\naction = \"drop\"\nwhen = \"night\"\n";
        let a = "include = [\"c.toml\"]\n[exempt]\nfrom = [\"$pupils\"]\n[[rule]]\naction = \"allow\"\nservices = [\"mail\"]\n";
        let b = "comment = \"b\"\n[exempt]\nfrom = [\"10.2.0.0/16\"]\n[[service]]\nname = \"mail\"\nto = [\"17.0.0.0/8\"]\n";
        let c = "[[schedule]]\nname = \"night\"\nzone = \"UTC\"\ntimes = [\"22:00-06:00\"]\n[[rule]]\naction = \"reject\"\n";
        let (read, hash) = load(&[("p.toml", policy), ("parts/a.toml", a), ("b.toml", b), ("parts/c.toml", c)])
            .unwrap_or_else(|error| panic!("{error}"));
        let labels: Vec<String> = read.lan.rules.iter().map(crate::policy::Rule::label).collect();
        assert_eq!(labels, ["exempt-from", "c.toml:5", "parts/a.toml:4", "line-5"]);
        assert_eq!(read.lan.rules[0].from.as_ref().map(Vec::len), Some(2));
        assert_eq!(read.lan.rules[3].when, Some(ScheduleId(0)));
        assert!(matches!(read.schedules.as_slice(), [Schedule { name, .. }] if name == "night"));
        // One of the files has changed.
        let (_, other) =
            load(&[("p.toml", policy), ("parts/a.toml", a), ("b.toml", &b.replace("17", "18")), ("parts/c.toml", c)])
                .expect("valid");
        assert_ne!(hash, other);
    }

    #[test]
    fn included_files_lie_below_the_policys_folder() {
        let outer = tempfile::tempdir().expect("a folder");
        let at = |name: &str| outer.path().join(name);
        let file = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().expect("a parent")).expect("a folder");
            fs::write(at(name), text).expect("a file");
        };
        for name in ["own/a.toml", "own/sub/a.toml", "other/a.toml", "own-too/a.toml"] {
            file(name, "comment = \"a\"\n");
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).expect("a link");
        link("../other/a.toml", "own/link.toml");
        link("sub/a.toml", "own/inner.toml");
        link("../other", "own/folder");
        link("own/p.toml", "linked.toml");
        let load = |policy: &str, include: &str, roots: &[&str]| {
            file("own/p.toml", &format!("default = \"drop\"\ninclude = [\"{include}\"]\n"));
            let disk = Disk { include_roots: roots.iter().map(|root| at(root)).collect() };
            Bundle::load(&disk, &at(policy)).map(drop).map_err(|error| error.to_string())
        };
        for include in ["a.toml", "./sub/../a.toml", "../own/a.toml", "sub/a.toml", "inner.toml"] {
            assert_eq!(load("own/p.toml", include, &[]), Ok(()), "{include}");
        }
        let absolute = at("other/a.toml").display().to_string();
        for include in ["../other/a.toml", "sub/../../other/a.toml", "link.toml", "folder/a.toml", &absolute] {
            let error = load("own/p.toml", include, &[]).expect_err(include);
            assert!(error.contains("outside the policy's folder"), "{error}");
            assert_eq!(load("own/p.toml", include, &["nothing", "other"]), Ok(()), "{include}");
        }
        assert!(load("own/p.toml", "../own-too/a.toml", &["other"]).is_err(), "a folder of a similar name");
        let missing = load("own/p.toml", "../missing.toml", &[]).expect_err("no file");
        assert!(missing.contains("No such file"), "{missing}");
        // The folder is the one that the policy's path names, not the one that a link leads to.
        let error = load("linked.toml", "other/a.toml", &[]);
        assert_eq!(error, Ok(()));
        link("../other", "own/catalog");
        let error = load("own/p.toml", "a.toml", &[]).expect_err("a catalogue of another folder");
        assert!(error.contains("catalog/a.toml is outside the policy's folder"), "{error}");
    }

    #[test]
    fn mistakes_are_told_in_the_file_that_they_are_in() {
        let policy = "default = \"drop\"\ninclude = [\"a.toml\"]\n";
        let own = |file: &str, line, column, part: &str, files: &[(&str, &str)]| {
            let (at, line_at, column_at, said) = mistake(files);
            assert_eq!((at.as_str(), line_at, column_at), (file, line, column), "{said}");
            assert!(said.contains(part), "{said}");
        };
        own("p.toml", 2, 12, "No such file", &[("p.toml", policy)]);
        own("a.toml", 1, 1, "write it in the policy itself", &[("p.toml", policy), ("a.toml", "default = \"drop\"\n")]);
        own("a.toml", 1, 5, "TOML", &[("p.toml", policy), ("a.toml", "x = \n")]);
        own("a.toml", 1, 1, "unknown key \"x\"", &[("p.toml", policy), ("a.toml", "x = 1\n")]);
        own("p.toml", 4, 8, "a.toml, line 2", &[("p.toml", &format!("{policy}{NAMED}")), ("a.toml", NAMED)]);
        own("a.toml", 1, 12, "a.toml → ", &[("p.toml", policy), ("a.toml", "include = [\"a.toml\"]\n")]);
        own("a.toml", 1, 12, "p.toml → ", &[("p.toml", policy), ("a.toml", "include = [\"./p.toml\"]\n")]);
        let twice = "default = \"drop\"\ninclude = [\"a.toml\", \"./a.toml\"]\n";
        own("p.toml", 2, 22, "included twice", &[("p.toml", twice), ("a.toml", "")]);
    }

    #[test]
    fn chains_and_numbers_of_files_have_their_limits() {
        let named: Vec<String> = (0..=MOST_FILES).map(|number| format!("{number}.toml")).collect();
        let deep: Vec<String> = (1..=MOST_FILES).map(|number| format!("include = [\"{number}.toml\"]\n")).collect();
        let first = format!("default = \"drop\"\n{}", deep[0]);
        let mut files: Vec<(&str, &str)> =
            named.iter().zip(&deep).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        files[0].1 = &first;
        let (file, .., said) = mistake(&files);
        assert!(file == "7.toml" && said.contains("9th file"), "{file}: {said}");

        let wide = format!("default = \"drop\"\ninclude = {:?}\n", &named[1..]);
        let mut files: Vec<(&str, &str)> = named.iter().map(|name| (name.as_str(), "")).collect();
        files[0].1 = &wide;
        let (file, .., said) = mistake(&files);
        assert!(file == "0.toml" && said.contains("at most 64"), "{file}: {said}");
    }
}
