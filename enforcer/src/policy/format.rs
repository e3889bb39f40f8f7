//! The canonical layout of policies and catalogues: spaces, blank lines and the breaking of lists; words, order and comments stay.

use toml_edit::{Array, Decor, DocumentMut, Item, KeyMut, RawString, Table, TomlError, Value};

use super::{diagnostics::Diagnostics, source::Source};

/// A list on one line ends by here.
const WIDTH: usize = 100;
/// Comments behind lines that are longer do not move those of others.
const MOST_ALIGNED: usize = 60;
const INDENT: usize = 4;
/// Stands before a comment behind a value until it is aligned; TOML has it nowhere.
const MARK: char = '\u{1}';

/// A file's text in canonical layout.
///
/// # Errors
/// If it is not TOML.
pub fn format(source: &Source) -> Result<String, Diagnostics> {
    let mut document: DocumentMut = source.text.parse().map_err(|error: TomlError| {
        let mut mistakes = Diagnostics::default();
        let help = "the file is TOML: see https://toml.io";
        mistakes.add(source, error.span().unwrap_or(0..0), error.message().trim(), help);
        mistakes
    })?;
    table(document.as_table_mut(), 0, &mut true);
    let end = lines(&format!("{}\n", raw(Some(document.trailing()))));
    document.set_trailing(end);
    let text = align(&document.to_string());
    let text = text.trim_matches('\n');
    Ok(if text.is_empty() { String::new() } else { format!("{text}\n") })
}

/// A table's keys, and the tables below it; `first` is whether nothing of the table has been seen yet.
fn table(of: &mut Table, depth: usize, first: &mut bool) {
    for (mut key, item) in of.iter_mut() {
        key.dotted_decor_mut().clear();
        match item {
            Item::Value(value) => pair(&mut key, value, std::mem::take(first)),
            Item::Table(dotted) if dotted.is_dotted() => table(dotted, depth, first),
            Item::Table(inner) => {
                key.leaf_decor_mut().clear();
                header(inner, depth + 1);
            }
            Item::ArrayOfTables(array) => {
                key.leaf_decor_mut().clear();
                array.iter_mut().for_each(|inner| header(inner, depth + 1));
            }
            Item::None => {}
        }
    }
}

/// A blank line before `[table]`; before `[table.part]`, as it was written.
fn header(of: &mut Table, depth: usize) {
    let above = lines(raw(of.decor().prefix()));
    let gap = if depth == 1 && !above.starts_with('\n') { "\n" } else { "" };
    let behind = comment(raw(of.decor().suffix()));
    *of.decor_mut() = Decor::new(format!("{gap}{above}"), behind);
    table(of, depth, &mut true);
}

/// `key = value  # comment`.
fn pair(key: &mut KeyMut<'_>, of: &mut Value, first: bool) {
    let above = lines(raw(key.leaf_decor().prefix()));
    let above = if first { above.trim_start_matches('\n') } else { &above };
    *key.leaf_decor_mut() = Decor::new(above, " ");
    let behind = comment(raw(of.decor().suffix()));
    of.decor_mut().clear();
    value(of, 0, key.get().chars().count() + " = ".len());
    *of.decor_mut() = Decor::new(" ", behind);
}

/// A value that stands behind `used` columns of a line, which is indented by `indent`.
fn value(of: &mut Value, indent: usize, used: usize) {
    match of {
        Value::Array(items) => array(items, indent, used),
        // Whoever writes comments into it has a layout in mind.
        Value::InlineTable(pairs) if !pairs.to_string().contains('#') => {
            pairs.fmt();
            pairs.set_trailing("");
            pairs.set_trailing_comma(false);
            pairs.iter_mut().for_each(|(_, of)| value(of, indent, used));
        }
        _ => {}
    }
}

/// On one line if it fits and has no comments; otherwise an item a line.
fn array(of: &mut Array, indent: usize, used: usize) {
    let inner = indent + INDENT;
    // What stands before each item, then before the bracket.
    let mut gaps = Vec::with_capacity(of.len() + 1);
    let mut behind = String::new();
    for item in of.iter_mut() {
        gaps.push(behind + raw(item.decor().prefix()));
        behind = raw(item.decor().suffix()).to_owned();
        item.decor_mut().clear();
        value(item, inner, inner);
    }
    gaps.push(behind + raw(Some(of.trailing())));
    for (index, item) in of.iter_mut().enumerate() {
        item.decor_mut().set_prefix(if index == 0 { "" } else { " " });
    }
    of.set_trailing("");
    of.set_trailing_comma(false);
    let line = of.to_string();
    if gaps.iter().all(|gap| !gap.contains('#')) && !line.contains('\n') && used + line.chars().count() <= WIDTH {
        return;
    }

    let mut gaps = gaps.iter().enumerate().map(|(index, gap)| {
        // A comment behind the bracket is about what follows.
        let (behind, above) = gap.split_once('\n').filter(|_| index > 0).unwrap_or(("", gap));
        let above = above.split('\n').map(str::trim).filter(|line| !line.is_empty());
        let above = above.map(|line| format!("{}{line}\n", " ".repeat(inner)));
        format!("{}\n{}", comment(behind), above.collect::<String>())
    });
    for (item, gap) in of.iter_mut().zip(gaps.by_ref()) {
        item.decor_mut().set_prefix(format!("{gap}{}", " ".repeat(inner)));
    }
    let end = gaps.next().unwrap_or_default();
    of.set_trailing(format!("{end}{}", " ".repeat(indent)));
    of.set_trailing_comma(!of.is_empty());
}

