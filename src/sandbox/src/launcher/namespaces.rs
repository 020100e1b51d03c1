//! The namespaces that a sandbox is born in, and what to do where the kernel gives none.

use rbee_hive_policy::SandboxPlan;
use rbee_hive_sys::clone::Namespaces;

use crate::step::CallError;

/// What a sandbox is born in.
pub(super) fn namespaces(plan: &SandboxPlan) -> Namespaces {
    let mut namespaces = Namespaces::PID.and(Namespaces::MOUNT).and(Namespaces::IPC).and(Namespaces::UTS);
    if plan.user_namespace {
        namespaces = namespaces.and(Namespaces::USER);
    }
    if plan.network != rbee_hive_policy::NetworkMode::Host {
        namespaces = namespaces.and(Namespaces::NET);
    }
    namespaces
}

pub(super) fn namespaces_refused(plan: &SandboxPlan, error: std::io::Error) -> CallError {
    let errno = error.raw_os_error();
    if !plan.user_namespace {
        return CallError::new("clone3(CLONE_NEWPID|CLONE_NEWNS|…)", error);
    }
    let refused = CallError::new("clone3(CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNS|…)", error);
    match errno {
        Some(libc::EPERM) => refused.hint(
            "unprivileged user namespaces are switched off: see the sysctls kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns, in a container its seccomp profile; or start it as root",
        ),
        Some(libc::ENOSPC) => refused.hint("raise the sysctl user.max_user_namespaces"),
        _ => refused,
    }
}
