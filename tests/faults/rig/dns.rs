//! A name server for one name, and a Rouse that asks it.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::{home, loopback};

/// Its thread ends with the test's process.
pub(crate) struct Dns {
    address: Arc<Mutex<Option<Ipv4Addr>>>,
    file: PathBuf,
}

/// Puts our resolv.conf before the machine's, for this process and whom it starts.
const OWN_RESOLVER: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

impl Dns {
    /// Serves on port 53 of an address of its own; `None` if this process may not, or may not give
    /// another a resolv.conf.
    pub(crate) fn serve(name: &str) -> Option<Self> {
        let server = loopback::address();
        let file = home::directory("dns").join("resolv.conf");
        home::write(&file, &format!("nameserver {server}\n"));
        let address = Arc::default();
        let dns = Self { address, file };
        let words = dns.through();
        let (first, rest) = words.split_first().expect("unshare");
        let tried = Command::new(first).args(rest).arg("true").status();
        let is_possible = tried.is_ok_and(|status| status.success());
        let (true, Ok(socket)) = (is_possible, UdpSocket::bind((server, 53))) else {
            use std::io::Write as _;
            // dropped: there is nobody to tell that standard error is closed.
            drop(writeln!(
                std::io::stderr(),
                "not tested: this process may not change where names are looked up"
            ));
            return None;
        };
        let name = Name::from_ascii(format!("{name}.")).expect("a name");
        let address = Arc::clone(&dns.address);
        thread::spawn(move || answer(&socket, &name, &address));
        Some(dns)
    }

    /// Its name is there from now on, or nobody answers.
    pub(crate) fn answers(&self, address: Option<Ipv4Addr>) {
        *self.address.lock().expect("no holder panics") = address;
    }

    /// What starts a program that asks it.
    pub(crate) fn through(&self) -> Vec<String> {
        let words = ["unshare", "-m", "sh", "-c", OWN_RESOLVER];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.push(self.file.display().to_string());
        words
    }
}

fn answer(socket: &UdpSocket, name: &Name, address: &Mutex<Option<Ipv4Addr>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        let query = question.queries.first().expect("one").clone();
        let Some(address) = *address.lock().expect("no holder panics") else {
            continue;
        };
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.add_query(query.clone());
        if query.name() == name && query.query_type() == RecordType::A {
            // One second: Rouse makes it five.
            message.add_answer(Record::from_rdata(name.clone(), 1, RData::A(A(address))));
        }
        let bytes = message.to_vec().expect("an answer");
        // dropped: whoever asked asks again.
        drop(socket.send_to(&bytes, peer));
    }
}
