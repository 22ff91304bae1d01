//! What a process gets from whoever had its sockets before, and the way back to it.

#![expect(
    clippy::disallowed_methods,
    reason = "the way back is a task of the driver's"
)]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::io::takeover::{self, Note, Passage, Passed};
use crate::io::transport::{Inherited, Predecessor, Stray};

/// Datagrams that may wait for the process that served before.
const STRAYS: usize = 4096;

/// Sockets that are bound already, and perhaps a process that still ends its calls.
#[derive(Debug, Default)]
pub struct Heritage {
    pub(super) sockets: Inherited,
    /// Where the process that serves now can be asked to hand over.
    door: Option<PathBuf>,
    before: Option<(Note, Passage)>,
}

impl Heritage {
    /// What the service manager hands over.
    ///
    /// # Errors
    ///
    /// Fails if that is no listening socket.
    pub fn from_environment() -> io::Result<Self> {
        let sockets = Inherited::from_environment()?;
        Ok(Self {
            sockets,
            ..Self::default()
        })
    }

    /// Takes over from the process behind this socket, if there is one, at the last moment.
    #[must_use]
    pub fn from_process(self, door: PathBuf) -> Self {
        Self {
            door: Some(door),
            ..self
        }
    }

    /// Has the process that serves now hand over.
    pub(super) async fn take(&mut self) -> io::Result<()> {
        let Some(door) = self.door.take() else {
            return Ok(());
        };
        let Some(taken) = takeover::take(&door).await? else {
            tracing::info!("nobody serves: an ordinary start");
            return Ok(());
        };
        for socket in taken.sockets {
            self.sockets.add(socket)?;
        }
        self.before = Some((taken.note, taken.passage));
        Ok(())
    }

    /// Whether our branches are odd: never as those of the process before.
    pub(super) fn is_odd(&self) -> bool {
        let before = self.before.as_ref();
        before.map_or_else(rand::random, |(note, _)| !note.is_odd)
    }

    /// Begins to pass on what is for the process before.
    pub(super) fn predecessor(&mut self) -> Option<Arc<Predecessor>> {
        let (note, passage) = self.before.take()?;
        let (strays, waiting) = mpsc::channel(STRAYS);
        let predecessor = Predecessor::new(note.is_odd, note.requests, strays);
        let predecessor = Arc::new(predecessor);
        tokio::spawn(pass(Arc::clone(&predecessor), waiting, passage));
        Some(predecessor)
    }
}

/// Passes datagrams on until the process before has ended.
async fn pass(
    predecessor: Arc<Predecessor>,
    mut waiting: mpsc::Receiver<Stray>,
    mut passage: Passage,
) {
    loop {
        let stray = tokio::select! {
            () = passage.closed() => break,
            stray = waiting.recv() => stray,
        };
        let Some(stray) = stray else {
            break;
        };
        let datagram = Passed {
            local: stray.local,
            remote: stray.remote,
            bytes: stray.bytes,
        };
        if passage.pass(&datagram).await.is_err() {
            break;
        }
    }
    predecessor.is_gone();
    tracing::info!("the process that served before has ended");
}
