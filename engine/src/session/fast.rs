//! The fast tier of a session: memory of the host, or of a simulated device behind staging.

use larder_pool::device::SimDevice;
use larder_pool::path::Bounce;
use larder_pool::sys::mapping::{MapError, Mapping};
use larder_pool::sys::space::{DeviceKey, Space};
use std::sync::Arc;

/// Staging of one path to or from a device, in bytes: its window, and a piece more.
const STAGING_BYTES: u64 = 5 << 20;

/// See the module.
pub(super) struct FastTier {
    pub(super) name: &'static str,
    pub(super) space: Arc<Space>,
    /// Of a device: the right to its bytes, and its copy engine.
    pub(super) key: Option<Arc<DeviceKey>>,
    pub(super) device: Option<SimDevice>,
}

impl FastTier {
    pub(super) fn new(mapping: Mapping, is_device: bool) -> std::io::Result<Self> {
        if !is_device {
            return Ok(Self {
                name: "dram",
                space: Space::mapped(mapping),
                key: None,
                device: None,
            });
        }
        let (space, key) = Space::device(mapping);
        let key = Arc::new(key);
        Ok(Self {
            name: "hbm",
            space,
            device: Some(SimDevice::start(Arc::clone(&key))?),
            key: Some(key),
        })
    }

    /// Memory that the driver of a path reads into and writes from, and how its pieces go on to
    /// the tier where that is not the tier itself.
    pub(super) fn landing(&self) -> Result<(Arc<Space>, Option<Bounce>), MapError> {
        let Some(device) = &self.device else {
            return Ok((Arc::clone(&self.space), None));
        };
        let staging = Space::mapped(Mapping::new(STAGING_BYTES)?);
        let bounce = Bounce::new(Arc::clone(&staging), Box::new(device.copier()));
        Ok((staging, Some(bounce)))
    }
}
