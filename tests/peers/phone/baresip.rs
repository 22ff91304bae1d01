//! baresip, run by its module `ctrl_tcp`: JSON in netstrings, both ways.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rouse::standin::phone::PhoneConfig;
use serde_json::{Value, json};

use super::{Heard, Running, State, ca_file, log};
use crate::rig::{home, loopback, process};

const START: Duration = Duration::from_secs(5);

/// Starts it with an account.
pub(super) fn start(account: &PhoneConfig, home: &Path) -> Running {
    let ip = loopback::address();
    let listens = SocketAddr::from((ip, 4444));
    home::write(&home.join("config"), &configuration(account, home, listens));
    // Entered by command: registered from this file it might be called before anybody listens.
    home::write(&home.join("accounts"), "");
    home::write(&home.join("contacts"), "");
    let mut command = process::command("baresip");
    command
        .arg("-f")
        .arg(home)
        .arg("-s")
        .current_dir(home)
        .stdout(log(home, "out"))
        .stderr(log(home, "errors"));
    let mut child = process::spawn(command);
    let control = connect(&mut child, listens, home);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hears = Arc::clone(&heard);
    let mut kept = log(home, "events");
    let mut events = BufReader::new(control.try_clone().expect("a socket can be cloned"));
    thread::spawn(move || {
        while let Some(event) = next(&mut events) {
            writeln!(kept, "{event}").expect("our own file can be written");
            if let Some(state) = state(&event) {
                hears.lock().expect("no holder panics").hear(state);
            }
        }
    });
    let mut control = control;
    control
        .write_all(order("uanew", &line(account)).as_bytes())
        .expect("it listens");
    Running {
        child,
        control: Box::new(control),
        heard,
    }
}

/// A command as it goes over the wire.
pub(super) fn order(command: &str, params: &str) -> String {
    let order = json!({ "command": command, "params": params }).to_string();
    format!("{}:{order},", order.len())
}

fn state(event: &Value) -> Option<State> {
    match event.get("type")?.as_str()? {
        "CALL_INCOMING" => Some(State::Ringing),
        "CALL_ESTABLISHED" => Some(State::Talking),
        "CALL_CLOSED" => Some(State::Over),
        _ => None,
    }
}

/// Reads one netstring.
fn next(from: &mut impl Read) -> Option<Value> {
    let mut length = 0_usize;
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte).ok()?;
        match byte[0] {
            b':' => break,
            digit => length = length * 10 + usize::from(digit.checked_sub(b'0')?),
        }
    }
    let mut text = vec![0; length + 1];
    from.read_exact(&mut text).ok()?;
    text.pop();
    serde_json::from_slice(&text).ok()
}

fn connect(child: &mut Child, listens: SocketAddr, home: &Path) -> TcpStream {
    let begun = Instant::now();
    loop {
        if let Ok(control) = TcpStream::connect(listens) {
            return control;
        }
        let ended = child.try_wait().expect("it is our child");
        assert!(
            ended.is_none() && begun.elapsed() < START,
            "baresip does not listen ({ended:?}, {})",
            home.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Audio goes in circles: this machine has no sound.
fn configuration(account: &PhoneConfig, home: &Path, control: SocketAddr) -> String {
    let ca = ca_file(account, home);
    let ca = ca.map_or_else(String::new, |ca| format!("sip_cafile {}\n", ca.display()));
    let ip = control.ip();
    format!(
        "poll_method epoll
sip_listen {ip}:0
{ca}call_local_timeout 120
audio_player aubridge,sink
audio_source aubridge,sink
audio_alert aubridge,alert
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 40000-40999
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app menu.so
module_app mwi.so
module_app ctrl_tcp.so
ctrl_tcp_listen {control}
"
    )
}

fn line(account: &PhoneConfig) -> String {
    let PhoneConfig {
        user,
        domain,
        password,
        proxy,
        transport,
        ..
    } = account;
    let transport = transport.label();
    format!(
        "<sip:{user}@{domain};transport={transport}>;auth_user={user};auth_pass={password};\
         outbound=\"sip:{proxy};transport={transport}\";regint=60"
    )
}
