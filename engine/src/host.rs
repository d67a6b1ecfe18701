//! The host under an engine: what the kernel says it has, and what was measured of it.
//!
//! Facts come from `/proc` and `/sys` through [`HostTree`], so that tests can show any host. Speeds
//! are measured with the same drivers and memory that an engine uses.

mod tree;

mod devices;
mod disks;
mod links;
mod memory;
mod numa;
mod privileges;

mod speed;

pub use devices::{Cxl, Gpu, Iommu, Rdma};
pub use disks::Disk;
pub use links::NetworkLink;
pub use memory::Memory;
pub use numa::{NumaNode, parse_list};
pub use privileges::{Capability, Privileges};
pub use speed::{NodeSpeed, SpeedError, file_speed, folder_speed, memory_speed, node_speed};
pub use tree::HostTree;
