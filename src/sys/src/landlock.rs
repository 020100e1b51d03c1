//! `landlock_create_ruleset(2)`, for its version alone: rulesets are the `landlock` crate's business.
//!
//! Must never know: what is restricted.

/// The kernel's Landlock ABI; 0 where it has none, or was booted without it (`lsm=`).
pub fn abi() -> u32 {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with LANDLOCK_CREATE_RULESET_VERSION the call takes no attributes (NULL, size 0) and makes nothing: it returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, CREATE_RULESET_VERSION) };
    u32::try_from(version).unwrap_or(0)
}
