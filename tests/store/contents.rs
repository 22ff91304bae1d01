//! What goes in comes out: bindings, extensions, removals, expiry, the key.

use std::sync::mpsc::channel;
use std::time::Duration;

use rouse::io::store::{Loaded, Store, StoreConfig};
use rouse::proto::{StoreTicket, StoreWrite};

use crate::support::{FAR, NOW, Running, binding, contents, directory, key};

#[test]
fn a_binding_is_there_after_a_restart() {
    let directory = directory();
    let path = directory.path().join("data/store");
    let (mut running, before) = Running::open(&path);
    assert!(before.is_empty());
    assert!(running.put(binding(1)));
    running.store.close();
    assert_eq!(contents(&path)[&key(1)], binding(1));
}

#[test]
fn the_gateways_key_is_the_same_at_every_start() {
    let directory = directory();
    let open = || Store::open(StoreConfig::new(directory.path())).unwrap();
    let first = open().gateway_key();
    assert_ne!(first, [0; 32]);
    assert_eq!(open().gateway_key(), first);
}

#[test]
fn an_extension_changes_the_times_alone_and_the_next_put_replaces_it() {
    let directory = directory();
    let extend = |expires_unix| StoreWrite::Extend {
        key: key(1),
        expires_unix,
        registered_ms: NOW * 1000 + 5,
    };
    let (mut running, _) = Running::open(directory.path());
    assert!(running.put(binding(1)));
    assert!(running.write(extend(FAR + 9)));
    running.store.close();

    let (mut running, held) = Running::open(directory.path());
    let mut expected = binding(1);
    expected.expires_unix = FAR + 9;
    expected.registered_ms = NOW * 1000 + 5;
    assert_eq!(held[&key(1)], expected);
    assert!(running.put(binding(1)));
    running.store.close();
    assert_eq!(contents(directory.path())[&key(1)], binding(1));
}

#[test]
fn a_write_that_a_call_waits_for_waits_for_no_others_and_takes_them_along() {
    let directory = directory();
    let mut config = StoreConfig::new(directory.path());
    config.window = Duration::from_secs(3600);
    let (sender, reports) = channel();
    let store = Store::open(config)
        .unwrap()
        .start(move |ticket, durable| sender.send((ticket, durable)).unwrap())
        .unwrap();
    for (number, is_awaited) in [(1, false), (2, true)] {
        let ticket = StoreTicket {
            shard: 0,
            number,
            is_awaited,
        };
        let write = StoreWrite::Put(Box::new(binding(number)));
        store.submit(Some(ticket), write).unwrap();
    }
    for number in [1, 2] {
        let reported = reports.recv_timeout(Duration::from_secs(60));
        let reported = reported.map(|(ticket, durable)| (ticket.number, durable));
        assert_eq!(reported, Ok((number, true)));
    }
    store.close();
}

#[test]
fn within_one_group_the_last_word_on_a_binding_counts() {
    let directory = directory();
    let (running, _) = Running::open(directory.path());
    let extend = |number, expires_unix| StoreWrite::Extend {
        key: key(number),
        expires_unix,
        registered_ms: 7,
    };
    for write in [
        StoreWrite::Put(Box::new(binding(1))),
        extend(1, FAR + 1),
        extend(1, FAR + 2),
        StoreWrite::Put(Box::new(binding(2))),
        StoreWrite::Remove(key(2)),
        extend(2, FAR),
        StoreWrite::Remove(key(3)),
        StoreWrite::Put(Box::new(binding(3))),
        extend(4, FAR),
    ] {
        running.store.submit(None, write).unwrap();
    }
    running.store.close();
    let held = contents(directory.path());
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), [key(1), key(3)]);
    assert_eq!(held[&key(1)].expires_unix, FAR + 2);
    assert_eq!(held[&key(3)], binding(3));
}

#[test]
fn an_expired_binding_is_dropped_at_start_and_stays_away() {
    let directory = directory();
    let (mut running, _) = Running::open(directory.path());
    let mut short = binding(1);
    short.expires_unix = NOW + 10;
    assert!(running.put(short));
    assert!(running.put(binding(2)));
    running.store.close();

    let (running, held, loaded) = Running::open_at(directory.path(), NOW + 10);
    assert_eq!(held.into_keys().collect::<Vec<_>>(), [key(2)]);
    assert_eq!(
        loaded,
        Loaded {
            live: 1,
            expired: 1
        }
    );
    running.store.close();
    let (_, _, loaded) = Running::open_at(directory.path(), NOW);
    assert_eq!(
        loaded,
        Loaded {
            live: 1,
            expired: 0
        }
    );
}

#[test]
fn a_removed_binding_stays_away() {
    let directory = directory();
    let (mut running, _) = Running::open(directory.path());
    assert!(running.put(binding(1)));
    assert!(running.write(StoreWrite::Extend {
        key: key(1),
        expires_unix: FAR,
        registered_ms: 1,
    }));
    assert!(running.write(StoreWrite::Remove(key(1))));
    running.store.close();
    assert!(contents(directory.path()).is_empty());
}
