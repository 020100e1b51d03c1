//! The user namespace of an ordinary user's sandbox: one uid and one gid, the user's own, under their own numbers.
//!
//! Written by the init itself, so nobody has to be waited for: a process may map its own ids once it has given up setgroups(2)
//! (user_namespaces(7)).

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    if !context.plan.user_namespace {
        return Ok(());
    }
    let (uid, gid) = (context.plan.credentials.uid, context.plan.credentials.gid);
    for (file, text) in [("setgroups", "deny".to_owned()), ("uid_map", format!("{uid} {uid} 1\n")), ("gid_map", format!("{gid} {gid} 1\n"))]
    {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, &text).map_err(failed(|| format!("write({path:?}, {text:?})")))?;
    }
    Ok(())
}
