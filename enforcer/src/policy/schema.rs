//! The JSON Schema of policies, by which editors complete and explain.

/// Draft 7, which TOML editors read. It has the shapes of words; what they mean together, only the parser knows.
pub const SCHEMA: &str = include_str!("../../../policies/policy.schema.json");

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::policy::{Dns, NameTimes, Timeouts, keys, tests::EVERY_WORD, words};

    /// What is wrong with a policy by the schema.
    fn mistakes(text: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let validator = jsonschema::draft7::new(&schema).expect("a schema");
        let policy: Value = toml::from_str(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        validator.iter_errors(&policy).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    #[test]
    fn it_is_a_draft_7_schema() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        assert!(jsonschema::draft7::meta::is_valid(&schema));
    }

    #[test]
    fn it_knows_the_keys_that_the_parser_knows() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let mut timeouts = Timeouts::default();
        let timeouts = timeouts.named().map(|(key, _)| key);
        let names = NameTimes::default().named().map(|(key, _)| key);
        let tables: [(&str, &[&str]); 14] = [
            ("", keys::POLICY),
            ("/properties/exempt", keys::EXEMPT),
            ("/definitions/schedule", keys::SCHEDULE),
            ("/definitions/service", keys::SERVICE),
            ("/definitions/rule", keys::RULE),
            ("/definitions/router", keys::ROUTER),
            ("/definitions/routerRule", keys::ROUTER_RULE),
            ("/definitions/inbound", keys::INBOUND),
            ("/definitions/inboundRule", keys::INBOUND_RULE),
            ("/definitions/timeouts", &timeouts),
            ("/definitions/nameTimes", &names),
            ("/definitions/dns", keys::DNS),
            ("/definitions/proxy", keys::PROXY),
            ("/definitions/portal", keys::PORTAL),
        ];
        for (place, known) in tables {
            let properties = schema.pointer(&format!("{place}/properties")).and_then(Value::as_object);
            let written: BTreeSet<&str> = properties.expect("properties").keys().map(String::as_str).collect();
            assert_eq!(written, known.iter().copied().collect(), "{place}");
        }
        // An included file may do without a default; a word of the whole policy may not.
        let words = keys::POLICY.iter().filter(|key| **key != "default" && !keys::INCLUDED.contains(key));
        let bound = schema["dependencies"].as_object().expect("dependencies").keys().map(String::as_str);
        assert_eq!(bound.collect::<BTreeSet<_>>(), words.copied().collect());
    }

    #[test]
    fn defaults_are_those_of_the_model() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        for (key, seconds) in Timeouts::default().named() {
            assert_eq!(schema["definitions"]["timeouts"]["properties"][key]["default"], *seconds, "{key}");
        }
        for (key, seconds) in NameTimes::default().named() {
            assert_eq!(schema["definitions"]["nameTimes"]["properties"][key]["default"], *seconds, "{key}");
        }
        for (key, decision) in Dns::default().named() {
            assert_eq!(schema["definitions"]["dns"]["properties"][key]["default"], words::answer(*decision), "{key}");
        }
    }

    #[test]
    fn valid_policies_are_valid_by_it() {
        assert_eq!(mistakes(EVERY_WORD), [""; 0]);
        let printed = crate::policy::Policy::parse("p", EVERY_WORD, &crate::catalog::Catalogs::default());
        assert_eq!(mistakes(&printed.expect("valid").to_string()), [""; 0]);
        let included =
            "include = [\"more.toml\"]\n[prefixes]\nstudents = [\"10.1.0.0/16\", \"2001:db8:1::/48\", \"$more\"]\n";
        assert_eq!(mistakes(included), [""; 0]);
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")).expect("policies") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let text = std::fs::read_to_string(&path).expect("a file");
                assert_eq!(mistakes(&text), [""; 0], "{}", path.display());
                assert!(text.starts_with("#:schema policy.schema.json\n"), "{}", path.display());
            }
        }
    }

    #[test]
    fn mistakes_are_mistakes_by_it() {
        let cases = [
            "monitor = true",
            "default = \"alow\"",
            "default = \"monitor\"",
            "default = \"drop\"\npolcy = 1",
            "default = \"drop\"\nmonitor = \"yes\"",
            "default = \"drop\"\nfragments = \"reject\"",
            "default = \"drop\"\nnat64 = [\"64:ff9b::/64\"]",
            "default = \"drop\"\ninclude = []",
            "[prefixes]\nstudents = \"10.1.0.0/16\"",
            "[prefixes]\n\"a b\" = [\"any\"]",
            "[exempt]",
            "[exempt]\nservices = [\"push\"]",
            "[[service]]\nname = \"push\"",
            "[[service]]\nname = \"push\"\nto = [\"www_apple\"]",
            "[[service]]\nname = \"push\"\nto = [\"any\"]\nports = [\"tcp:443\"]",
            "[[rule]]\nservices = [\"push\"]",
            "[[rule]]\naction = \"drop\"\nservices = [\"push\", \"push\"]",
            "[[rule]]\naction = \"drop\"\nlog = \"1/0\"",
            "[[rule]]\naction = \"drop\"\nlog = 100",
            "[[schedule]]\nname = \"a\"\nzone = \"UTC\"",
            "[[schedule]]\nname = \"a\"\nzone = \"UTC\"\ntimes = [\"monday\"]",
            "default = \"drop\"\n[[router.rule]]\naction = \"drop\"\nfrom = [\"any\"]",
            "default = \"drop\"\n[inbound]\ndefault = \"reject\"",
            "default = \"drop\"\n[[inbound.rule]]\naction = \"allow\"\nlog = true",
            "default = \"drop\"\n[inbound.timeouts]\nudp = 0",
            "default = \"drop\"\n[dns]\ndenied = \"drop\"",
            "[dns]\ndenied = \"nxdomain\"",
            "default = \"drop\"\n[[proxy]]\naddress = \"10.1.0.5\"\nport = 0\nservices = [\"apple/*\"]",
            "default = \"drop\"\n[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128",
            "default = \"drop\"\n[portal]\nfrom = [\"10.1.0.0/16\"]",
            "default = \"drop\"\n[portal]\nservices = [\"portal\"]\naction = \"allow\"",
            "[portal]\nservices = [\"portal\"]",
        ];
        for text in cases {
            assert_ne!(mistakes(text), [""; 0], "{text}");
        }
    }
}
