//! The program's own catalogues, names, and mistakes.

use proptest::prelude::*;

use super::{pattern::NotAPattern, *};
use crate::policy::files::Disk;

#[test]
fn apples_services_are_all_there() {
    let catalogs = Catalogs::default();
    let services = catalogs.find("apple/*");
    let hosts: usize = services.iter().map(|(_, service)| service.hosts().count()).sum();
    assert_eq!((services.len(), hosts), (28, 170));
    assert!(services.iter().all(|(_, service)| !service.tags.is_empty() && !service.purpose.is_empty()));
}

#[test]
fn services_are_found_by_name_vendor_and_tag() {
    let catalogs = Catalogs::default();
    let names = |wanted: &str| -> Vec<String> {
        catalogs
            .find(wanted)
            .into_iter()
            .map(|(catalog, service)| format!("{}/{}", catalog.name, service.name))
            .collect()
    };
    assert_eq!(names("apple/apns"), ["apple/apns"]);
    assert_eq!(names("tag:relay"), ["apple/private-relay"]);
    assert!(names("tag:mdm").contains(&"apple/software-update".to_owned()));
    assert_eq!(names("apple/nothing"), [""; 0]);
    assert_eq!(names("apns"), [""; 0]);
    assert!(catalogs.words().any(|word| word == "tag:mdm"));
}

#[test]
fn private_relay_is_named_exactly_so_that_its_addresses_are_known_ahead() {
    let catalogs = Catalogs::default();
    let (_, relay) = catalogs.find("apple/private-relay")[0];
    for name in ["mask.icloud.com", "mask-h2.icloud.com"] {
        let entry =
            relay.entries.iter().find(|entry| entry.hosts.iter().any(|host| host.to_string() == name)).expect(name);
        assert!(entry.ports.iter().map(ToString::to_string).eq(["tcp/443", "udp/443"]), "{name}");
    }
}

#[test]
fn dns_elsewhere_is_known_by_ports_names_and_addresses() {
    let catalogs = Catalogs::default();
    let found = catalogs.find("tag:dns-elsewhere");
    assert_eq!(
        found.iter().map(|(_, service)| service.name.as_str()).collect::<Vec<_>>(),
        ["plain", "dot", "doh", "discovery"]
    );
    let all: Vec<(String, String)> = found
        .iter()
        .flat_map(|(_, service)| &service.entries)
        .flat_map(|entry| {
            entry.hosts.iter().flat_map(|host| entry.ports.iter().map(move |port| (host.to_string(), port.to_string())))
        })
        .collect();
    for (host, port) in [
        ("0.0.0.0/0", "udp/53"),
        ("::/0", "tcp/853"),
        ("dns.google", "tcp/443"),
        ("1.1.1.1/32", "udp/443"),
        ("2620:fe::fe/128", "tcp/443"),
        ("use-application-dns.net", "tcp/443"),
    ] {
        assert!(all.contains(&(host.into(), port.into())), "{host} {port}");
    }
}

#[test]
fn push_has_its_names_and_apples_address_blocks() {
    let catalogs = Catalogs::default();
    let (_, push) = catalogs.find("apple/apns")[0];
    // What devices keep open goes through no proxy.
    let names = push.entries.iter().filter(|entry| entry.hosts.iter().all(|host| host.prefix().is_none()));
    let names: Vec<_> = names
        .map(|entry| {
            let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
            let hosts = words(&mut entry.hosts.iter().map(Host::to_string));
            (hosts, words(&mut entry.ports.iter().map(ToString::to_string)), entry.proxy)
        })
        .collect();
    let name = "*.push.apple.com".to_owned();
    assert_eq!(names, [(name.clone(), "tcp/5223".into(), false), (name, "tcp/80 tcp/443 tcp/2197".into(), true)]);
    let prefixes = push.hosts().filter(|host| matches!(host, Host::Prefix(_))).count();
    assert_eq!(prefixes, 9);
    assert!(
        push.entries.iter().filter(|entry| entry.hosts.iter().all(|host| host.prefix().is_some())).all(|entry| entry
            .ports
            .iter()
            .map(ToString::to_string)
            .eq(["tcp/80", "tcp/443", "tcp/2197", "tcp/5223"]))
    );
}

