//! The devices of a start, and leases without a worker.

use rbee_hive_devices::{DeviceSpec, GpuDemand, Holder, Lease, LeaseError, LeaseRequest, Terms};
use rbee_hive_policy::{Gpus, Policy, WorkerId};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use tokio::sync::{mpsc, watch};

use super::{Attached, Result, WorkerSpawner};
use crate::events::Teller;
use crate::leases::{Outcome, Waiting, refused, share_of, waited_in_vain};
use crate::task::{Command, Story, WorkerHandle, said};
use crate::view::now;
use crate::{ClientGone, ErrorKind, ExternalLease, LeaseLife, LifecycleError, SpawnParams, WorkerState, WorkerView};

/// What a start needs in order to be seen, and stopped, while it waits in line.
pub(super) struct Line<'a> {
    pub(super) view: (&'a watch::Sender<WorkerView>, &'a Teller),
    pub(super) commands: &'a mut mpsc::Receiver<Command>,
    pub(super) story: &'a Story,
    pub(super) handle: &'a WorkerHandle,
}

impl WorkerSpawner {
    /// The lease of a start; `None` where it was stopped while it waited for one: its view says so.
    pub(super) async fn lease(
        &self,
        attached: &Attached,
        (id, params, policy): (&WorkerId, &SpawnParams, &Policy),
        line: Line<'_>,
    ) -> Result<Option<Lease>> {
        if let Some(lease_id) = &params.lease_id {
            // Refused, the start gives the use back.
            let using = || {
                let lease = attached.leases.use_lease(lease_id, id)?;
                attached.leases.suits(&lease, &terms(policy)).map(|()| lease)
            };
            return on_lease(using, &params.device).map(Some);
        }
        match attached.leases.ask(request(id, params, policy)).map_err(|e| refused(&e))? {
            Outcome::Granted(lease) => Ok(Some(lease)),
            Outcome::Queued(waiting, busy) => {
                self.registry.attach(id.as_str(), line.handle.clone());
                line.story.tell("spawn_queue", "waits in line: {}", &[&busy]);
                let lease = in_line(waiting, (&busy, params), line).await?;
                // It may have waited for long. What it got goes back with the start.
                if lease.is_some() {
                    attached.may_start()?;
                }
                Ok(lease)
            }
        }
    }

    /// Whether a start would get its devices once `leaver` has gone, or may wait for them: nobody is stopped for one that would not.
    pub(super) fn check_devices(
        attached: &Attached,
        (id, params, policy): (&WorkerId, &SpawnParams, &Policy),
        leaver: &WorkerId,
    ) -> Result<()> {
        let leases = &attached.leases;
        if let Some(lease_id) = &params.lease_id {
            let using = || {
                leases.if_gone(leaver, |table, inventory| {
                    let lease = table.use_lease(lease_id, id.as_str())?;
                    table.suits(inventory, &lease, &terms(policy)).map(|()| lease)
                })
            };
            return on_lease(using, &params.device).map(drop);
        }
        leases.if_gone(leaver, |table, inventory| table.ask(inventory, request(id, params, policy))).map(drop).map_err(|e| refused(&e))
    }

    /// Every lease; of external ones also how long they live.
    pub fn leases(&self) -> Vec<ExternalLease> {
        self.attached.as_ref().map(|a| a.leases.list_all()).unwrap_or_default()
    }

    /// Takes a lease for `holder`, which is no worker. Dropped while it waits, it leaves the line.
    ///
    /// Errors: `invalid_params`, `no_such_device`, `device_busy`, `at_capacity`, `draining`.
    pub async fn lease_acquire(&self, holder: &str, device: DeviceSpec, life: LeaseLife) -> Result<ExternalLease> {
        let attached = self.attached()?;
        attached.may_start()?;
        attached.leases.acquire((holder, device), life).await
    }

    /// Somebody says that a GPU was reset, by index or UUID: where a fault has put it out of use that only a reset mends, it is given out
    /// again as soon as it answers as it should.
    ///
    /// Errors: `no_such_device`; `not_allowed_now` where nobody watches the GPUs.
    pub async fn device_heal(&self, device: &str) -> Result<()> {
        self.attached()?.leases.was_reset(device)
    }

    /// Gives a lease without a worker back; a worker that runs on it keeps it until it has ended.
    ///
    /// Errors: `not_found`; `not_allowed_now` for a worker's own.
    pub async fn lease_release(&self, lease_id: &str) -> Result<()> {
        self.attached()?.leases.give_back(lease_id).await
    }
}

fn request(id: &WorkerId, params: &SpawnParams, policy: &Policy) -> LeaseRequest {
    LeaseRequest { holder: Holder::Worker(id.to_string()), spec: params.device.clone(), terms: terms(policy) }
}

/// A worker on somebody's lease. The policy must grant as much by itself.
fn on_lease(using: impl FnOnce() -> std::result::Result<Lease, LeaseError>, device: &DeviceSpec) -> Result<Lease> {
    if *device != DeviceSpec::Auto {
        let text = "the request contradicts itself: device and lease_id are both given";
        let mut error = LifecycleError::new(ErrorKind::InvalidParams, text);
        error.hint = Some("leave device out: the lease says which".into());
        return Err(error);
    }
    using().map_err(|e| refused(&e))
}

async fn in_line(waiting: Waiting, (busy, params): (&LeaseError, &SpawnParams), line: Line<'_>) -> Result<Option<Lease>> {
    let timeout = params.device.queue_timeout();
    let mut client = params.client.clone();
    let served = waiting.served(timeout);
    tokio::pin!(served);
    loop {
        tokio::select! {
            served = &mut served => return match served {
                Some(served) => served.map(Some).map_err(|e| refused(&e)),
                None => Err(waited_in_vain(busy, timeout)),
            },
            Some(command) = line.commands.recv() => if let Command::Stop { by, .. } = command {
                show_stopped(line.view, by);
                return Ok(None);
            },
            () = gone(&mut client) => {
                return Err(LifecycleError::new(ErrorKind::DeviceBusy, "nobody waits for the start any more, and it was still in line"));
            }
        }
    }
}

async fn gone(client: &mut Option<ClientGone>) {
    match client {
        Some(client) => client.gone().await,
        None => std::future::pending().await,
    }
}

/// Stopped before anything ran.
pub(super) fn show_stopped((view, teller): (&watch::Sender<WorkerView>, &Teller), by: StoppedBy) {
    teller.begin(view, |view| {
        view.generation += 1;
        view.state = WorkerState::Stopped;
        view.port = None;
        view.endpoint = None;
        view.ended_at = Some(now());
        view.verdict = Some(said(Verdict::Stopped { by, forced: false, code: None, signal: None }));
    });
}

fn terms(policy: &Policy) -> Terms {
    let devices = &policy.devices;
    let demand = match devices.gpus {
        Gpus::Leased => GpuDemand::Leased,
        Gpus::None => GpuDemand::None,
    };
    Terms { demand, share: Some(share_of(devices.share)), count: devices.count, vram_min: devices.vram_min }
}
