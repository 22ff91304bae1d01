//! What can be said of the gateway's health: the last word of the store, of DNS, of the push
//! services.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::io::admin::view::Check;
use crate::proto::Event;
use crate::proto::push::{Pns, PushError};
use crate::proto::settings::Node;

/// The last words.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// How many addresses each node of the upstreams has.
    nodes: Mutex<BTreeMap<u16, usize>>,
    store_failed: AtomicBool,
    /// The services that refused our credentials last.
    refused: Mutex<Vec<(Pns, String)>>,
    has_refused: AtomicBool,
}

impl Health {
    /// The store answered a write.
    pub(super) fn on_stored(&self, durable: bool) {
        // Read first: a write would take the line from the other cores each time.
        if self.store_failed.load(Ordering::Relaxed) == durable {
            self.store_failed.store(!durable, Ordering::Relaxed);
        }
    }

    /// Learns from what happened.
    pub(super) fn on_event(&self, event: &Event) {
        if let Event::NodeResolved { node, hops } = event {
            self.nodes.lock().insert(*node, *hops);
        } else if let Event::PushFailed { pns, error, .. } = event {
            if matches!(error, PushError::BadCredentials { .. }) {
                let mut refused = self.refused.lock();
                refused.retain(|(known, _)| known != pns);
                refused.push((*pns, error.to_string()));
                self.has_refused.store(true, Ordering::Relaxed);
            }
        } else if let Event::PushAccepted { pns, .. } = event {
            if self.has_refused.load(Ordering::Relaxed) {
                let mut refused = self.refused.lock();
                refused.retain(|(known, _)| known != pns);
                let is_left = !refused.is_empty();
                self.has_refused.store(is_left, Ordering::Relaxed);
            }
        } else if let Event::StoreFailed = event {
            self.store_failed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn store(&self) -> Check {
        let ok = !self.store_failed.load(Ordering::Relaxed);
        let text = if ok {
            "the last write is durable"
        } else {
            "the last registration could not be written: look at the disk of [store] path"
        };
        check("store", ok, text.to_owned())
    }

    /// Whether the upstreams' nodes have addresses.
    pub(super) fn upstreams(&self, nodes: &[Node]) -> Check {
        let known = self.nodes.lock();
        // One that is an address was never asked for.
        let is_lost = |node: &&Node| known.get(&node.index) == Some(&0);
        let lost: Vec<u16> = nodes
            .iter()
            .filter(is_lost)
            .map(|node| node.index)
            .collect();
        let text = if lost.is_empty() {
            format!("all {} nodes have an address", nodes.len())
        } else {
            format!("no address for the nodes {lost:?}, counted from 0 in file order")
        };
        check("upstreams", lost.len() < nodes.len(), text)
    }

    pub(super) fn push(&self) -> Check {
        let refused = self.refused.lock();
        let text: Vec<String> = refused
            .iter()
            .map(|(pns, error)| format!("{}: {error}", pns.label()))
            .collect();
        let ok = text.is_empty();
        check(
            "push",
            ok,
            if ok {
                "no credentials were refused".to_owned()
            } else {
                text.join("; ")
            },
        )
    }
}

fn check(name: &str, ok: bool, text: String) -> Check {
    Check {
        name: name.to_owned(),
        ok,
        text,
    }
}