#[test]
fn a_catalogue_beside_a_policy_joins_and_one_of_apples_replaces() {
    let folder = std::env::temp_dir().join(format!("enforcer-catalog-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("catalog")).expect("a folder");
    let text = |name: &str| {
        format!(
            "title = \"T\"\nsource = \"S\"\ndate = \"D\"\n[[service]]\nname = \"{name}\"\ntitle = \"T\"\npurpose = \"P\"\n[[service.entry]]\nhosts = [\"example.com\"]\nports = [\"tcp/443\"]\n"
        )
    };
    for (file, service) in [("school.toml", "portal"), ("apple.toml", "mine")] {
        std::fs::write(folder.join("catalog").join(file), text(service)).expect("a file");
    }
    let catalogs = Catalogs::beside(&Disk::default(), &folder.join("policy.toml")).expect("two catalogues");
    std::fs::remove_dir_all(&folder).expect("the folder");
    assert_eq!((catalogs.find("school/portal").len(), catalogs.find("apple/*").len()), (1, 1));
}

#[test]
fn each_kind_of_mistake_is_told_with_its_place() {
    let good = "title = \"T\"\nsource = \"S\"\ndate = \"D\"\n";
    let service = "[[service]]\nname = \"a\"\ntitle = \"T\"\npurpose = \"P\"\n";
    let entry = "[[service.entry]]\nhosts = [\"a.example\"]\nports = [\"tcp/1\"]\n";
    let cases = [
        (String::from("titel = \"T\"\nsource = \"S\"\ndate = \"D\"\n"), 1, "unknown key \"titel\""),
        (format!("{good}{service}"), 4, "no entries"),
        (format!("{good}{service}[[service.entry]]\nports = [\"tcp/1\"]\n"), 8, "no hosts"),
        (
            format!("{good}{service}[[service.entry]]\nhosts = [\"17.0.0.1/8\"]\nports = [\"tcp/1\"]\n"),
            9,
            "bits set beyond",
        ),
        (
            format!("{good}{service}[[service.entry]]\nhosts = [\"*apple.com\"]\nports = [\"tcp/1\"]\n"),
            9,
            "not an address",
        ),
        (format!("{good}{service}{entry}proxy = \"yes\"\n"), 11, "where true or false is expected"),
        (format!("{good}{service}{entry}{service}{entry}"), 11, "already a service"),
    ];
    for (text, line, message) in cases {
        let mistakes = Catalog::parse("c", "c.toml", &text).expect_err(&text).mistakes;
        assert!(mistakes.iter().any(|m| m.line == line && m.message.contains(message)), "{text}\n{mistakes:?}");
    }
}

proptest! {
    #[test]
    fn names_print_as_they_are_read(text in "(\\*\\.)?[a-z0-9_]{1,9}(\\.[a-z0-9]{1,5}){0,3}\\.[a-z]{2,6}") {
        let pattern: Pattern = text.parse().expect("a name");
        prop_assert_eq!(pattern.to_string(), text);
    }

    #[test]
    fn no_text_makes_the_parser_of_names_panic(text in "\\PC*") {
        let _ = text.parse::<Pattern>();
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for text in [
        "",
        "*",
        "*.",
        "com",
        "a..b",
        ".a.b",
        "a.b.",
        "-a.b",
        "a-.b",
        "a b.c",
        "1.2.3.4",
        "*.*.a.b",
        "b*.a.c",
        "a/b.c",
        "ä..de",
        "\u{200b}.de",
    ] {
        assert_eq!(text.parse::<Pattern>(), Err(NotAPattern), "{text}");
    }
    assert_eq!(
        "*.Bücher.example".parse::<Pattern>().map(|name| name.to_string()),
        Ok("*.xn--bcher-kva.example".into())
    );
    assert_eq!("WWW.Apple.COM".parse::<Pattern>().map(|name| name.to_string()), Ok("www.apple.com".to_owned()));
    assert!(format!("{}.com", "a".repeat(63)).parse::<Pattern>().is_ok());
    assert!(format!("{}.com", "a".repeat(64)).parse::<Pattern>().is_err());
}
