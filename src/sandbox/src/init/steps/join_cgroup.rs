//! The init's own leaf in the v1 hierarchies; on v2 it was born there.

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    for tasks in context.leaves.init_tasks() {
        // "0" is the writer itself; another's pid would wait for an RCU grace period (10 ms and more).
        rustix::io::write(tasks, b"0").map_err(failed(|| "write(tasks, \"0\")".into()))?;
    }
    Ok(())
}
