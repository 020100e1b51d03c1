//! `execve(2)` with prepared vectors.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

/// Replaces this process; returns only the error.
pub fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> { list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect() };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the path and both null-terminated vectors point to NUL-terminated strings that the caller's borrows keep alive.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}
