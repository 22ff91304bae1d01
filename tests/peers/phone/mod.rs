//! A telephone as a process: Linphone, baresip or SIP.js.

mod baresip;
pub(crate) mod linphone;
mod sipjs;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rouse::standin::phone::PhoneConfig;

use crate::rig::stage::SOON;
use crate::rig::{eventually, home};

/// Whose telephone it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Baresip,
    Linphone,
    SipJs,
}

/// What a telephone says of a call, and of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ringing,
    Talking,
    Over,
    /// Linphone alone says so.
    Held,
    /// SIP.js alone says so, as the next.
    Registered,
    Offline,
}

/// A telephone, running or not.
pub(crate) struct Phone {
    model: Model,
    account: PhoneConfig,
    home: PathBuf,
    /// The network namespace that it lives in, if it is not the host's.
    namespace: Option<String>,
    running: Option<Running>,
}

/// Its process, where commands go, and what it has said that nobody has waited for yet.
struct Running {
    child: Child,
    control: Box<dyn Write + Send>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    states: VecDeque<State>,
    calls: usize,
}

impl Phone {
    /// A telephone with this account, not yet started.
    pub(crate) fn new(model: Model, account: &PhoneConfig, namespace: Option<&str>) -> Self {
        Self {
            model,
            account: account.clone(),
            home: home::directory(match model {
                Model::Baresip => "baresip",
                Model::Linphone => "linphone",
                Model::SipJs => "sipjs",
            }),
            namespace: namespace.map(str::to_owned),
            running: None,
        }
    }

    /// Starts it: it registers by itself.
    pub(crate) fn start(&mut self) {
        self.kill();
        self.running = Some(match self.model {
            Model::Baresip => baresip::start(&self.account, &self.home),
            Model::Linphone => {
                linphone::start(&self.account, &self.home, self.namespace.as_deref())
            }
            Model::SipJs => sipjs::start(&self.account, &self.home),
        });
    }

    /// Kills it; it cannot say goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().expect("it is our child");
            running.child.wait().expect("it is our child");
        }
    }

    /// Stops it where it is, as a system does with an app in the background: its sockets stay open,
    /// and it reads nothing.
    pub(crate) fn suspend(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.as_ref().expect("the test has started it");
        let sent = Command::new("kill")
            .args([signal, &running.child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Makes Linphone or SIP.js register once more.
    pub(crate) fn register(&mut self) {
        let order = match self.model {
            Model::Linphone => linphone::register(&self.account),
            Model::SipJs => "register\n".to_owned(),
            Model::Baresip => panic!("baresip registers when it likes"),
        };
        self.order(|_| order);
    }

    /// Takes the call that rings.
    pub(crate) fn answer(&mut self) {
        self.order(|model| match model {
            Model::Baresip => baresip::order("accept", ""),
            Model::Linphone | Model::SipJs => "answer\n".to_owned(),
        });
    }

    /// Ends the call.
    pub(crate) fn hang_up(&mut self) {
        self.order(|model| match model {
            Model::Baresip => baresip::order("hangup", ""),
            Model::Linphone => "terminate\n".to_owned(),
            Model::SipJs => "hang_up\n".to_owned(),
        });
    }

    /// Calls an extension.
    pub(crate) fn dial(&mut self, extension: &str) {
        let uri = format!("sip:{extension}@{}", self.account.domain);
        self.order(|model| match model {
            Model::Baresip => baresip::order("dial", &uri),
            Model::Linphone => format!("call {uri}\n"),
            Model::SipJs => format!("dial {uri}\n"),
        });
    }

    /// Makes Linphone hold its first call.
    pub(crate) fn hold(&mut self) {
        self.order(|_| "call-pause 1\n".to_owned());
    }

    /// Makes Linphone take it up again.
    pub(crate) fn take_up(&mut self) {
        self.order(|_| "call-resume 1\n".to_owned());
    }

    /// Makes Linphone send whom it talks to in its first call to an extension.
    pub(crate) fn transfer(&mut self, extension: &str) {
        let uri = format!("sip:{extension}@{}", self.account.domain);
        self.order(|_| format!("call-transfer 1 {uri}\n"));
    }

    /// Takes SIP.js's connection away, as a network that goes does.
    pub(crate) fn vanish(&mut self) {
        self.order(|_| "vanish\n".to_owned());
    }

    /// Gives SIP.js another connection; it registers on it.
    pub(crate) fn come_back(&mut self) {
        self.order(|_| "return\n".to_owned());
    }

    /// Waits until it says this of a call, whatever it says before.
    pub(crate) async fn reaches(&self, state: State) {
        let running = self.running.as_ref().expect("the test has started it");
        let what = format!("{:?} says {state:?} ({})", self.model, self.home.display());
        eventually(&what, SOON, async || {
            let mut heard = running.heard.lock().expect("no holder panics");
            loop {
                if heard.states.pop_front()? == state {
                    return Some(());
                }
            }
        })
        .await;
    }

    /// Returns how often it was called since it was started.
    pub(crate) fn calls(&self) -> usize {
        let running = self.running.as_ref().expect("the test has started it");
        running.heard.lock().expect("no holder panics").calls
    }

    fn order(&mut self, order: impl FnOnce(Model) -> String) {
        let running = self.running.as_mut().expect("the test has started it");
        running
            .control
            .write_all(order(self.model).as_bytes())
            .and_then(|()| running.control.flush())
            .unwrap_or_else(|error| panic!("{:?} does not listen: {error}", self.model));
    }
}

impl Running {
    /// A telephone that takes commands on its standard input and tells events on its standard
    /// output, a line each; `state` says what a line means.
    fn on_pipes(mut child: Child, home: &Path, state: fn(&str) -> Option<State>) -> Self {
        let control = child.stdin.take().expect("it has a pipe");
        let events = child.stdout.take().expect("it has a pipe");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = Arc::clone(&heard);
        let mut kept = log(home, "events");
        thread::spawn(move || {
            for line in BufReader::new(events).lines().map_while(Result::ok) {
                writeln!(kept, "{line}").expect("our own file can be written");
                if let Some(state) = state(&line) {
                    hears.lock().expect("no holder panics").hear(state);
                }
            }
        });
        Self {
            child,
            control: Box::new(control),
            heard,
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Heard {
    fn hear(&mut self, state: State) {
        self.states.push_back(state);
        self.calls += usize::from(state == State::Ringing);
    }
}

/// A file that keeps what all lives of the telephone print.
fn log(home: &Path, name: &str) -> File {
    let file = File::options()
        .create(true)
        .append(true)
        .open(home.join(name));
    file.expect("a log can be made in a directory of ours")
}

/// The CA of Rouse's certificate as a file, for a telephone on TLS.
fn ca_file(account: &PhoneConfig, directory: &Path) -> Option<PathBuf> {
    let text = account.ca_pem.as_deref()?;
    let file = directory.join("ca.pem");
    home::write(&file, text);
    Some(file)
}
