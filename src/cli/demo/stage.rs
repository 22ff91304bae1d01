//! The demo's stage: stand-ins, a gateway between them, and a folder that goes when it is over.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rcgen::CertifiedKey;

use super::DemoArgs;
use crate::cli::output;
use crate::config::{self, Config, Host, Source};
use crate::proto::Transport;
use crate::standin::apns::{ApnsStandin, ApnsStandinConfig};
use crate::standin::asterisk::{Asterisk, AsteriskConfig};
use crate::standin::fcm::{FcmStandin, FcmStandinConfig};
use crate::standin::phone::PhoneConfig;
use crate::standin::push::AcceptedPush;
use crate::standin::timeline::Timeline;

pub(super) const AGENT: &str = "1001";
pub(super) const PASSWORD: &str = "correct horse";
pub(super) const DOMAIN: &str = "pbx.example.com";
pub(super) const SERVER_NAME: &str = "localhost";
const TOKEN: &str = "4f1ce5a7d09b3e8266aa51c0937fd2be4f1ce5a7d09b3e8266aa51c0937fd2be";
const FCM_TOKEN: &str = "dQw4w9WgXcQ:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ";

/// The gateway trusts Asterisk by its address: on loopback each party has one of its own.
pub(super) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
pub(super) const ASTERISK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub(super) const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// Everybody but the phone, which comes and goes.
pub(super) struct Stage {
    pub(super) asterisk: Asterisk,
    pub(super) push: Push,
    /// How the phone is configured, asleep or awake.
    pub(super) phone: PhoneConfig,
    gateway: crate::server::Running,
    folder: Folder,
}

/// A stand-in push service.
pub(super) enum Push {
    /// Apple's.
    Apns(ApnsStandin),
    /// Google's.
    Fcm(FcmStandin),
}

impl Stage {
    /// Starts everybody.
    pub(super) async fn set(args: DemoArgs, timeline: &Timeline) -> anyhow::Result<Self> {
        let folder = Folder::new().context("cannot make a temporary folder")?;
        let mut asterisk = AsteriskConfig::new(ASTERISK, &[(AGENT, PASSWORD)]);
        asterisk.qualify = false;
        let asterisk = Asterisk::start(asterisk, timeline.clone())
            .await
            .context("cannot start the stand-in Asterisk")?;
        let push = Push::start(args.fcm).await.with_context(|| {
            let name = push_name(args);
            format!("cannot start the stand-in {name}")
        })?;
        let transport = transport(args);
        let ca = write_certificate(&folder.0).context("cannot make a certificate")?;
        let mut config = read_config(&folder.0, transport, asterisk.address())?;
        push.configure(&mut config, &folder.0)
            .context("cannot write the push service's root certificate")?;
        config.settings.push = config.push.settings();
        let gateway = crate::server::start(config)
            .await
            .context("cannot start the gateway")?;
        // The phones' listener is the last one in our configuration.
        let Some(&address) = gateway.addresses().last() else {
            bail!("the gateway does not listen on {}", transport.label());
        };
        output::progress(format!(
            "Rouse on {address} ({}), stand-in Asterisk on {}, stand-in {} on {}",
            transport.label(),
            asterisk.address(),
            push_name(args),
            push.address()
        ));
        let phone = PhoneConfig {
            transport,
            local_ip: PHONE,
            ca_pem: Some(ca),
            server_name: SERVER_NAME.to_owned(),
            push: Some(push.params()),
            instance: Some("urn:uuid:7ad6e0ee-5a5c-4b6c-9f0b-3a5f0c0e1001".to_owned()),
            reg_id: Some(1),
            ..PhoneConfig::new(AGENT, DOMAIN, PASSWORD, address)
        };
        Ok(Self {
            asterisk,
            push,
            phone,
            gateway,
            folder,
        })
    }

    /// Stops the gateway and takes the folder away.
    pub(super) async fn strike(self) {
        self.gateway.stop().await;
        drop(self.folder);
    }
}

impl Push {
    async fn start(fcm: bool) -> io::Result<Self> {
        Ok(if fcm {
            Self::Fcm(FcmStandin::start(FcmStandinConfig::default()).await?)
        } else {
            Self::Apns(ApnsStandin::start(ApnsStandinConfig::default()).await?)
        })
    }

    fn configure(&self, config: &mut Config, folder: &Path) -> io::Result<()> {
        match self {
            Self::Apns(apns) => config.push.apns = vec![apns.client_config(folder)?],
            Self::Fcm(fcm) => config.push.fcm = vec![fcm.client_config(folder)?],
        }
        Ok(())
    }

    /// The name of its column.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Apns(_) => "APNs",
            Self::Fcm(_) => "FCM",
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Apns(apns) => apns.addr(),
            Self::Fcm(fcm) => fcm.addr(),
        }
    }

    /// What the phone puts into its Contact (RFC 8599 §4).
    fn params(&self) -> String {
        match self {
            Self::Apns(_) => format!(
                "pn-provider=apns;pn-param=ABCDE12345.com.example.app.voip;pn-prid={TOKEN}:voip"
            ),
            Self::Fcm(_) => {
                format!("pn-provider=fcm;pn-param=my-project;pn-prid={FCM_TOKEN}")
            }
        }
    }

    /// Waits for the next push that it takes.
    pub(super) async fn next_push(&self) -> AcceptedPush {
        match self {
            Self::Apns(apns) => apns.next_push().await,
            Self::Fcm(fcm) => fcm.next_push().await,
        }
    }
}

/// Returns the name of the push service's column.
pub(super) const fn push_name(args: DemoArgs) -> &'static str {
    if args.fcm { "FCM" } else { "APNs" }
}

const fn transport(args: DemoArgs) -> Transport {
    match args {
        DemoArgs { tls: true, .. } => Transport::Tls,
        DemoArgs { udp: true, .. } => Transport::Udp,
        DemoArgs { .. } => Transport::Tcp,
    }
}

/// Writes a certificate that is its own root, and returns it.
pub(super) fn write_certificate(folder: &Path) -> anyhow::Result<String> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
    fs::write(folder.join("server.pem"), cert.pem())?;
    fs::write(folder.join("server.key"), signing_key.serialize_pem())?;
    Ok(cert.pem())
}

/// The configuration of a gateway on the stage.
pub(super) fn read_config(
    folder: &Path,
    transport: Transport,
    asterisk: SocketAddr,
) -> anyhow::Result<Config> {
    let folder = folder.display();
    let phones = match transport {
        Transport::Udp => String::new(),
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => format!(
            "[[listen]]\ntransport = \"{}\"\naddress = \"{GATEWAY}:0\"\n",
            transport.label()
        ),
    };
    // A datagram socket cannot say that it is closed: the demo's phone shall count as silent soon.
    let text = format!(
        r#"
workers = 1
[[listen]]
transport = "udp"
address = "{GATEWAY}:0"
{phones}
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:{asterisk};transport=udp"]
trust = ["{ASTERISK}/32"]
[store]
path = "{folder}/store"
[wake]
timeout = "10s"
fresh = "0ms"
"#
    );
    let source = Source {
        name: "the demo's configuration".to_owned(),
        text,
        variables: Vec::new(),
        host: Host::default(),
    };
    config::read(&source).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))
}

/// A folder of our own below the system's temporary one; it goes when this is dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn new() -> io::Result<Self> {
        let name = format!(
            "rouse-demo-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // dropped: it lies in the system's temporary folder, which is emptied in time.
        fs::remove_dir_all(&self.0).ok();
    }
}
