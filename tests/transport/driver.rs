//! The whole driver: sockets, shards, store, metrics.

use std::path::Path;

use rouse::config::{Host, Source};
use rouse::io::transport::Stray;
use rouse::server::{ServeError, start};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::rig::{read_to_end, soon};

const REGISTER: &str = "REGISTER sip:pbx.example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKdriver1;rport\r\n\
    From: <sip:1000@pbx.example.com>;tag=a\r\n\
    To: <sip:1000@pbx.example.com>\r\n\
    Call-ID: driver-1\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: <sip:1000@192.0.2.1:5060;transport=tcp>\r\n\
    Expires: 600\r\n\
    Max-Forwards: 70\r\n\
    Content-Length: 0\r\n\r\n";

fn config(folder: &Path, upstream: &UdpSocket, listen: &str) -> rouse::config::Config {
    let upstream = format!("{};transport=udp", upstream.local_addr().unwrap());
    config_toward(folder, &upstream, listen)
}

fn config_toward(folder: &Path, upstream: &str, listen: &str) -> rouse::config::Config {
    let store = folder.join("store");
    let text = format!(
        r#"
        workers = 2
        [[listen]]
        transport = "udp"
        address = "{listen}"
        [[listen]]
        transport = "tcp"
        address = "{listen}"
        [[upstream]]
        name = "pbx"
        domains = ["*"]
        nodes = ["sip:{upstream}"]
        [store]
        path = "{}"
        "#,
        store.display()
    );
    rouse::config::read(&Source {
        name: "driver.toml".to_owned(),
        text,
        variables: Vec::new(),
        host: Host::detect(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_register_is_relayed_and_its_answer_returns_on_the_flow() {
    let folder = TempDir::new().unwrap();
    let asterisk = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let gateway = start(config(folder.path(), &asterisk, "127.0.0.1:0"))
        .await
        .unwrap();
    let mut phone = TcpStream::connect(gateway.addresses()[1]).await.unwrap();
    phone.write_all(REGISTER.as_bytes()).await.unwrap();

    let mut buffer = [0; 4096];
    let (length, from) = soon(asterisk.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(from, gateway.addresses()[0]);
    let relayed = String::from_utf8(buffer[..length].to_vec()).unwrap();
    assert!(relayed.starts_with("REGISTER "), "{relayed}");
    let answer = answer(&relayed);
    asterisk.send_to(answer.as_bytes(), from).await.unwrap();

    let metrics = gateway.metrics().clone();
    let counted = r#"responses_total{status_class="2xx",direction="out",transport="tcp"} 1"#;
    soon(async {
        while !metrics.encode().contains(counted) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    gateway.stop().await;
    let answered = String::from_utf8(read_to_end(&mut phone).await).unwrap();
    assert!(answered.contains("SIP/2.0 200 "), "{answered}");
    assert!(answered.contains("Call-ID: driver-1"), "{answered}");
    let text = metrics.encode();
    assert!(text.contains(r#"requests_total{method="REGISTER",direction="in",transport="tcp"} 1"#));
    assert!(
        text.contains(r#"store_writes_total{outcome="durable"} 1"#),
        "{text}"
    );
}

/// Whoever brings a message runs the shard. Here it is a thread outside the runtime, where the
/// connection to Asterisk cannot be opened: nothing else makes a shard panic.
#[tokio::test]
async fn a_panic_while_somebody_runs_a_shard_spares_him_and_ends_the_gateway() {
    let folder = TempDir::new().unwrap();
    let config = config_toward(folder.path(), "127.0.0.1:9;transport=tcp", "127.0.0.1:0");
    let mut gateway = start(config).await.unwrap();
    let (network, local) = (gateway.network().clone(), gateway.addresses()[0]);
    let visitor = std::thread::spawn(move || {
        // A shard's own task may be quicker at times: it has the runtime, and refuses the request.
        for number in 0..20 {
            let text = REGISTER.replace("driver", &format!("panic-{number}-"));
            network.take_stray(Stray {
                local,
                remote: ([127, 0, 0, 1], 9).into(),
                bytes: text.replace("SIP/2.0/TCP", "SIP/2.0/UDP").into(),
            });
        }
    });
    soon(gateway.shard_ended()).await;
    visitor.join().unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_busy_port_is_one_clear_sentence() {
    let folder = TempDir::new().unwrap();
    let asterisk = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let busy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let busy = busy.local_addr().map(|at| (busy, at.to_string())).unwrap();
    let refused = start(config(folder.path(), &asterisk, &busy.1)).await;
    let error: ServeError = refused.map(|_| ()).unwrap_err();
    let sentence = error.to_string();
    let expected = format!("cannot listen on udp {}: Address already in use", busy.1);
    assert!(sentence.starts_with(&expected), "{sentence}");
}

/// Asterisk's 200: the request's own headers, and a tag.
fn answer(request: &str) -> String {
    let mut answer = String::from("SIP/2.0 200 OK\r\n");
    for line in request.lines() {
        let name = line.split(':').next().unwrap();
        match name {
            "Via" | "From" | "Call-ID" | "CSeq" | "Contact" => {
                answer.push_str(line);
                if name == "Contact" {
                    answer.push_str(";expires=600");
                }
                answer.push_str("\r\n");
            }
            "To" => answer.push_str(&format!("{line};tag=pbx\r\n")),
            _ => {}
        }
    }
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer
}
