//! The running transports: the table of connections, and sending.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::io::clock::Clock;
use crate::io::transport::admission::{Admission, Share};
use crate::io::transport::connection::{Connection, Report, SendError};
use crate::io::transport::counts::Counts;
use crate::io::transport::inherit::Stray;
use crate::io::transport::inlet::Inlet;
use crate::io::transport::listening::Listening;
use crate::io::transport::stream::StreamTask;
use crate::io::transport::tls::{TlsClient, TlsServer};
use crate::io::transport::udp::DatagramSocket;
use crate::io::transport::wire::Sight;
use crate::io::transport::{TransportLimits, hop};
use crate::proto::sip::{FrameLimits, Message};
use crate::proto::{
    CloseReason, ConnectionId, Destination, Flow, FlowId, Hop, ListenerId, Transport,
};

/// How often a full house may be searched for a connection to close.
const EVICT_EVERY: Duration = Duration::from_millis(20);
/// How long connections may take to close at the end.
const STOP: Duration = Duration::from_secs(2);

/// The running transports.
#[derive(Debug)]
pub struct Network {
    inlet: Arc<Inlet>,
    connections: DashMap<ConnectionId, Arc<Connection>, RandomState>,
    hops: DashMap<Hop, Arc<Connection>, RandomState>,
    datagrams: Vec<Option<Arc<DatagramSocket>>>,
    /// Transport and bound address of each listener.
    listeners: Vec<(Transport, SocketAddr)>,
    next: AtomicU64,
    frames: FrameLimits,
    pub(super) limits: Arc<TransportLimits>,
    pub(super) admission: Arc<Admission>,
    pub(super) handshakes: Semaphore,
    pub(super) tls: Option<Arc<TlsServer>>,
    pub(super) upstream_tls: TlsClient,
    last_eviction: Mutex<Option<Instant>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Those that still send when nothing is received any more.
    senders: Mutex<Vec<AbortHandle>>,
    /// Copies of the stream listeners' sockets.
    copies: Mutex<Vec<OwnedFd>>,
    /// Connections that run, to wait for the last one.
    running: watch::Sender<usize>,
}

impl Network {
    pub(super) fn new(listening: Listening, inlet: Arc<Inlet>) -> Self {
        let config = listening.config;
        let limits = Arc::new(config.limits);
        let transports = config.listeners.iter().map(|(transport, _)| *transport);
        Self {
            inlet,
            connections: DashMap::default(),
            hops: DashMap::default(),
            datagrams: listening.datagrams,
            listeners: transports.zip(listening.addresses).collect(),
            next: AtomicU64::new(config.first_connection),
            frames: config.frames,
            admission: Arc::new(Admission::new(
                limits.connections,
                limits.connections_per_address,
                limits.exempt.clone(),
            )),
            handshakes: Semaphore::new(limits.handshakes),
            limits,
            tls: listening.tls,
            upstream_tls: listening.upstream_tls,
            last_eviction: Mutex::new(None),
            tasks: Mutex::new(Vec::new()),
            senders: Mutex::new(Vec::new()),
            copies: Mutex::new(listening.copies),
            running: watch::Sender::new(0),
        }
    }

    /// Sends a message and returns the transport that takes it. A failure is counted here and told
    /// to the caller; one that comes later is told to `report` by [`Input::SendFailed`](crate::proto::Input::SendFailed).
    ///
    /// # Errors
    ///
    /// Fails if the flow is gone, its queue is full, or the datagram was refused.
    pub fn send(
        self: &Arc<Self>,
        to: &Destination,
        message: Bytes,
        report: Option<Report>,
    ) -> Result<Transport, SendError> {
        let result = match to {
            Destination::Flow(FlowId::Datagram { listener, remote }) => self
                .send_datagram(*listener, *remote, message)
                .map(|()| Transport::Udp),
            Destination::Flow(FlowId::Stream(id)) => match self.connections.get(id) {
                Some(connection) => {
                    let flow = connection.flow;
                    self.show(Some(flow.listener), flow.remote, flow.transport, &message);
                    let sent = connection.send(message, report);
                    sent.map(|()| connection.flow.transport)
                }
                None => Err(SendError::FlowGone),
            },
            Destination::Hop(hop) => {
                self.show(None, hop.address, hop.transport, &message);
                self.send_hop(hop, message, report).map(|()| hop.transport)
            }
        };
        match result {
            Ok(_) | Err(SendError::Refused) => {}
            Err(SendError::FlowGone) => {
                self.counts().dropped.flow_gone.inc();
            }
            Err(SendError::QueueFull) => {
                self.counts().dropped.write_queue.inc();
            }
        }
        result
    }