/// Whole lines of comments and blanks, the latter never two in a row.
fn lines(raw: &str) -> String {
    let Some((whole, _)) = raw.rsplit_once('\n') else { return String::new() };
    let mut lines: Vec<&str> = whole.split('\n').map(str::trim).collect();
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What is written behind a value, ready to be aligned.
fn comment(raw: &str) -> String {
    let comment = raw.trim();
    if comment.is_empty() { String::new() } else { format!("{MARK}{comment}") }
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

/// Puts the comments that stand behind something below each other.
fn align(text: &str) -> String {
    let lines = || text.split('\n').map(|line| line.split_once(MARK).unwrap_or((line, "")));
    let widths = lines().filter(|(_, comment)| !comment.is_empty()).map(|(code, _)| code.chars().count());
    let column = widths.filter(|&width| width <= MOST_ALIGNED).max().unwrap_or(0);
    let lines = lines().map(
        |(code, comment)| {
            if comment.is_empty() { code.to_owned() } else { format!("{code:column$}  {comment}") }
        },
    );
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formatted(text: &str) -> String {
        format(&Source::new("p", text.to_owned())).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    /// Layout may change; a second time it does not, and what the file says never does.
    fn keeps(text: &str) -> String {
        let once = formatted(text);
        assert_eq!(formatted(&once), once, "{text}");
        let read = |text: &str| toml::from_str::<toml::Table>(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(read(&once), read(text), "{once}");
        let comments = |text: &str| text.matches('#').count();
        assert_eq!(comments(&once), comments(text), "{once}");
        once
    }

    #[test]
    fn spaces_blank_lines_and_comments_have_their_places() {
        let text = "\n\n# head  \n\n\n\n  default='drop'#why\n[ inbound ]\n\n\n  default  =  \"allow\"   # replies\n # timeouts\n[inbound . timeouts] # short\n udp=1\n\n[[rule]]\n[[rule]]\n#end";
        let wanted = "# head\n\ndefault = 'drop'    #why\n\n[inbound]\ndefault = \"allow\"   # replies\n# timeouts\n[inbound.timeouts]  # short\nudp = 1\n\n[[rule]]\n\n[[rule]]\n#end\n";
        assert_eq!(keeps(text), wanted);
    }

    #[test]
    fn lists_are_broken_where_they_are_long_or_have_comments() {
        assert_eq!(keeps("a = [ 1,2 ,\n3, ]"), "a = [1, 2, 3]\n");
        assert_eq!(keeps("a = [\n]"), "a = []\n");
        let item = "\"0123456789\"";
        let (fits, long) = ([item; 6].join(", "), [item; 8].join(","));
        assert_eq!(keeps(&format!("a=[{fits}]")), format!("a = [{fits}]\n"));
        assert_eq!(keeps(&format!("a=[{long}]")), format!("a = [\n{}]\n", format!("    {item},\n").repeat(8)));
        let text = "a = [ # all\n  1, # one\n\n  # two is\n  # next\n  2 # two\n  , 3\n  # no more\n] # list";
        let wanted = "a = [\n    # all\n    1,  # one\n    # two is\n    # next\n    2,  # two\n    3,\n    # no more\n]       # list\n";
        assert_eq!(keeps(text), wanted);
    }

    #[test]
    fn awkward_files_are_kept() {
        for text in [
            "",
            "# only a comment",
            "a.b.c = 1 # x\na . d = 2",
            "a = { b = [ 1,2 ],c=3 }",
            "a = { b = 1, # x\n c = 2 }",
            "a = [{ b=1 }, { c = [[1],[2, # x\n3]] }]",
            "a = \"\"\"\n  # no comment  \n\n\n\"\"\" # comment",
            "a = '''\r\nx'''\r\n\r\n\r\n# c\r\nb = [\r\n1, # d\r\n]\r\n",
            "\"quoted key\" = 1\n[\"x y\" . z] # t\n'q' = 2",
            "[b]\nx = 1\n[a.c]\n[a] # later\ny = 2",
            "a = []# x\nb = [ # y\n]",
            "\u{feff}a = 1",
        ] {
            keeps(text);
        }
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        let error = format(&Source::new("p.toml", "a = 1\nb = \n".into())).expect_err("a mistake");
        assert_eq!((error.mistakes[0].file.as_str(), error.mistakes[0].line), ("p.toml", 2));
    }

    #[test]
    fn ready_policies_and_catalogues_are_in_canonical_layout() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        for folder in [folder.join("catalog"), folder] {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|ending| ending == "toml") {
                    let source = Source::read(&path).expect("a file");
                    assert!(keeps(&source.text) == source.text, "run: enforcer fmt {}", path.display());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_layout_changes_what_a_file_says(parts in prop::collection::vec(prop::sample::select(vec![
            "k = 1", "k = [1,2]", "k = [ # c\n1\n,2]", "k.l = 'x'", "[k]", "[[k]]", "[k.l]", "[[k.l]]", "# c", " # d ", "", "  ",
        ]), 0..24)) {
            // Names of their own: nothing is there twice.
            let named = parts.iter().enumerate().map(|(index, part)| format!("{}\n", part.replacen('k', &format!("k{index}"), 1)));
            keeps(&named.collect::<String>());
        }

        #[test]
        fn no_text_makes_it_panic(text in "([\\[\\]{}=,.#\"'\n\r a-b]|\\PC){0,40}") {
            let _ = format(&Source::new("p", text));
        }
    }
}
