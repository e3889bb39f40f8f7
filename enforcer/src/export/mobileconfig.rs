//! A configuration profile with a global HTTP proxy, for supervised Apple devices; an MDM server delivers it.
//!
//! Keys as Apple's device management documentation has them for `com.apple.proxy.http.global`.

use plist::{Dictionary, Value};
use sha2::{Digest as _, Sha256};

use super::{Export, Refusal};
use crate::policy::Policy;

/// How devices find their proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The policy's first one.
    Manual,
    /// By a PAC file at a URL.
    Automatic(String),
}

/// Who devices are to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password, readable in the profile.
    pub password: String,
}

/// Reverse-DNS name of profile and payload.
const IDENTIFIER: &str = "net.enforcer.proxy";

/// The profile. Its identifiers follow from what is in it, so that the same one is the same again.
///
/// # Errors
/// If the policy names no proxy, the URL is none of HTTP, or XML cannot have the credentials.
pub fn mobileconfig(policy: &Policy, mode: &Mode, credentials: Option<&Credentials>) -> Result<Export, Refusal> {
    let mut warnings = Vec::new();
    let Some(proxy) = policy.proxies.first() else { return Err(Refusal::NoProxy) };
    let mut payload = Dictionary::new();
    let mut set = |key: &str, value: Value| drop(payload.insert(key.into(), value));
    match mode {
        Mode::Manual => {
            if policy.proxies.len() > 1 {
                warnings.push("the profile names the first of the policy's proxies alone: a PAC file knows all".into());
            }
            warnings.push("devices send all requests for the web to this proxy, as it is named without a PAC file: let it serve all that they may have".into());
            set("ProxyType", "Manual".into());
            set("ProxyServer", proxy.address.ip().to_string().into());
            set("ProxyServerPort", u64::from(proxy.address.port()).into());
        }
        Mode::Automatic(url) => {
            if !is_url(url) {
                return Err(Refusal::Word(url.clone(), "URL of a PAC file: http://10.1.0.1:8080/proxy.pac"));
            }
            set("ProxyType", "Auto".into());
            set("ProxyPACURL", url.as_str().into());
            // What goes through the proxy is refused without it.
            set("ProxyPACFallbackAllowed", false.into());
        }
    }
    set("ProxyCaptiveLoginAllowed", true.into());
    if let Some(Credentials { user, password }) = credentials {
        if ![user, password].into_iter().all(|text| is_xml(text)) {
            return Err(Refusal::Credentials);
        }
        warnings.push("the profile has the proxy's password in clear: let only the MDM server have it".into());
        set("ProxyUsername", user.as_str().into());
    }
    // Identifiers are in devices' logs, and tell nothing of the password.
    let whole = format!("{payload:?}");
    if let Some(Credentials { password, .. }) = credentials {
        payload.insert("ProxyPassword".into(), password.as_str().into());
    }
    let payload =
        described(payload, "com.apple.proxy.http.global", &format!("{IDENTIFIER}.global"), "HTTP proxy", &whole);
    let mut profile = Dictionary::new();
    profile.insert("PayloadContent".into(), Value::Array(vec![Value::Dictionary(payload)]));
    let profile =
        described(profile, "Configuration", IDENTIFIER, "HTTP proxy of this network", &format!("profile {whole}"));
    let mut text = Vec::new();
    Value::Dictionary(profile).to_writer_xml(&mut text).expect("to memory");
    text.push(b'\n');
    Ok(Export { text: String::from_utf8(text).expect("XML is text"), warnings })
}

/// With what every payload has.
fn described(mut payload: Dictionary, kind: &str, identifier: &str, title: &str, content: &str) -> Dictionary {
    for (key, value) in [
        ("PayloadType", Value::from(kind)),
        ("PayloadVersion", Value::from(1)),
        ("PayloadIdentifier", Value::from(identifier)),
        ("PayloadUUID", Value::from(uuid(content))),
        ("PayloadDisplayName", Value::from(title)),
    ] {
        payload.insert(key.into(), value);
    }
    payload
}

