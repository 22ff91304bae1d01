//! `[[listen]]` and `[tls]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::files;
use super::host::Host;
use super::mistake::{Place, Wrong};
use super::read::Section;
use super::{TlsConfig, value};
use crate::proto::Transport;
use crate::proto::settings::Listener;

/// `[tls]`: the listeners' certificate, and the roots for nodes reached over TLS.
pub(super) struct Tls {
    pub(super) server: Option<TlsConfig>,
    pub(super) upstream_ca: Option<PathBuf>,
}

/// Reads `[tls]`.
pub(super) fn tls(section: Section<'_>) -> Tls {
    let certificate = section.text("certificate");
    let key = section.text("key");
    let ca_file = section.text("ca_file");
    let upstream_ca = ca_file.and_then(|text| {
        section.parsed(&text, files::certificates)?;
        Some(text.text.into())
    });
    let server = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = section.parsed(&certificate, files::certificates);
            let private = section.parsed(&key, files::private_key);
            if let (Some(chain), Some(private)) = (chain, private) {
                let fits = |_: &str| files::key_fits(chain, private);
                section.parsed(&key, fits);
            }
            Some(TlsConfig {
                certificate: certificate.text.into(),
                key: key.text.into(),
            })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let wrong = Wrong::new(
                "[tls] has only one of `certificate` and `key`",
                "give both files, or neither",
            );
            section.wrong(section.place(), wrong);
            None
        }
    };
    section.finish();
    Tls {
        server,
        upstream_ca,
    }
}

/// Reads `[[listen]]`.
pub(super) fn listeners(
    sections: Vec<Section<'_>>,
    has_certificate: bool,
    host: Host,
) -> Vec<Listener> {
    if sections.is_empty() {
        return defaults(has_certificate, host);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for section in sections {
        if let Some(listener) = listener(&section, has_certificate, host) {
            let taken = listeners.iter().find(|other| collide(other, &listener));
            if let Some(other) = taken {
                let what = format!(
                    "{} {} is taken by another [[listen]] ({})",
                    listener.transport.label(),
                    listener.address,
                    other.transport.label(),
                );
                let wrong = Wrong::new(what, "remove one, or change its port");
                section.wrong(section.place(), wrong);
            }
            listeners.push(listener);
        }
        section.finish();
    }
    listeners
}

fn listener(section: &Section<'_>, has_certificate: bool, host: Host) -> Option<Listener> {
    let transport = section.required(
        "transport",
        "add transport = \"udp\" (or tcp, tls, ws, wss)",
    );
    let address = section.required("address", "add address = \"0.0.0.0:5060\"");
    let advertise = section.text("advertise");
    let transport = transport
        .and_then(|text| section.parsed(&text, |word| self::transport(word, has_certificate)));
    let place = address.as_ref().map(|text| text.place.clone());
    let address = address.and_then(|text| section.parsed(&text, value::socket_address));
    let advertise = match advertise {
        Some(text) => Some(section.parsed(&text, advertised)?),
        None => None,
    };
    let (transport, address) = (transport?, address?);
    let (advertise_host, port) = match advertise {
        Some(advertise) => advertise,
        None => (own_host(section, address, host, place.as_ref()), None),
    };
    Some(Listener {
        transport,
        address,
        advertise_host: advertise_host.into(),
        advertise_port: port.unwrap_or_else(|| address.port()),
    })
}

fn transport(word: &str, has_certificate: bool) -> Result<Transport, Wrong> {
    match word {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "ws" => Ok(Transport::Ws),
        "tls" if has_certificate => Ok(Transport::Tls),
        "wss" if has_certificate => Ok(Transport::Wss),
        "tls" | "wss" => Err(Wrong::new(
            format!("a {word} listener needs a certificate, and [tls] gives none"),
            "add [tls] with certificate and key; `rouse certs` makes them for development",
        )),
        _ => Err(Wrong::new(
            format!("transport \"{word}\" is unknown"),
            "choose one of udp, tcp, tls, ws, wss",
        )),
    }
}

fn advertised(text: &str) -> Result<(String, Option<u16>), Wrong> {
    let (host, port) = value::host_port(text)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(Wrong::new(
            format!("\"{text}\" cannot be reached by anybody"),
            "write the address or name that phones and Asterisk reach this machine by",
        ));
    }
    Ok((host, port))
}

/// The host to advertise when the file names none.
fn own_host(
    section: &Section<'_>,
    address: SocketAddr,
    host: Host,
    place: Option<&Place>,
) -> String {
    if !address.ip().is_unspecified() {
        return show(address.ip());
    }
    let (found, fallback): (Option<IpAddr>, IpAddr) = match address {
        SocketAddr::V4(_) => (host.ipv4.map(Into::into), Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(_) => (host.ipv6.map(Into::into), Ipv6Addr::LOCALHOST.into()),
    };
    if found.is_none() {
        let line = match place {
            Some(Place::At { line, .. }) => format!(" (line {line})"),
            Some(Place::File | Place::Variable(_)) | None => String::new(),
        };
        section.findings().warn(format!(
            "[[listen]] {address}{line}: this machine has no address towards the world, \
             {} is advertised: set `advertise` to what phones reach it by",
            show(fallback),
        ));
    }
    show(found.unwrap_or(fallback))
}

/// What is listened on when the file has no `[[listen]]`.
fn defaults(has_certificate: bool, host: Host) -> Vec<Listener> {
    let ipv4: IpAddr = host.ipv4.unwrap_or(Ipv4Addr::LOCALHOST).into();
    let mut families: Vec<(IpAddr, IpAddr)> = vec![(Ipv4Addr::UNSPECIFIED.into(), ipv4)];
    // Without an IPv6 address of its own a machine often cannot bind [::] either.
    if let Some(ipv6) = host.ipv6 {
        families.push((Ipv6Addr::UNSPECIFIED.into(), ipv6.into()));
    }
    let mut transports = vec![Transport::Udp, Transport::Tcp];
    if has_certificate {
        transports.push(Transport::Tls);
    }
    let mut listeners = Vec::new();
    for (bind, own) in families {
        for transport in &transports {
            listeners.push(Listener {
                transport: *transport,
                address: (bind, transport.default_port()).into(),
                advertise_host: show(own).into(),
                advertise_port: transport.default_port(),
            });
        }
    }
    listeners
}

fn show(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Whether two listeners would bind the same port.
fn collide(a: &Listener, b: &Listener) -> bool {
    let is_datagram = |transport| transport == Transport::Udp;
    a.address == b.address
        && a.address.port() != 0
        && is_datagram(a.transport) == is_datagram(b.transport)
}
