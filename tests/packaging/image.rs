//! The image and the Compose file name what is there; `image.sh` beside this file runs the image's
//! root without an engine (`make test-package`).

use std::path::Path;
use std::process::{Command, Stdio};

use rouse::config::{self, Host, Source};

use crate::read;

#[test]
fn the_dockerfile_copies_what_is_there_and_runs_as_nobody() {
    let dockerfile = read("Dockerfile");
    let ignored = read(".dockerignore");
    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"));
    for line in copies {
        let mut names: Vec<&str> = line.split_whitespace().collect();
        names.pop();
        for name in names {
            assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists(),
                "{name}"
            );
            let is_sent = ignored.lines().any(|kept| kept == format!("!{name}"));
            assert!(is_sent, "{name} is not in .dockerignore");
        }
    }
    let has = |line: &str| dockerfile.lines().any(|known| known.trim() == line);
    assert!(has("USER 65532:65532") && has("FROM scratch"));
    assert!(has("ENTRYPOINT [\"/usr/bin/rouse\"]"));
    assert!(dockerfile.contains("HEALTHCHECK"));
}

#[test]
fn the_compose_file_mounts_what_is_there_and_its_configuration_holds() {
    let compose = read("config/compose/compose.yml");
    let mounts = compose.lines().filter_map(|line| {
        let mount = line.trim().strip_prefix("- ")?;
        mount.starts_with('.').then(|| mount.split(':').next())?
    });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/compose");
    let mut count = 0;
    for mount in mounts {
        assert!(folder.join(mount).exists(), "{mount}");
        count += 1;
    }
    assert_eq!(count, 4, "rouse.toml, certs, pjsip.conf, extensions.conf");
    let source = Source {
        name: "config/compose/rouse.toml".to_owned(),
        text: read("config/compose/rouse.toml"),
        variables: ["0", "1"]
            .map(|number| {
                let name = format!("ROUSE__LISTEN__{number}__ADVERTISE");
                (name, "192.0.2.10:5060".to_owned())
            })
            .to_vec(),
        host: Host::default(),
    };
    let config = config::read(&source).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let known = config.settings.listeners.iter();
    assert!(
        known
            .clone()
            .all(|listener| &*listener.advertise_host == "192.0.2.10")
    );
    // Asterisk listens there: ../asterisk.example/pjsip.conf.
    let nodes = config.settings.upstreams.iter();
    let mut nodes = nodes.flat_map(|group| &group.nodes);
    assert!(nodes.all(|node| node.port == Some(5080)));
    assert!(read("config/asterisk.example/pjsip.conf").contains("bind=127.0.0.1:5080"));
}

#[test]
fn an_engine_takes_the_compose_file_where_there_is_one() {
    let version = Command::new("docker")
        .args(["compose", "version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        // The other tests have read it.
        return;
    }
    let status = Command::new("docker")
        .args([
            "compose",
            "-f",
            "config/compose/compose.yml",
            "config",
            "--quiet",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("ADVERTISE", "192.0.2.10")
        .status()
        .expect("it is there");
    assert!(status.success());
}

#[test]
fn systemd_holds_the_ports_that_the_packages_configuration_names() {
    let socket = read("config/systemd/rouse.socket");
    let config = read("config/debian/rouse.toml");
    for line in ["ListenDatagram=0.0.0.0:5060", "ListenStream=0.0.0.0:5060"] {
        assert!(socket.lines().any(|known| known == line), "{line}");
    }
    assert_eq!(config.matches("\naddress = \"0.0.0.0:5060\"").count(), 2);
}
