//! Any text as a policy: it is one or has mistakes, and what is printed of one means the same.
use enforcer::{
    catalog::Catalogs,
    compile::{self, Image, Limits},
    policy::Policy,
};
use std::sync::LazyLock;

static CATALOGS: LazyLock<Catalogs> = LazyLock::new(Catalogs::default);

/// Far below what the product allows, so that refusals are reached, too.
const LIMITS: Limits = Limits { blocks: 1024, hosts: 64, learned: 64, clauses: 64, class_words: 16_384 };

fn tables(policy: &Policy) -> Option<Image> {
    compile::compile(policy, &LIMITS, 1).ok()
}

/// Checks one input, and returns whether it is valid.
///
/// # Panics
/// If the input shows a fault.
pub fn check(text: &str) -> bool {
    let Ok(policy) = Policy::parse("fuzz", text, &CATALOGS) else { return false };
    let printed = policy.to_string();
    let again =
        Policy::parse("printed", &printed, &CATALOGS).unwrap_or_else(|mistakes| panic!("{mistakes}\n{printed}"));
    assert_eq!(again.to_string(), printed);
    match (tables(&policy), tables(&again)) {
        (Some(one), Some(other)) => {
            let same = one.roots.iter().zip(&other.roots).all(|(a, b)| {
                let destinations = a.dst4 == b.dst4 && a.dst6 == b.dst6;
                destinations && a.src4 == b.src4 && a.src6 == b.src6 && a.ports == b.ports && a.words == b.words
            });
            assert!(same && one.blocks == other.blocks && one.long6 == other.long6, "other tables\n{printed}");
            assert!(one.usage == other.usage && one.words.pseudo == other.words.pseudo, "other words\n{printed}");
        }
        (None, None) => {}
        _ => panic!("only one of the two is refused\n{printed}"),
    }
    true
}
