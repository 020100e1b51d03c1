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
mod watch;
mod xid;

pub use grant::{Grant, GrantError, Near};
pub use inventory::{DriverMount, Gpu, Inventory, Mig, NumaNode, NvmlHelperError, Vendor, nvml_helper_main};
pub use lease::{
    Asked, Ended, GpuDemand, GpuState, Holder, Lease, LeaseError, LeaseRequest, LeaseTable, LeaseView, MAX_EXTERNAL, MAX_WAITING, Obstacle,
    OutOfUse, Proof, Releasing, Served, Share, Terms, Ticket, Why,
};
pub use node::{DeviceNumbers, NodeError, NodeKind};
pub use observation::{GpuObservation, GpuProcess, Observation, Xid};
pub use observer::{KernelLog, LoggedXid, Observer, ObserverCache};
pub use simulation::SimulationError;
pub use spec::{DeviceSpec, DeviceWish, GpuName, InvalidDevice, WhenBusy};
pub use view::{DeviceView, MpsView, Topology};
pub use watch::{Awaited, Budget, Finding, Known, Patience, Scene, Usage, Watch};
pub use xid::{XidClass, xid};
