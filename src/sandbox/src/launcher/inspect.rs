//! The second witness of a verification: what the kernel tells nobody but root (bpf(2), BPF_PROG_QUERY).

use rbee_hive_policy::WorkerId;

use super::serve::{Launcher, error_chain};
use crate::protocol::{FromLauncher, ProgramSeen};

impl Launcher {
    pub(super) fn inspect(&self, seq: u64, id: &WorkerId) -> FromLauncher {
        let Some(entry) = self.ledger.entries.get(id) else {
            let error = Some(format!("the launcher has no worker {id}"));
            return FromLauncher::Inspected { seq, program: ProgramSeen { error, ..ProgramSeen::default() } };
        };
        let ours = entry.device_program;
        // Without a program of ours there is nothing to miss.
        let attached = ours.map_or(Ok(vec![]), |_| self.tree.device_programs(id));
        let program = match attached {
            Ok(attached) => ProgramSeen { ours, attached, error: None },
            Err(e) => ProgramSeen { ours, attached: vec![], error: Some(error_chain(&e)) },
        };
        FromLauncher::Inspected { seq, program }
    }
}
