//! What the worker may write: `/tmp`, its home, `/dev/shm` (with the devices) and `/run/worker` for its sockets. All in memory, all sized.

use std::path::Path;

use nix::mount::MsFlags;
use rbee_hive_policy::TmpNodes;

use crate::init::InitContext;
use crate::step::CallError;

/// Where a worker's own sockets lie.
pub(super) const WORKER_RUN: &str = "/run/worker";

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let plan = &context.plan;
    let (uid, gid) = (plan.credentials.uid, plan.credentials.gid);
    let own = format!("mode=700,uid={uid},gid={gid}");
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let tmp = match plan.tmp_nodes {
        TmpNodes::Nodev => safe,
        TmpNodes::Dev => MsFlags::MS_NOSUID,
    };
    let home = plan.home.to_string_lossy();
    let bounds = bounds(plan.tmp_size);
    tmpfs(context, "/tmp", tmp, &format!("{bounds},mode=1777"))?;
    tmpfs(context, &home, safe, &format!("{bounds},{own}"))?;
    tmpfs(context, WORKER_RUN, safe | MsFlags::MS_NOEXEC, &format!("size=1m,nr_inodes=256,{own}"))
}

/// Size and number of files: without the latter it is what half of the machine's memory holds, and an empty file costs a kilobyte that
/// counts for no size.
pub(super) fn bounds(size: u64) -> String {
    const LEAST: u64 = 1024;
    const BYTES_A_FILE: u64 = 4096;
    format!("size={size},nr_inodes={}", (size / BYTES_A_FILE).max(LEAST))
}

/// Mounts a tmpfs at `inside`, making the directory.
pub(super) fn tmpfs(context: &InitContext, inside: &str, flags: MsFlags, options: &str) -> Result<(), CallError> {
    context.new_root()?.mount_new("tmpfs", Path::new(inside), (flags, options))
}
