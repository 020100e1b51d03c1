//! The worker's own `/proc`: its processes only. What it tells of the host is covered later, by `mask paths`.

use std::path::Path;

use nix::mount::MsFlags;

use crate::init::InitContext;
use crate::step::CallError;

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // hidepid=2: other uids' processes, the init's first of all, are not even listed.
    let mounted = context.new_root()?.mount_new("proc", Path::new("/proc"), (flags, "hidepid=2"));
    mounted.map_err(|e| match e.source.raw_os_error() {
        Some(libc::EPERM) if context.plan.user_namespace => e.hint(
            "a user namespace gets no more of /proc than what is seen outside: where a container covers parts of it, start that container \
             with --security-opt unmask=ALL (podman) or systempaths=unconfined (docker)",
        ),
        _ => e,
    })
}
