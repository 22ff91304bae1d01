//! A store in a temporary directory, and bindings to put into it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use rouse::io::store::{Loaded, Store, StoreConfig};
use rouse::proto::push::params::PushParams;
use rouse::proto::push::{Pns, Prid};
use rouse::proto::registration::binding::StoredBinding;
use rouse::proto::{
    AorId, BindingId, BindingKey, Flow, FlowId, ListenerId, StoreTicket, StoreWrite, Transport,
};

/// When the tests' bindings end, unless they say otherwise.
pub(crate) const FAR: u64 = 4_000_000_000;
/// The time of the tests' starts.
pub(crate) const NOW: u64 = 2_000_000_000;
/// Bytes in memory with which tables are written all the time.
pub(crate) const SMALL: u64 = 64 << 10;
/// A token to search the files for.
pub(crate) const TOKEN: &str = "0f744707bebcf74f9b7c25d48e3358945f6aa01da5ddb387462c7eaf61bbad78";

/// An empty directory, in memory where the system has one: a process that is killed loses nothing
/// that the kernel has, so a disk would prove no more and syncs slowly.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A running store and what it reports.
pub(crate) struct Running {
    pub(crate) store: Store,
    pub(crate) reports: Receiver<(StoreTicket, bool)>,
    next: u64,
}

impl Running {
    /// Opens and starts a store, with what it held.
    pub(crate) fn open(path: &Path) -> (Self, BTreeMap<BindingKey, StoredBinding>) {
        let (running, bindings, _) = Self::open_at(path, NOW);
        (running, bindings)
    }

    pub(crate) fn open_at(
        path: &Path,
        now: u64,
    ) -> (Self, BTreeMap<BindingKey, StoredBinding>, Loaded) {
        let opened = Store::open(StoreConfig::new(path)).unwrap();
        let mut bindings = BTreeMap::new();
        let loaded = opened
            .load(now, |binding| {
                assert!(bindings.insert(binding.key, binding).is_none());
            })
            .unwrap();
        let (sender, reports) = channel();
        let store = opened
            .start(move |ticket, durable| {
                // dropped: a test may have stopped listening.
                sender.send((ticket, durable)).ok();
            })
            .unwrap();
        let running = Self {
            store,
            reports,
            next: 0,
        };
        (running, bindings, loaded)
    }

    /// Submits a write and waits for its report.
    pub(crate) fn write(&mut self, write: StoreWrite) -> bool {
        self.next += 1;
        let ticket = StoreTicket {
            shard: 0,
            number: self.next,
            is_awaited: false,
        };
        self.store.submit(Some(ticket), write).unwrap();
        let (reported, durable) = self.reports.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(reported, ticket);
        durable
    }

    pub(crate) fn put(&mut self, binding: StoredBinding) -> bool {
        self.write(StoreWrite::Put(Box::new(binding)))
    }
}

/// What a store holds, without starting it.
pub(crate) fn contents(path: &Path) -> BTreeMap<BindingKey, StoredBinding> {
    let mut bindings = BTreeMap::new();
    Store::open(StoreConfig::new(path))
        .unwrap()
        .load(NOW, |binding| {
            bindings.insert(binding.key, binding);
        })
        .unwrap();
    bindings
}

/// The name of the n-th device.
pub(crate) fn key(number: u64) -> BindingKey {
    BindingKey {
        aor: AorId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        binding: BindingId(number),
    }
}

/// The n-th device, about as large as a real one.
pub(crate) fn binding(number: u64) -> StoredBinding {
    StoredBinding {
        key: key(number),
        user: format!("agent{number}").into(),
        domain: "pbx.example.com".into(),
        upstream: "pbx".into(),
        contact: Bytes::from(format!(
            "<sip:agent{number}@192.0.2.1:5060;transport=tls;pn-provider=apns;\
             pn-param=ABCDE12345.com.example.app.voip;pn-prid={TOKEN}:voip>;\
             +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""
        )),
        instance: Some("<urn:uuid:00000000-0000-1000-8000-000a95a0e128>".into()),
        reg_id: Some(1),
        push: Some(PushParams {
            pns: Pns::Apns,
            app: "com.example.app".into(),
            detail: Some("ABCDE12345".into()),
            call_token: Prid::new(TOKEN),
            alert_token: Some(Prid::new(TOKEN)),
        }),
        flow: Flow {
            id: FlowId::Datagram {
                listener: ListenerId(0),
                remote: "192.0.2.1:40000".parse().unwrap(),
            },
            listener: ListenerId(0),
            remote: "192.0.2.1:40000".parse().unwrap(),
            transport: Transport::Udp,
        },
        expires_unix: FAR,
        registered_ms: NOW * 1000,
    }
}
