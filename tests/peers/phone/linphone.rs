//! `linphone-daemon`: commands on its standard input, events on its standard output.

use std::path::Path;
use std::process::Stdio;

use rouse::standin::phone::PhoneConfig;

use super::{Running, State, ca_file, log};
use crate::rig::{home, process};

/// Starts it with an account.
pub(super) fn start(account: &PhoneConfig, home: &Path, namespace: Option<&str>) -> Running {
    let rc = home.join("linphonerc");
    home::write(&rc, &configuration(account, home));
    // Its database stands there, and it does not make the directory itself.
    home::write(&home.join(".local/share/linphone/.made"), "");
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = process::command("ip");
            command.args(["netns", "exec", namespace, "linphone-daemon"]);
            command
        }
        None => process::command("linphone-daemon"),
    };
    command
        .arg("--config")
        .arg(&rc)
        .arg("--log")
        .arg(home.join("log"))
        .arg("--disable-stats-events")
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log(home, "errors"));
    Running::on_pipes(process::spawn(command), home, state)
}

/// The command to register with the same account again; the password it has already, and stumbles
/// over a second one.
pub(super) fn register(account: &PhoneConfig) -> String {
    let PhoneConfig {
        user,
        domain,
        proxy,
        transport,
        ..
    } = account;
    let transport = transport.label();
    format!("register sip:{user}@{domain} sip:{proxy};transport={transport}\n")
}

/// The parameters of Linphone on an iPhone: a token for calls and one for the rest, in one value.
pub(crate) fn two_tokens(token: &str) -> String {
    format!(
        "pn-provider=apns;pn-prid={token}:voip&{token}:remote;\
         pn-param=ABCDE12345.com.example.app.voip&remote"
    )
}

fn state(line: &str) -> Option<State> {
    match line.strip_prefix("Event: LinphoneCall")? {
        "IncomingReceived" => Some(State::Ringing),
        "StreamsRunning" => Some(State::Talking),
        "Paused" => Some(State::Held),
        "Released" => Some(State::Over),
        _ => None,
    }
}

/// The file that the app keeps. `push_notification` makes liblinphone write the parameters in its
/// own way.
fn configuration(account: &PhoneConfig, home: &Path) -> String {
    let PhoneConfig {
        user,
        domain,
        password,
        proxy,
        transport,
        ..
    } = account;
    let proxy = format!("sip:{proxy};transport={}", transport.label());
    let push = account.push.as_deref().unwrap_or_default();
    let ca = ca_file(account, home);
    let ca = ca.map_or_else(String::new, |ca| format!("root_ca={}\n", ca.display()));
    // The certificate is for localhost; the account names an address.
    format!(
        "[sip]
sip_port=-1
sip_tcp_port=-1
sip_tls_port=-1
guess_hostname=0
{ca}verify_server_certs=1
verify_server_cn=0
default_proxy=0
use_ipv6=0
media_encryption=none
lime=0
[net]
push_notification=1
[rtp]
audio_rtp_port=41000-42000
[misc]
version_check_url_root=
log_collection_upload_server_url=
[auth_info_0]
username={user}
userid={user}
passwd={password}
realm=asterisk
[proxy_0]
reg_proxy=<{proxy}>
reg_route=<{proxy};lr>
reg_identity=sip:{user}@{domain}
reg_expires=120
reg_sendregister=1
publish=0
contact_uri_parameters={push}
push_notification_allowed=1
"
    )
}
