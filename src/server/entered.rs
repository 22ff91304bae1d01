//! The devices that operators have entered over the API: as `[[device]]` has them, and durable.

use std::hash::Hasher as _;
use std::sync::Arc;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::config::MOST_DEVICES;
use crate::io::store::{EnteredFile, OpenedStore, StoreError};
use crate::proto::settings::{ConfiguredDevice, Settings};

/// Why a device was not entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnterError {
    /// There are as many as there may be.
    #[error("{MOST_DEVICES} devices are entered already: remove some")]
    Full,
    /// It would not be there after a restart.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process ends.
    #[error("the gateway is stopping")]
    Stopping,
}

/// What has been entered.
#[derive(Debug)]
pub(super) struct Entered {
    file: EnteredFile,
    list: Mutex<Arc<Vec<ConfiguredDevice>>>,
}

impl Entered {
    /// What had been entered when the store was last closed.
    pub(super) fn load(store: &OpenedStore) -> Result<Self, StoreError> {
        let file = store.entered()?;
        let list = Mutex::new(Arc::new(file.read()?));
        Ok(Self { file, list })
    }

    /// The settings with what has been entered: before the configuration's own devices, for it is
    /// the later word. What nobody pushes for any more is left out.
    pub(super) fn lay_over(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        let push = &mut settings.push;
        let entered = self.list();
        let mut devices: Vec<ConfiguredDevice> = entered
            .iter()
            .filter(|device| push.can_push(device.params.pns, &device.params.app))
            .cloned()
            .collect();
        let idle = entered.len() - devices.len();
        if idle > 0 {
            tracing::warn!(idle, "nobody pushes for devices that are entered");
        }
        devices.append(&mut push.devices);
        push.devices = devices;
        settings
    }

    /// All of them, in the order in which they were entered.
    pub(super) fn list(&self) -> Arc<Vec<ConfiguredDevice>> {
        Arc::clone(&self.list.lock())
    }

    /// Enters a device, or another token for it; whether it was not there before. One at a time.
    pub(super) async fn add(self: Arc<Self>, device: ConfiguredDevice) -> Result<bool, EnterError> {
        let mut list = self.list().to_vec();
        let name = number(&device);
        let is_full = list.len() >= MOST_DEVICES;
        let known = list.iter_mut().find(|known| number(known) == name);
        let is_new = known.is_none();
        match known {
            Some(known) => *known = device,
            None if is_full => return Err(EnterError::Full),
            None => list.push(device),
        }
        self.put(list).await?;
        Ok(is_new)
    }

    /// Removes a device; whether it was there. One at a time.
    pub(super) async fn remove(self: Arc<Self>, name: u64) -> Result<bool, EnterError> {
        let mut list = self.list().to_vec();
        let before = list.len();
        list.retain(|known| number(known) != name);
        if list.len() == before {
            return Ok(false);
        }
        self.put(list).await?;
        Ok(true)
    }

    /// Only what is durable holds.
    async fn put(self: Arc<Self>, list: Vec<ConfiguredDevice>) -> Result<(), EnterError> {
        let writing = move || {
            self.file.write(&list)?;
            *self.list.lock() = Arc::new(list);
            Ok::<(), StoreError>(())
        };
        let written = tokio::task::spawn_blocking(writing).await;
        Ok(written.map_err(|_| EnterError::Stopping)??)
    }
}

/// The name of what was entered: whose it is and for which device, whatever its token.
pub(super) fn number(device: &ConfiguredDevice) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6565_6e74, 0);
    hasher.write(device.user.as_bytes());
    for part in [&device.domain, &device.instance, &device.user_agent] {
        match part {
            Some(part) => {
                hasher.write_u8(1);
                hasher.write_usize(part.len());
                hasher.write(part.as_bytes());
            }
            None => hasher.write_u8(0),
        }
    }
    hasher.finish()
}
