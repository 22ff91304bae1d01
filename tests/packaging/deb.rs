//! What the Debian package names is there; `deb.sh` beside this file installs and runs it.

use std::path::Path;
use std::process::Command;

use toml::Table;

use crate::read;

fn package() -> Table {
    let manifest: Table = read("Cargo.toml").parse().expect("TOML");
    let deb = manifest["package"]["metadata"]["deb"].as_table();
    deb.expect("[package.metadata.deb]").clone()
}

/// Whether a path, or one with a star for the end of its name, leads to a file of the project.
fn is_there(path: &str) -> bool {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((folder, name)) = path
        .rsplit_once('/')
        .filter(|(_, name)| name.starts_with('*'))
    else {
        return top.join(path).is_file();
    };
    let ends = name.trim_start_matches('*');
    let mut files = top.join(folder).read_dir().into_iter().flatten().flatten();
    files.any(|file| file.file_name().to_string_lossy().ends_with(ends))
}

#[test]
fn the_package_names_files_that_are_there_and_keeps_the_operators_own() {
    let package = package();
    let assets = package["assets"].as_array().expect("a list");
    let part = |asset: &toml::Value, at: usize| asset[at].as_str().expect("a text").to_owned();
    for asset in assets {
        let (from, to, mode) = (part(asset, 0), part(asset, 1), part(asset, 2));
        // `make deb` makes these.
        assert!(from.starts_with("target/") || is_there(&from), "{from}");
        assert_eq!(to.starts_with("usr/bin/"), mode == "755", "{to}");
    }
    let own = package["conf-files"][0].as_str().expect("a path");
    let is_own = |asset: &&toml::Value| format!("/{}", part(asset, 1)) == own;
    let found = assets.iter().find(is_own).expect("the configuration");
    assert_eq!(part(found, 2), "640", "it may name secrets");
    for folder in [
        package["maintainer-scripts"].as_str(),
        package["systemd-units"]["unit-scripts"].as_str(),
    ] {
        assert!(is_there(&format!(
            "{}/*",
            folder.expect("a folder").trim_end_matches('/')
        )));
    }
}

#[test]
fn the_units_command_is_what_the_package_installs() {
    let unit = read("config/systemd/rouse.service");
    let value = |key: &str| {
        let mut lines = unit.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value)
    };
    let command = value("ExecStart").expect("a command");
    assert_eq!(
        command,
        "/usr/bin/rouse serve --config /etc/rouse/rouse.toml"
    );
    assert_eq!(
        (value("Type"), value("User")),
        (Some("notify-reload"), Some("rouse"))
    );
    for key in [
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectSystem",
        "WatchdogSec",
    ] {
        assert!(value(key).is_some(), "{key}");
    }
    // The user that the package makes, and where it may write.
    let script = read("config/debian/postinst");
    assert!(script.contains("adduser --quiet --system --group --home /var/lib/rouse"));
    assert_eq!(value("WorkingDirectory"), Some("/var/lib/rouse"));
}

#[test]
fn the_scripts_are_scripts() {
    for script in [
        ".ci/need",
        ".ci/run",
        "config/debian/postinst",
        "config/debian/postrm",
        "config/docker/root.sh",
        "docs/pictures.sh",
        "tests/admin/schemathesis.sh",
        "tests/packaging/deb.sh",
        "tests/packaging/image.sh",
    ] {
        let done = Command::new("bash")
            .args(["-n", script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("a shell");
        assert!(done.success(), "{script}");
    }
}
