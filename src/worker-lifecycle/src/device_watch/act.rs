//! What follows from each finding: the lease table, the events, and for a worker over its limit its end.

use rbee_hive_devices::Finding;
use rbee_hive_policy::GpuMemoryAction;
use rbee_hive_sandbox::StoppedBy;
use serde_json::{Value, json};

use super::Watcher;
use crate::task::{Command, WorkerHandle};
use crate::{About, EventKind};

impl Watcher {
    pub(super) fn carry_out(&self, finding: Finding, handles: &[WorkerHandle]) {
        match finding {
            Finding::Drained { gpu, why } => {
                self.leases.quarantine(gpu, &why);
                let text = format!("GPU-{gpu} is given to nobody any more: {why}");
                self.tell_holders(handles, gpu, (&text, json!({"act": "drained", "why": why})));
            }
            Finding::Healed { gpu } => {
                self.leases.heal(gpu);
                self.tell_holders(handles, gpu, (&format!("GPU-{gpu} answers as it should again"), json!({"act": "healed"})));
            }
            Finding::Fault { gpu, code, class, meaning, pid, workers } => {
                let text = format!("Xid {code} of GPU-{gpu}: {meaning}");
                let data = json!({"act": "xid", "xid": code, "class": class, "meaning": meaning, "pid": pid});
                let concerned: Vec<&WorkerHandle> = handles.iter().filter(|h| workers.iter().any(|w| w == h.id.as_str())).collect();
                self.tell(&concerned, gpu, (&text, data));
            }
            Finding::Foreign { gpu, pids } => {
                let text = match pids.is_empty() {
                    true => format!("GPU-{gpu} is used by nobody else any more"),
                    false => format!("GPU-{gpu} is used by processes that are no worker's: {pids:?}"),
                };
                let data = json!({"act": "foreign", "foreign": pids});
                self.leases.set_foreign(gpu, pids);
                self.tell_holders(handles, gpu, (&text, data));
            }
            Finding::Back { gpu, lease, after, proof } => self.leases.back((&lease, gpu), after, proof),
            Finding::Leaked { gpu, lease, why } => {
                self.leases.leaked((&lease, gpu), &why);
                let text = format!("memory of GPU-{gpu} has not come back: {why}");
                self.tell_holders(handles, gpu, (&text, json!({"act": "vram_leaked", "lease_id": lease, "why": why})));
            }
            Finding::Over { worker, gpu, used, limit } => {
                let text = format!("it has {used} bytes on GPU-{gpu}, and its limit is {limit}");
                self.pressure(handles, &worker, (&text, memory("over", Some((gpu, used, limit)))));
            }
            Finding::Within { worker } => {
                self.pressure(handles, &worker, ("it is within its limit of GPU memory again", memory("within", None)));
            }
            Finding::Exceeded { worker, gpu, used, limit } => self.exceeded(handles, &worker, (gpu, used, limit)),
        }
    }

    fn exceeded(&self, handles: &[WorkerHandle], worker: &str, (gpu, used, limit): (u32, u64, u64)) {
        let Some(handle) = handles.iter().find(|h| h.id.as_str() == worker) else { return };
        if handle.known.gpus.limit.get().is_none_or(|plan| plan.action == GpuMemoryAction::Warn) {
            return;
        }
        let text = format!("it is stopped: it still has {used} bytes on GPU-{gpu}, and its limit is {limit}");
        self.pressure(handles, worker, (&text, memory("stopping", Some((gpu, used, limit)))));
        let commands = handle.commands.clone();
        // Who has no room for a command is waited for, but not here.
        tokio::spawn(async move { drop(commands.send(Command::Stop { by: StoppedBy::GpuMemory, grace: None }).await) });
    }

    fn pressure(&self, handles: &[WorkerHandle], worker: &str, (text, data): (&str, Value)) {
        if let Some(handle) = handles.iter().find(|h| h.id.as_str() == worker) {
            self.note(handle, (EventKind::Pressure, text), data);
        }
    }

    /// To everybody who holds the GPU.
    fn tell_holders(&self, handles: &[WorkerHandle], gpu: u32, told: (&str, Value)) {
        self.tell(&self.on(handles, gpu).collect::<Vec<_>>(), gpu, told);
    }

    /// One event for each worker that it concerns; one of no worker's where it concerns none.
    fn tell(&self, concerned: &[&WorkerHandle], gpu: u32, (text, mut data): (&str, Value)) {
        data["device"] = format!("GPU-{gpu}").into();
        if concerned.is_empty() {
            tracing::warn!(device = gpu, "{text}");
            self.tools.events.tell(EventKind::Device, About::default(), data);
            return;
        }
        for handle in concerned {
            self.note(handle, (EventKind::Device, text), data.clone());
        }
    }

    /// Into the events, the worker's story, and what explains it later.
    fn note(&self, handle: &WorkerHandle, (kind, text): (EventKind, &str), data: Value) {
        tracing::warn!(worker = %handle.id, "{text}");
        let generation = handle.view.borrow().generation;
        self.tools.events.tell(kind, About::worker(&handle.id, generation), data);
        handle.known.gpus.add_incident(text);
        // A task that is behind, or has ended, leaves its story without it: it stands in the events all the same.
        let _ = handle.commands.try_send(Command::Tell { text: text.to_owned() });
    }
}

fn memory(act: &str, figures: Option<(u32, u64, u64)>) -> Value {
    let mut data = json!({"resource": "gpu_memory", "source": "accounting", "act": act});
    if let Some((gpu, used, limit)) = figures {
        data["device"] = format!("GPU-{gpu}").into();
        data["used_bytes"] = used.into();
        data["limit_bytes"] = limit.into();
    }
    data
}
