//! The program itself.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rbee_hive_policy::SandboxPlan;
use rbee_hive_sys::exec::execve;

/// Executes the plan's program; comes back only with the error.
///
/// A name without `/` is looked for by the PATH of the worker's environment, as execvp(3) does: a file that may not be executed is
/// remembered, and reported only if no later directory has one that may.
pub(super) fn execute(plan: &SandboxPlan) -> io::Error {
    let (argv, env) = match vectors(plan) {
        Ok(vectors) => vectors,
        Err(e) => return e,
    };
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(plan) {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        let Err(e) = execve(&path, &argv, &env);
        match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => error = e,
            _ => return e,
        }
    }
    error
}

pub(in crate::init) fn candidates(plan: &SandboxPlan) -> Vec<PathBuf> {
    if plan.executable.as_os_str().as_bytes().contains(&b'/') {
        return vec![plan.executable.clone()];
    }
    let path = plan.env.get("PATH").map_or("", String::as_str);
    path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(&plan.executable)).collect()
}

fn vectors(plan: &SandboxPlan) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let c_string = |text: &str| CString::new(OsStr::new(text).as_bytes()).map_err(io::Error::from);
    let argv = plan.argv.iter().map(|a| c_string(a)).collect::<io::Result<_>>()?;
    let env = plan.env.iter().map(|(k, v)| c_string(&format!("{k}={v}"))).collect::<io::Result<_>>()?;
    Ok((argv, env))
}
