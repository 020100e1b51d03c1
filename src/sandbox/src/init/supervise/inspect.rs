//! What the init tells of its sandbox to a hive that verifies it.
//!
//! `ns` and `fd` of the worker are open to its own uid (ptrace(2), "Ptrace access mode checking"), and the init keeps CAP_SETUID for connections
//! anyhow: so it looks with the worker's uid for files, and needs no CAP_SYS_PTRACE. The price: a process that is not dumpable, or has capabilities that
//! the init lacks, is not seen, and told so.

use super::Supervisor;
use super::as_worker::with_its_eyes;
use crate::protocol::{FromInit, Inside};
use crate::verify::read::inside::Look;

impl Supervisor {
    pub(super) fn tell_made(&mut self, seq: u64) {
        let made = Box::new(self.made.clone());
        self.say(FromInit::Made { seq, made }, vec![]);
    }

    pub(super) fn inspect(&mut self, seq: u64) {
        let plan = &self.context.plan;
        let look = Look::begin(plan.network, self.leaf().pids()).map_err(|e| e.to_string());
        let seen = look.and_then(|mut look| {
            with_its_eyes(&plan.credentials, || look.look_closer()).map_err(|e| e.to_string())?;
            Ok(look.finish())
        });
        let inside = seen.unwrap_or_else(|why| Inside { unseen: vec![format!("the sandbox from within: {why}")], ..Inside::default() });
        self.say(FromInit::Inspected { seq, inside: Box::new(inside) }, vec![]);
    }
}