/// A UUID of version 8 (RFC 9562, 5.8): a hash.
fn uuid(content: &str) -> String {
    let hash = Sha256::digest(content);
    let mut bytes: [u8; 16] = std::array::from_fn(|index| hash[index]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether XML has all of a text, and as it is (XML 1.0, 2.2 and 2.11).
fn is_xml(text: &str) -> bool {
    text.chars().all(|letter| !letter.is_control() && !['\u{fffe}', '\u{ffff}'].contains(&letter))
}

/// Whether a text can be where a PAC file is.
pub fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.len() <= 255
        && url.chars().all(|letter| letter.is_ascii_graphic() && !"\"'\\<>".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    fn policy() -> Policy {
        let text = "default = \"drop\"\n[[proxy]]\naddress = \"fd00::5\"\nport = 3128\nservices = [\"apple/apns\"]\n";
        Policy::parse("p", text, &Catalogs::default()).expect("valid")
    }

    fn payload(export: &Export) -> Dictionary {
        let profile = Value::from_reader_xml(export.text.as_bytes()).expect("a property list");
        let content =
            profile.as_dictionary().and_then(|profile| profile.get("PayloadContent")).and_then(Value::as_array);
        content.expect("payloads")[0].as_dictionary().expect("a payload").clone()
    }

    #[test]
    fn a_profile_has_no_secrets_unless_they_are_wanted() {
        let plain = mobileconfig(&policy(), &Mode::Manual, None).expect("exported");
        assert!(!plain.text.contains("ProxyPassword") && !plain.text.contains("ProxyUsername"), "{}", plain.text);
        let credentials = Credentials { user: "a&b".into(), password: "<secret>".into() };
        let secret = mobileconfig(&policy(), &Mode::Manual, Some(&credentials)).expect("exported");
        assert_eq!(payload(&secret)["ProxyPassword"], "<secret>".into());
        assert!(secret.warnings.iter().any(|warning| warning.contains("password")));
        assert_eq!(payload(&plain)["ProxyServer"], "fd00::5".into());
        assert_ne!(payload(&plain)["PayloadUUID"], payload(&secret)["PayloadUUID"]);
    }

    #[test]
    fn what_no_profile_can_have_is_refused_and_not_shown() {
        for bad in ["a\u{1}b", "a\rb", "\u{1b}[2J", "\u{fffe}"] {
            let credentials = Credentials { user: "school".into(), password: bad.into() };
            let refusal = mobileconfig(&policy(), &Mode::Manual, Some(&credentials)).expect_err(bad);
            assert!(refusal == Refusal::Credentials && !refusal.to_string().contains(bad), "{refusal}");
        }
        let credentials = Credentials { user: "schüler".into(), password: "\u{1f600} ]]>".into() };
        let export = mobileconfig(&policy(), &Mode::Manual, Some(&credentials)).expect("exported");
        assert_eq!(payload(&export)["ProxyPassword"], "\u{1f600} ]]>".into());
    }

    #[test]
    fn a_url_is_one_of_http() {
        for bad in ["ftp://a/b", "http://", "http:///x", "http://a/\"", "10.1.0.1/proxy.pac", "http://a b"] {
            let mode = Mode::Automatic(bad.into());
            assert!(matches!(mobileconfig(&policy(), &mode, None), Err(Refusal::Word(..))), "{bad}");
        }
        let mode = Mode::Automatic("http://10.1.0.1:8080/proxy.pac".into());
        let export = mobileconfig(&policy(), &mode, None).expect("exported");
        assert_eq!(payload(&export)["ProxyPACURL"], "http://10.1.0.1:8080/proxy.pac".into());
        assert_eq!(payload(&export)["ProxyPACFallbackAllowed"], false.into());
    }
}
