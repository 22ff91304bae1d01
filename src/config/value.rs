//! The texts that a configuration is made of: durations, addresses, networks, node URIs.
//! Each reader says what is wrong and what to write instead.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::mistake::Wrong;
use crate::proto::Transport;
use crate::proto::push::Pns;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads `400ms`, `25s`, `5m`, `1h`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let cure = "write a whole number and a unit (ms, s, m, h, d), for example \"25s\"";
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    if !digits.is_empty() && unit.is_empty() {
        return Err(Wrong::new(format!("\"{text}\" has no unit"), cure));
    }
    let millis = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, factor)| digits.parse::<u64>().ok()?.checked_mul(*factor));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::new(format!("\"{text}\" is no duration"), cure))
}

/// Writes a duration as [`duration`] reads it, in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (name, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| {
            millis >= u128::from(*factor) && millis.is_multiple_of(u128::from(*factor))
        })
        .unwrap_or(&("ms", 1));
    format!("{}{name}", millis / u128::from(*factor))
}

/// Reads an address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let what = format!("\"{text}\" is no address with a port");
        let cure = if text.parse::<Ipv6Addr>().is_ok() {
            format!("write [{text}]:5060")
        } else if text.parse::<IpAddr>().is_ok() {
            format!("write {text}:5060")
        } else {
            "write IP:PORT, for example \"0.0.0.0:5060\" or \"[::]:5060\"".to_owned()
        };
        Wrong::new(what, cure)
    })
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port`; the host comes back as it is written in a URI.
pub(super) fn host_port(text: &str) -> Result<(String, Option<u16>), Wrong> {
    let wrong = || {
        Wrong::new(
            format!("\"{text}\" is no host"),
            "write an address or a name, with or without :PORT, IPv6 in brackets",
        )
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (v6, after) = rest.split_once(']').ok_or_else(wrong)?;
            let v6: Ipv6Addr = v6.parse().map_err(|_| wrong())?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(wrong()),
            };
            (format!("[{v6}]"), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (text.to_ascii_lowercase(), None),
        },
    };
    if !host.starts_with('[') && !is_host(&host) {
        return Err(wrong());
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(Ok(_) | Err(_)) => return Err(wrong()),
    };
    Ok((host, port))
}

/// Whether a text is a host name or an IPv4 address.
pub(super) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let all_digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= 253
        && text
            .strip_suffix('.')
            .unwrap_or(text)
            .split('.')
            .all(is_label)
        && (!all_digits || text.parse::<IpAddr>().is_ok())
}

/// A node of an upstream as its URI says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeUri {
    /// Host; an IPv6 address has no brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) transport: Option<Transport>,
}

/// Reads `sip:host[:port][;transport=udp|tcp|tls]`.
pub(super) fn node_uri(text: &str) -> Result<NodeUri, Wrong> {
    let cure = "write sip:HOST[:PORT][;transport=udp|tcp|tls], \
                for example \"sip:127.0.0.1:5080;transport=udp\"";
    let wrong = |what: String| Wrong::new(what, cure);
    let (secure, rest) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sip") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sips") => (true, rest),
        Some(_) | None => return Err(wrong(format!("\"{text}\" is no SIP URI"))),
    };
    if rest.contains('@') {
        return Err(wrong(format!("\"{text}\" names a user")));
    }
    let mut parts = rest.split(';');
    let (host, port) = host_port(parts.next().unwrap_or("")).map_err(|e| wrong(e.what))?;
    let mut transport = secure.then_some(Transport::Tls);
    for part in parts {
        transport = match part.to_ascii_lowercase().as_str() {
            "transport=udp" if !secure => Some(Transport::Udp),
            "transport=tcp" if !secure => Some(Transport::Tcp),
            "transport=tcp" | "transport=tls" => Some(Transport::Tls),
            "lr" => transport,
            _ => return Err(wrong(format!("\"{text}\": what is `{part}`"))),
        };
    }
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Ok(NodeUri {
        host,
        port,
        transport,
    })
}

/// Reads a network or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        Wrong::new(
            format!("\"{text}\" is no network"),
            "write ADDRESS or ADDRESS/BITS, for example \"192.0.2.0/24\"",
        )
    })?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(Wrong::new(
            format!("\"{text}\" has bits behind its prefix"),
            format!("write \"{}\", or the address alone", net.trunc()),
        ))
    }
}

/// Reads a base URL.
pub(super) fn https_url(text: &str) -> Result<String, Wrong> {
    let cure = "write https://HOST or https://HOST:PORT";
    let wrong = || Wrong::new(format!("\"{text}\" is no https URL"), cure);
    let authority = text.strip_prefix("https://").ok_or_else(wrong)?;
    host_port(authority.trim_end_matches('/')).map_err(|_| wrong())?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// Reads a URL with a path.
pub(super) fn https_url_with_path(text: &str) -> Result<String, Wrong> {
    let cure = "write https://HOST/PATH or https://HOST:PORT/PATH, without a query";
    let wrong = || Wrong::new(format!("\"{text}\" is no https URL"), cure);
    let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    host_port(authority).map_err(|_| wrong())?;
    let is_path = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    if !path.bytes().all(is_path) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// Reads the URI by which a push service reaches the operator (RFC 8292 §2.1).
pub(super) fn contact_uri(text: &str) -> Result<String, Wrong> {
    let rest = text
        .strip_prefix("mailto:")
        .filter(|rest| rest.contains('@'));
    let rest = rest.or_else(|| text.strip_prefix("https://"));
    if rest.is_some_and(|rest| rest.len() > 2 && rest.bytes().all(|b| b.is_ascii_graphic())) {
        return Ok(text.to_owned());
    }
    let cure = "write mailto:ops@example.com or https://example.com/contact";
    Err(Wrong::new(format!("\"{text}\" is no contact"), cure))
}

/// Reads a host that subscriptions may name: `HOST`, `HOST:PORT`, `*.DOMAIN`.
pub(super) fn allowed_host(text: &str) -> Result<String, Wrong> {
    let (wild, rest) = match text.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", text),
    };
    let cure =
        "write HOST, HOST:PORT or *.DOMAIN, for example \"updates.push.services.mozilla.com\"";
    let wrong = |_| Wrong::new(format!("\"{text}\" is no host"), cure);
    let (host, port) = host_port(rest).map_err(wrong)?;
    let port = port.filter(|port| *port != 443);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{wild}{host}{port}"))
}

/// Reads the name of a provider that is the operator's own.
pub(super) fn provider(text: &str) -> Result<String, Wrong> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_name) {
        let cure = "write letters, digits, dots, dashes: as phones write it in pn-provider";
        return Err(Wrong::new(format!("\"{text}\" is no provider"), cure));
    }
    if Pns::of_provider(text) != Pns::Webhook {
        let cure = "give it another name, in the phones' pn-provider too";
        let what = format!("provider \"{text}\" is not yours: it has its own [[push.…]]");
        return Err(Wrong::new(what, cure));
    }
    Ok(text.to_ascii_lowercase())
}

/// Finds the word that was probably meant: at most a third of its letters are wrong, or they are
/// the right ones in another order.
pub(super) fn closest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let far = |candidate: &str| {
        if letters(word) == letters(candidate) {
            return 1;
        }
        distance(word, candidate)
    };
    known
        .map(|candidate| (far(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *slot;
            left = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            corner = above;
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [
            ("400ms", 400),
            ("25s", 25_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::ZERO), "0ms");
        for text in [
            "",
            "s",
            "25",
            "1.5s",
            "-1s",
            "1 s",
            "1w",
            "99999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_names_addresses_and_ports() {
        assert_eq!(
            host_port("PBX.example.com"),
            Ok(("pbx.example.com".into(), None))
        );
        assert_eq!(
            host_port("10.0.0.1:5080"),
            Ok(("10.0.0.1".into(), Some(5080)))
        );
        assert_eq!(
            host_port("[2001:DB8::1]:5061"),
            Ok(("[2001:db8::1]".into(), Some(5061)))
        );
        assert_eq!(host_port("[::1]"), Ok(("[::1]".into(), None)));
        for text in [
            "",
            ":5060",
            "a b",
            "300.1.1.1",
            "h:0",
            "h:x",
            "h:99999",
            "::1",
            "[::1",
            "-a",
        ] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nodes_have_a_host_a_port_and_a_transport() {
        let node = |text| node_uri(text).unwrap();
        assert_eq!(
            node("sip:[::1]:5080;transport=TCP"),
            NodeUri {
                host: "::1".into(),
                port: Some(5080),
                transport: Some(Transport::Tcp)
            }
        );
        assert_eq!(node("sips:pbx.example").transport, Some(Transport::Tls));
        assert_eq!(node("sip:pbx.example;lr").transport, None);
        for text in [
            "",
            "pbx",
            "sip:",
            "tel:1",
            "sip:a@b",
            "sip:b;transport=ws",
            "sips:b;transport=udp",
        ] {
            assert!(node_uri(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_networks_or_addresses() {
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(
            network("10.0.0.1/24")
                .unwrap_err()
                .cure
                .contains("10.0.0.0/24")
        );
        assert!(network("10.0.0.0/33").is_err());
    }

    #[test]
    fn a_mistyped_key_is_recognised() {
        let known = ["address", "advertise", "transport"];
        assert_eq!(closest("adress", known.into_iter()), Some("address"));
        assert_eq!(closest("trasnport", known.into_iter()), Some("transport"));
        assert_eq!(closest("tsl", ["tls", "log"].into_iter()), Some("tls"));
        assert_eq!(closest("colour", known.into_iter()), None);
    }
}