    /// Pings a WebSocket; other flows have no ping that phones answer.
    pub fn ping(&self, flow: FlowId) {
        let counts = self.counts();
        match flow {
            FlowId::Datagram { .. } => {
                counts.dropped.no_ping.inc();
            }
            FlowId::Stream(id) => {
                let sent = match self.connections.get(&id) {
                    Some(connection) if !connection.flow.transport.is_websocket() => {
                        counts.dropped.no_ping.inc();
                        return;
                    }
                    Some(connection) => connection.ping(),
                    None => Err(SendError::FlowGone),
                };
                if sent.is_err() {
                    counts.dropped.flow_gone.inc();
                }
            }
        }
    }

    /// Closes a connection once its queue is written; a datagram flow has nothing to close.
    pub fn close(&self, flow: FlowId) {
        if let FlowId::Stream(id) = flow
            && let Some(connection) = self.connections.get(&id)
        {
            connection.close(CloseReason::Local);
        }
    }

    /// A shard has an agent on the flow. False if the flow is gone: then nobody else says so.
    #[must_use]
    pub fn bind_flow(&self, flow: FlowId, shard: u16) -> bool {
        match flow {
            FlowId::Datagram { listener, remote } => {
                self.inlet.bind_datagram(listener, remote, shard);
                true
            }
            FlowId::Stream(id) => {
                let connection = self.connections.get(&id);
                connection.is_some_and(|connection| connection.bind(shard))
            }
        }
    }

    /// A shard has no agent on the flow any more.
    pub fn unbind_flow(&self, flow: FlowId, shard: u16) {
        match flow {
            FlowId::Datagram { listener, remote } => {
                self.inlet.unbind_datagram(listener, remote, shard);
            }
            FlowId::Stream(id) => {
                if let Some(connection) = self.connections.get(&id) {
                    connection.unbind(shard);
                }
            }
        }
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.running.borrow()
    }

    /// Bounds the connections in another way from now on; whoever is in stays.
    pub fn change_limits(&self, connections: usize, per_address: usize, exempt: Vec<IpNet>) {
        self.admission.change(connections, per_address, exempt);
    }

