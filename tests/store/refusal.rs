//! Disks that refuse, and starts that are refused: full, read-only, locked, without key; and what
//! the files tell to whoever reads them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use memchr::memmem;
use rouse::io::store::{Store, StoreConfig, StoreError};
use rouse::proto::StoreWrite;

use crate::damage::files;
use crate::support::{Running, TOKEN, binding, contents, directory, key};

/// A small file system of its own, if this process may mount one.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Option<Self> {
        let directory = directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        writeln!(
            std::io::stderr(),
            "not tested: this process may not mount a tmpfs"
        )
        .unwrap();
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, option: &str) {
        // Another test that is starting a process holds copies of our files for a moment.
        let started = Instant::now();
        let remount = || {
            Command::new("mount")
                .args(["-o", &format!("remount,{option}")])
                .arg(self.path())
                .status()
        };
        while !remount().unwrap().success() {
            assert!(started.elapsed() < Duration::from_secs(5));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_recovers() {
    let Some(mount) = Mount::new("6m") else {
        return;
    };
    let store = mount.path().join("store");
    let (mut running, _) = Running::open(&store);
    assert!(running.put(binding(1)));
    assert!(running.put(binding(2)));

    let ballast = mount.path().join("ballast");
    fs::write(&ballast, vec![1; 6 << 20]).unwrap_err();
    let first_refused = (3..10_000)
        .find(|number| !running.put(binding(*number)))
        .unwrap();
    assert!(running.store.is_failing());
    assert!(
        !running.write(StoreWrite::Remove(key(1))),
        "nothing is durable on a full disk"
    );

    fs::remove_file(&ballast).unwrap();
    let started = Instant::now();
    while !running.put(binding(20_000)) {
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    assert!(!running.store.is_failing());
    running.store.close();

    let held = contents(&store);
    for number in (2..first_refused).chain([20_000]) {
        assert_eq!(held.get(&key(number)), Some(&binding(number)));
    }
    assert!(
        !held.contains_key(&key(1)),
        "a removal that failed is written when the disk has room again"
    );
}

#[test]
fn a_full_disk_at_the_first_start_is_a_clear_error() {
    let Some(mount) = Mount::new("64k") else {
        return;
    };
    fs::write(mount.path().join("ballast"), vec![1; 1 << 20]).unwrap_err();
    let error = Store::open(StoreConfig::new(mount.path().join("store"))).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

#[test]
fn a_read_only_disk_is_a_clear_error() {
    let Some(mount) = Mount::new("6m") else {
        return;
    };
    let store = mount.path().join("store");
    let (mut running, _) = Running::open(&store);
    assert!(running.put(binding(1)));
    running.store.close();
    mount.remount("ro");
    let error = Store::open(StoreConfig::new(&store)).unwrap_err();
    assert!(error.to_string().contains("cannot write in"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("Read-only file system"), "{source}");
    mount.remount("rw");
    assert_eq!(contents(&store).len(), 1);
}

#[test]
fn a_path_that_is_no_directory_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_path_buf(), file.path().join("store")] {
        let error = Store::open(StoreConfig::new(&path)).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = directory();
    let (running, _) = Running::open(directory.path());
    let error = Store::open(StoreConfig::new(directory.path())).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    assert!(error.to_string().ends_with("is in use by another process"));
    running.store.close();
    assert!(contents(directory.path()).is_empty());
}

#[test]
fn a_store_without_its_key_or_with_another_is_refused() {
    let directory = directory();
    let (mut running, _) = Running::open(directory.path());
    assert!(running.put(binding(1)));
    running.store.close();
    let key_file = directory.path().join("key");
    let kept = fs::read(&key_file).unwrap();
    let open = || Store::open(StoreConfig::new(directory.path())).unwrap_err();

    fs::remove_file(&key_file).unwrap();
    assert!(matches!(open(), StoreError::KeyMissing(_)));
    fs::write(&key_file, [7; 32]).unwrap();
    assert!(matches!(open(), StoreError::KeyWrong(_)));
    fs::write(&key_file, [7; 31]).unwrap();
    assert!(matches!(open(), StoreError::KeyMalformed { found: 31, .. }));

    fs::write(&key_file, kept).unwrap();
    assert_eq!(contents(directory.path()).len(), 1);
}

#[test]
fn the_files_tell_nothing_and_are_for_the_gateway_alone() {
    let directory = directory();
    let path = directory.path().join("store");
    let opened = Store::open_sized(StoreConfig::new(&path), crate::support::SMALL).unwrap();
    let store = opened.start(|_, _| {}).unwrap();
    for number in 0..600 {
        store
            .submit(None, StoreWrite::Put(Box::new(binding(number))))
            .unwrap();
    }
    store.close();
    let found = files(&path);
    assert!(found.len() > 10);
    for file in found {
        let bytes = fs::read(&file).unwrap();
        for secret in [TOKEN, "agent5", "192.0.2.1", "com.example.app"] {
            assert!(
                memmem::find(&bytes, secret.as_bytes()).is_none(),
                "{} has {secret} in clear",
                file.display()
            );
        }
    }
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("db"), 0o700);
    assert_eq!(mode("key"), 0o600);
    assert_eq!(mode("lock"), 0o600);
}
