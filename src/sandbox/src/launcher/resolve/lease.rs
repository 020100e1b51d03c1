//! How much of its GPUs a worker gets: what the hive has leased for it, within what the policy gives.

use rbee_hive_devices::Share;
use rbee_hive_policy::{GpuShare, Policy, WorkerRequest};

use crate::protocol::{LaunchError, LaunchErrorKind};

/// Longest id of a lease.
const MAX_ID: usize = 32;

/// The share of a request. Where it names no lease: the policy's.
///
/// Errors: more than the policy gives; an id that no hive gives.
pub(crate) fn share(request: &WorkerRequest, policy: &Policy) -> Result<Share, LaunchError> {
    let allowed = of(policy.devices.share);
    let Some(lease) = &request.lease else { return Ok(allowed) };
    let number = lease.id.strip_prefix("lease:").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if number.is_none() || lease.id.len() > MAX_ID {
        return Err(LaunchError::new(LaunchErrorKind::InvalidParams, "the lease's id is none"));
    }
    let asked = of(lease.share);
    if !asked.is_valid() || !asked.within(allowed) {
        let text = format!("a GPU {asked} is asked for, and the policy gives it {allowed}");
        return Err(LaunchError::new(LaunchErrorKind::PolicyViolation, text));
    }
    Ok(asked)
}

fn of(share: GpuShare) -> Share {
    match share {
        GpuShare::Exclusive => Share::Exclusive,
        GpuShare::Ways(n) => Share::Ways(n),
        GpuShare::Memory(bytes) => Share::Memory(bytes),
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::{Command, GpuLease, WorkerId};

    use super::*;

    fn asked(id: &str, share: GpuShare, policy: &str) -> Result<Share, LaunchErrorKind> {
        let text = format!("[worker]\nbinary = \"w\"\n[devices]\ngpus = \"leased\"\n{policy}\n");
        let policy = Policy::parse("p", "p", &text, &|name| rbee_hive_policy::embedded::fragment(name).map(str::to_owned)).unwrap();
        let request = WorkerRequest {
            worker_id: WorkerId::parse("w").unwrap(),
            policy: "p".into(),
            command: Command::Run { argv: vec![] },
            devices: vec!["GPU-0".into()],
            lease: Some(GpuLease { id: id.into(), share }),
            mps: None,
            env: Default::default(),
            limits: Default::default(),
            port: None,
        };
        super::share(&request, &policy).map_err(|e| e.kind)
    }

    #[test]
    fn a_hive_gets_no_more_sharing_than_the_policy_gives() {
        let ways = "share = { ways = 2 }";
        assert_eq!(asked("lease:1", GpuShare::Exclusive, ""), Ok(Share::Exclusive));
        assert_eq!(asked("lease:1", GpuShare::Ways(2), ways), Ok(Share::Ways(2)));
        for (share, policy) in [(GpuShare::Ways(2), ""), (GpuShare::Ways(3), ways), (GpuShare::Ways(0), ways), (GpuShare::Memory(1), ways)]
        {
            assert_eq!(asked("lease:1", share, policy), Err(LaunchErrorKind::PolicyViolation), "{share:?}");
        }
    }

    #[test]
    fn an_id_that_no_hive_gives_is_refused() {
        for id in ["", "lease:", "lease:x", "7", "lease:1\n", &format!("lease:{}", "9".repeat(40))] {
            assert_eq!(asked(id, GpuShare::Exclusive, ""), Err(LaunchErrorKind::InvalidParams), "{id:?}");
        }
    }
}