    /// Stops accepting and receiving. What has been read is in the shards' queues afterwards: a
    /// task that is told to end may still be at work on another thread.
    pub async fn stop_listening(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(%error, "a listener has ended");
            }
        }
        self.copies.lock().clear();
    }

    /// Copies of the listening sockets, for a process that takes over.
    ///
    /// # Errors
    ///
    /// Fails if there is no file descriptor left.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let datagrams = self.datagrams.iter().flatten().map(|socket| socket.copy());
        let copies = self.copies.lock();
        let streams = copies.iter().map(OwnedFd::try_clone);
        datagrams.chain(streams).collect()
    }

    /// A datagram that came to the process that took over.
    pub fn take_stray(&self, stray: Stray) {
        let is_it = |(transport, address): &(Transport, SocketAddr)| {
            *transport == Transport::Udp && *address == stray.local
        };
        let Some(listener) = self.listeners.iter().position(is_it) else {
            return;
        };
        let listener = ListenerId(u16::try_from(listener).unwrap_or_default());
        let flow = Flow {
            id: FlowId::Datagram {
                listener,
                remote: stray.remote,
            },
            listener,
            remote: stray.remote,
            transport: Transport::Udp,
        };
        if let Ok(message) = Message::parse(stray.bytes) {
            let touched = self.inlet.datagram_message(flow, message);
            self.inlet.attend_all(touched);
        }
    }

    /// Closes every connection once its queue is written, and waits for them.
    pub async fn stop(&self) {
        self.stop_listening().await;
        for connection in &self.connections {
            connection.close(CloseReason::Local);
        }
        let mut running = self.running.subscribe();
        let all_closed = running.wait_for(|running| *running == 0);
        if tokio::time::timeout(STOP, all_closed).await.is_err() {
            let open = self.connections();
            tracing::warn!(open, "connections did not close in time");
        }
        for task in self.senders.lock().drain(..) {
            task.abort();
        }
    }

    // --- for the connections' tasks ---

    pub(super) fn counts(&self) -> &Counts {
        &self.inlet.counts
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().push(tokio::spawn(task));
    }

    pub(super) fn spawn_sender(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.senders.lock().push(tokio::spawn(task).abort_handle());
    }

    pub(super) fn next_flow(&self) -> FlowId {
        FlowId::Stream(ConnectionId(self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// A connection that somebody opened to us.
    pub(super) fn inbound(&self, flow: Flow, share: Option<Share>) -> Arc<Connection> {
        let limit = self.limits.write_queue;
        Arc::new(Connection::new(flow, false, limit, share))
    }

    /// Makes the task of an open connection. Boxed: a future that owned the stream would hold room
    /// for it once per call on the way, for as long as the connection lives.
    pub(super) fn task<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        connection: Arc<Connection>,
    ) -> Box<StreamTask<S>> {
        let (inlet, limits) = (Arc::clone(&self.inlet), Arc::clone(&self.limits));
        let task = StreamTask::new(stream, connection, inlet, limits, self.frames);
        Box::new(task)
    }

    /// Runs a connection from its first byte to its end.
    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut task: Box<StreamTask<S>>,
    ) {
        let connection = Arc::clone(task.connection());
        let flow = connection.flow;
        let FlowId::Stream(id) = flow.id else {
            return;
        };
        self.connections.insert(id, Arc::clone(&connection));
        self.running.send_modify(|running| *running += 1);
        self.counts().open(flow.transport).inc();
        let reason = match unless_it_panics(task.run()).await {
            Some(reason) => reason,
            None => {
                // Whoever counts on the connection must hear of its end all the same.
                let bound = self.abandon(&connection).await;
                let reason = CloseReason::Transport;
                self.inlet.closed(flow.id, bound, reason).await;
                reason
            }
        };
        tracing::debug!(?id, ?reason, "connection closed");
        self.connections.remove(&id);
        self.counts().open(flow.transport).dec();
        self.counts().close(reason);
        self.running.send_modify(|running| *running -= 1);
    }

    /// Answers those who wait for a connection that was never opened, or whose task is no more.
    /// Returns the shards that have agents on it.
    pub(super) async fn abandon(&self, connection: &Connection) -> u64 {
        let remains = connection.shut();
        for message in remains.queue {
            match message.report {
                Some(report) => self.inlet.report(report).await,
                None => {
                    self.counts().dropped.unsent.inc();
                }
            }
        }
        remains.bound
    }

    pub(super) fn forget_hop(&self, hop: &Hop, connection: &Arc<Connection>) {
        self.hops
            .remove_if(hop, |_, current| Arc::ptr_eq(current, connection));
    }

    /// Closes a connection that has not said anything of use, to make room for another.
    pub(super) fn evict_stranger(&self) -> bool {
        let now = Clock::now();
        {
            let mut last = self.last_eviction.lock();
            if last.is_some_and(|last| now < last + EVICT_EVERY) {
                return false;
            }
            *last = Some(now);
        }
        let stranger = self
            .connections
            .iter()
            .find(|connection| connection.is_stranger.load(Ordering::Relaxed));
        stranger.is_some_and(|connection| {
            connection.close(CloseReason::Idle);
            true
        })
    }

    // --- private ---

    fn show(
        &self,
        listener: Option<ListenerId>,
        remote: SocketAddr,
        transport: Transport,
        bytes: &[u8],
    ) {
        self.inlet.tap.see(Sight {
            is_in: false,
            listener,
            remote,
            transport,
            bytes,
        });
    }

    fn send_datagram(
        &self,
        listener: ListenerId,
        remote: SocketAddr,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.show(Some(listener), remote, Transport::Udp, &message);
        match self.datagrams.get(usize::from(listener.0)) {
            Some(Some(socket)) => socket.send(remote, message, self.counts()),
            Some(None) | None => Err(SendError::FlowGone),
        }
    }

    fn send_hop(
        self: &Arc<Self>,
        hop: &Hop,
        message: Bytes,
        report: Option<Report>,
    ) -> Result<(), SendError> {
        if let Some(connection) = self.hops.get(hop) {
            match connection.send(message.clone(), report) {
                Err(SendError::FlowGone) => {}
                done @ (Ok(()) | Err(SendError::QueueFull | SendError::Refused)) => return done,
            }
        }
        let connection = match self.hops.entry(hop.clone()) {
            Entry::Occupied(mut entry) => {
                // Another shard may have opened it since.
                let sent = entry.get().send(message.clone(), report);
                if sent != Err(SendError::FlowGone) {
                    return sent;
                }
                let connection = self.outbound(hop);
                entry.insert(Arc::clone(&connection));
                connection
            }
            Entry::Vacant(entry) => {
                let connection = self.outbound(hop);
                Arc::clone(&entry.insert(connection))
            }
        };
        let sent = connection.send(message, report);
        tokio::spawn(hop::run(Arc::clone(self), hop.clone(), connection));
        sent
    }

    /// A connection that we are about to open to a hop. Its listener is the one that stands for us: of the same
    /// transport and address family if there is one.
    fn outbound(&self, hop: &Hop) -> Arc<Connection> {
        let find = |family: bool| {
            self.listeners.iter().position(|(transport, address)| {
                *transport == hop.transport
                    && (!family || address.is_ipv4() == hop.address.is_ipv4())
            })
        };
        let listener = find(true)
            .or_else(|| find(false))
            .or_else(|| {
                let mut listeners = self.listeners.iter();
                listeners.position(|(transport, _)| !transport.is_websocket())
            })
            .unwrap_or_default();
        let flow = Flow {
            id: self.next_flow(),
            listener: ListenerId(u16::try_from(listener).unwrap_or_default()),
            remote: hop.address,
            transport: hop.transport,
        };
        let limit = self.limits.hop_write_queue;
        Arc::new(Connection::new(flow, true, limit, None))
    }
}

