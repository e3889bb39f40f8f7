//! How clients that look for it find a PAC file: DHCP option 252, and the name `wpad`.

use std::{fmt::Write as _, net::IpAddr};

use super::{Export, Refusal, head, mobileconfig::is_url};
use crate::catalog::Pattern;

/// Lines for dnsmasq, and the same for other servers as comments. With a domain and the address where the file is served, also the name that clients
/// ask DNS for.
///
/// # Errors
/// If the URL is none of HTTP, or has what ends a line's word.
pub fn wpad(url: &str, name: Option<(&Pattern, IpAddr)>) -> Result<Export, Refusal> {
    if !is_url(url) || url.contains([',', ';', '#']) {
        return Err(Refusal::Word(url.into(), "URL of a PAC file: http://10.1.0.1:8080/wpad.dat"));
    }
    let mut warnings = Vec::new();
    let mut text =
        head("#", &["Where clients find the PAC file, written by `enforcer export wpad`: for dnsmasq."], &[]);
    writeln!(text, "dhcp-option=252,\"{url}\"").expect("to memory");
    writeln!(text, "# ISC dhcpd: option wpad code 252 = text; option wpad \"{url}\";").expect("to memory");
    writeln!(
        text,
        "# Kea: \"option-def\": [{{\"name\": \"wpad\", \"code\": 252, \"type\": \"string\", \"space\": \"dhcp4\"}}], \"option-data\": [{{\"name\": \"wpad\", \"data\": \"{url}\"}}]"
    )
    .expect("to memory");
    if let Some((domain, address)) = name {
        // With what comes before it, it is a name, too.
        if domain.is_wildcard() || format!("wpad.{domain}").parse::<Pattern>().is_err() {
            return Err(Refusal::Word(domain.to_string(), "domain of a LAN"));
        }
        let record = if address.is_ipv4() { "A" } else { "AAAA" };
        writeln!(text, "host-record=wpad.{domain},{address}").expect("to memory");
        writeln!(text, "# unbound: local-data: \"wpad.{domain}. {record} {address}\"").expect("to memory");
        warnings.push(format!(
            "by DNS, clients ask for http://wpad.{domain}/wpad.dat: it must be served on port 80 of {address}"
        ));
    }
    Ok(Export { text, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_url_and_the_record() {
        let domain: Pattern = "school.example".parse().expect("a name");
        let export = wpad("http://10.1.0.1:8080/wpad.dat", Some((&domain, "10.1.0.1".parse().expect("an address"))));
        let text = export.expect("exported").text;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            ["dhcp-option=252,\"http://10.1.0.1:8080/wpad.dat\"", "host-record=wpad.school.example,10.1.0.1"]
        );
    }

    #[test]
    fn what_would_be_another_line_is_refused() {
        for bad in ["http://a/\nx=y", "http://a/,b", "file:///x"] {
            assert!(wpad(bad, None).is_err(), "{bad}");
        }
        let long = format!("{}example", "a123456789.".repeat(22));
        for bad in ["*.school.example", &long] {
            let name: Pattern = bad.parse().expect("a name");
            assert!(wpad("http://a/b", Some((&name, "10.1.0.1".parse().expect("an address")))).is_err(), "{bad}");
        }
    }
}
