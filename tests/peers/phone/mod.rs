//! A telephone as a process: Linphone or baresip.

mod baresip;
mod linphone;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};

use rouse::standin::phone::PhoneConfig;

use crate::rig::stage::SOON;
use crate::rig::{eventually, home};

/// Whose telephone it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Baresip,
    Linphone,
}

/// What a telephone says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ringing,
    Talking,
    Over,
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
        });
    }

    /// Kills it; it cannot say goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().expect("it is our child");
            running.child.wait().expect("it is our child");
        }
    }

    /// Makes Linphone register once more.
    pub(crate) fn register(&mut self) {
        let order = linphone::register(&self.account);
        self.order(|_| order);
    }

    /// Takes the call that rings.
    pub(crate) fn answer(&mut self) {
        self.order(|model| match model {
            Model::Baresip => baresip::order("accept", ""),
            Model::Linphone => "answer\n".to_owned(),
        });
    }

    /// Ends the call.
    pub(crate) fn hang_up(&mut self) {
        self.order(|model| match model {
            Model::Baresip => baresip::order("hangup", ""),
            Model::Linphone => "terminate\n".to_owned(),
        });
    }

    /// Calls an extension.
    pub(crate) fn dial(&mut self, extension: &str) {
        let uri = format!("sip:{extension}@{}", self.account.domain);
        self.order(|model| match model {
            Model::Baresip => baresip::order("dial", &uri),
            Model::Linphone => format!("call {uri}\n"),
        });
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