/// Runs a connection's task; `None` if it panicked, which must cost nobody else anything.
async fn unless_it_panics<T>(task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use tokio::io::ReadBuf;
    use tokio::sync::mpsc;

    use super::*;
    use crate::io::transport::{ShardQueues, TransportConfig, bind};
    use crate::proto::Input;

    /// A stream whose reading panics.
    struct Panics;

    impl AsyncRead for Panics {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            panic!("a defect of ours")
        }
    }

    impl AsyncWrite for Panics {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_connection_whose_task_panics_is_gone_and_its_agents_sleep() {
        let (queue, mut inputs) = mpsc::channel(4);
        let (answers, _answers) = mpsc::channel(4);
        let queues = ShardQueues {
            network: queue,
            answers,
        };
        let inlet = Arc::new(Inlet::new(vec![queues], &[0; 32], Counts::default()));
        let config = TransportConfig {
            listeners: Vec::new(),
            tls: None,
            upstream_ca: None,
            frames: FrameLimits {
                message_bytes: 65_536,
                headers: 128,
            },
            first_connection: 1,
            limits: TransportLimits::default(),
        };
        let network = bind(config).unwrap().start(inlet);
        let flow = Flow {
            id: network.next_flow(),
            listener: ListenerId(0),
            remote: SocketAddr::from(([192, 0, 2, 1], 5060)),
            transport: Transport::Tcp,
        };
        let connection = network.inbound(flow, None);
        assert!(connection.bind(0));
        network.run(network.task(Panics, connection)).await;
        assert_eq!(network.connections(), 0);
        assert!(network.connections.is_empty());
        let closed = inputs.try_recv().unwrap();
        assert!(matches!(closed, Input::FlowClosed { flow: id, .. } if id == flow.id));
    }
}
