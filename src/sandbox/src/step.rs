//! A step of making a sandbox, and how its failure is told.

use std::io;

use nix::errno::Errno;

use crate::SetupFailure;

/// A kernel call that failed: which, with what arguments, and why.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct CallError {
    /// The call with its arguments, as in `mount("proc", "/proc")`.
    pub call: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl CallError {
    /// `call` failed with `source`.
    pub fn new(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { call: call.into(), source: source.into(), hint: None }
    }

    /// Adds what a person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Names the call in an error: `.map_err(failed(|| format!("open({path:?})")))`.
pub(crate) fn failed<E: Into<io::Error>>(call: impl FnOnce() -> String) -> impl FnOnce(E) -> CallError {
    move |source| CallError::new(call(), source)
}

/// One step: its name, as errors show it, and what it does.
pub(crate) struct Step<C> {
    /// Verb and object, as in `mount proc`.
    pub(crate) name: &'static str,
    /// Carries it out.
    pub(crate) run: fn(&mut C) -> Result<(), CallError>,
}

/// Carries steps out in order; the first failure names its step.
pub(crate) fn carry_out<C>(steps: &[Step<C>], context: &mut C) -> Result<(), SetupFailure> {
    for step in steps {
        (step.run)(context).map_err(|e| SetupFailure::of(step.name, e))?;
    }
    Ok(())
}

impl SetupFailure {
    /// The failure of step `step`.
    pub fn of(step: &str, error: CallError) -> Self {
        let errno = error.source.raw_os_error();
        let cause = errno.map_or_else(|| error.source.to_string(), |n| format!("{:?}", Errno::from_raw(n)));
        let hint = error.hint.or_else(|| errno.and_then(general_hint));
        let tail = hint.as_ref().map_or_else(String::new, |h| format!("; hint: {h}"));
        Self { step: step.to_owned(), errno, message: format!("setup step {step:?} failed: {} => {cause}{tail}", error.call), hint }
    }
}

fn general_hint(errno: i32) -> Option<String> {
    let hint = match errno {
        libc::EPERM | libc::EACCES => return Some(not_permitted()),
        libc::ENOSPC => "a namespace or disk limit is reached: see /proc/sys/user/max_*_namespaces and the free space",
        libc::EMFILE | libc::ENFILE => "raise the limit of open files (the limit open_files, or ulimit -n of who starts the hive)",
        libc::ENOMEM => "the limit or the machine is too small for this worker",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Root that is short of a capability is root in a container, or of a unit: what to grant is known by name.
fn not_permitted() -> String {
    use caps::{CapSet, Capability as C};
    const NEEDED: [C; 8] =
        [C::CAP_SYS_ADMIN, C::CAP_NET_ADMIN, C::CAP_SETUID, C::CAP_SETGID, C::CAP_SETPCAP, C::CAP_CHOWN, C::CAP_DAC_OVERRIDE, C::CAP_KILL];
    if !nix::unistd::geteuid().is_root() {
        return "start it as root with CAP_SYS_ADMIN, or, in a container, start that one with --security-opt seccomp=unconfined --security-opt \
                unmask=ALL; `rbee-hive doctor` shows what this host allows"
            .to_owned();
    }
    let missing = NEEDED.iter().filter(|c| !caps::has_cap(None, CapSet::Effective, **c).unwrap_or(false)).map(ToString::to_string);
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return "nothing that it needs is missing from its capabilities: a filter around it refused; in a container, start that one with \
                --security-opt seccomp=unconfined --security-opt apparmor=unconfined; `rbee-hive doctor` shows what this host allows"
            .to_owned();
    }
    let options: Vec<String> = missing.iter().map(|name| format!("--cap-add {}", name.trim_start_matches("CAP_"))).collect();
    format!("it lacks {}; in a container, start that one with {}", missing.join(", "), options.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_call_errno_and_hint() {
        let e = CallError::new("mount(\"proc\", \"/proc\")", io::Error::from_raw_os_error(libc::EPERM)).hint("do this");
        let failure = SetupFailure::of("mount proc", e);
        assert_eq!(failure.errno, Some(libc::EPERM));
        assert_eq!(failure.message, "setup step \"mount proc\" failed: mount(\"proc\", \"/proc\") => EPERM; hint: do this");
    }
}
