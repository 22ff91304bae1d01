//! The program as an operator meets it: exit codes, sentences, signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const UPSTREAM: &str = "[[upstream]]\nname = \"pbx\"\ndomains = [\"*\"]\n";

fn rouse(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.current_dir(dir).args(arguments).env_clear();
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = rouse(dir, arguments).output().expect("the program");
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (status.code().expect("an exit code"), text.into_owned())
}

fn config(dir: &Path, text: &str) {
    fs::write(dir.join("rouse.toml"), text).expect("a file");
}

fn listen(transport: &str, address: &str) -> String {
    format!("[[listen]]\ntransport = \"{transport}\"\naddress = \"{address}\"\n")
}

/// Starts the gateway and waits for `lines` lines that say where it listens.
fn serve(dir: &Path, lines: usize) -> (Child, Vec<String>, impl std::io::Read) {
    let mut child = rouse(dir, &["serve", "-c", "rouse.toml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
    let mut said = Vec::new();
    for _ in 0..lines {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        said.push(line.trim_end().to_owned());
    }
    (child, said, stdout)
}

#[test]
fn a_wrong_command_line_exits_64() {
    let dir = tempfile::tempdir().expect("a folder");
    for arguments in [&["serv"][..], &["serve", "--colour"], &[]] {
        let (code, text) = run(dir.path(), arguments);
        assert_eq!(code, 64, "{text}");
    }
    assert_eq!(run(dir.path(), &["--help"]).0, 0);
    assert_eq!(run(dir.path(), &["--version"]).0, 0);
}

#[test]
fn a_wrong_configuration_exits_78_with_every_mistake() {
    let dir = tempfile::tempdir().expect("a folder");
    config(dir.path(), "colour = 1\n[wake]\ntimeout = \"25\"\n");
    for command in ["serve", "check"] {
        let (code, text) = run(dir.path(), &[command, "-c", "rouse.toml"]);
        assert_eq!(code, 78, "{text}");
        assert!(
            text.contains("rouse: rouse.toml:1:1: unknown key `colour`"),
            "{text}"
        );
        assert!(
            text.contains("rouse: rouse.toml:3:11: \"25\" has no unit"),
            "{text}"
        );
        assert!(
            text.contains("rouse: 3 mistakes in the configuration"),
            "{text}"
        );
        let (code, text) = run(dir.path(), &[command, "-c", "none.toml"]);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("there is no file \"none.toml\""), "{text}");
    }
}

#[test]
fn it_makes_certificates_once_serves_with_them_and_stops_at_a_signal() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, text) = run(dir.path(), &["certs", "--name", "pbx.example.com"]);
    assert_eq!(code, 0, "{text}");
    let key = fs::metadata(dir.path().join("certs/server.key")).expect("the key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let (code, text) = run(dir.path(), &["certs"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("certs/ca.pem is there already: --force replaces it"),
        "{text}"
    );

    let files = "[tls]\ncertificate = \"certs/server.pem\"\nkey = \"certs/server.key\"\n";
    let text = listen("udp", "127.0.0.1:0")
        + &listen("tcp", "[::1]:0")
        + &listen("tls", "127.0.0.1:0")
        + files
        + UPSTREAM
        + "nodes = [\"sip:127.0.0.1:9\"]\n";
    config(dir.path(), &text);
    let (code, text) = run(dir.path(), &["check", "--offline", "-c", "rouse.toml"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("pbx.example.com"), "{text}");

    let (mut child, said, mut rest) = serve(dir.path(), 3);
    assert!(
        said[0].starts_with("listening on udp 127.0.0.1:"),
        "{said:?}"
    );
    assert!(said[1].starts_with("listening on tcp [::1]:"), "{said:?}");
    let address = said[2].strip_prefix("listening on tls ").expect("tls");
    let (address, known) = address.split_once(", known as ").expect("both");
    assert_eq!(address, known, "the real port is advertised");
    TcpStream::connect(address).expect("it listens");

    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("a signal");
    let mut text = String::new();
    rest.read_to_string(&mut text).expect("the rest");
    assert_eq!(text, "SIGTERM: stopping\nstopped\n");
    assert!(child.wait().expect("its end").success());
}

#[test]
fn a_taken_port_is_one_sentence_with_its_holder() {
    let dir = tempfile::tempdir().expect("a folder");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    let upstream = format!("{UPSTREAM}nodes = [\"sip:127.0.0.1:9\"]\n");
    config(dir.path(), &(listen("tcp", &address) + &upstream));
    let (code, text) = run(dir.path(), &["serve", "-c", "rouse.toml"]);
    assert_eq!(code, 1, "{text}");
    let sentence = format!("rouse: cannot listen on tcp {address}: the port is taken; ");
    assert!(text.contains(&sentence), "{text}");
    assert!(
        text.contains(&format!("(process {})", std::process::id())),
        "{text}"
    );
}

#[test]
fn check_says_that_nobody_answers_for_asterisk_and_that_somebody_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = node.local_addr().expect("its address");
    let upstream = format!("{UPSTREAM}nodes = [\"sip:{silent};transport=tcp\"]\n");
    config(dir.path(), &(listen("udp", "127.0.0.1:0") + &upstream));
    let answer = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = node.accept().expect("a connection");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).expect("a request");
        assert!(request[..length].starts_with(b"OPTIONS sip:127.0.0.1:"));
        stream
            .write_all(b"SIP/2.0 200 OK\r\n\r\n")
            .expect("an answer");
    });
    let (code, text) = run(dir.path(), &["check", "-c", "rouse.toml"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("answers OPTIONS with 200 OK"), "{text}");
    answer.join().expect("asked once");
    let (code, text) = run(dir.path(), &["check", "-c", "rouse.toml"]);
    assert_eq!(code, 78, "{text}");
    assert!(
        text.contains(&format!("nothing listens on tcp {silent}")),
        "{text}"
    );
}
