//! What CPUs, NUMA nodes and GPUs there are, and who holds a lease on which.
//!
//! Must never know: processes of workers.
#![forbid(unsafe_code)]

mod cdi;
mod chain;
mod grant;
mod inventory;
mod lease;
mod node;
mod observation;
mod observer;
mod simulation;
mod spec;
mod view;

pub use grant::{Grant, GrantError};
pub use inventory::{DriverMount, Gpu, Inventory, Mig, NumaNode, NvmlHelperError, Vendor, nvml_helper_main};
pub use lease::{GpuDemand, LeaseError, LeaseTable};
pub use node::{DeviceNumbers, NodeError, NodeKind};
pub use observation::{GpuObservation, GpuProcess, Observation, Xid};
pub use observer::{KernelLog, LoggedXid, Observer, ObserverCache};
pub use simulation::SimulationError;
pub use spec::{DeviceSpec, InvalidDevice};
pub use view::{DeviceView, Topology};
