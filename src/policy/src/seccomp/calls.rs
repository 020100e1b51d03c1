//! Names and numbers of system calls, by the `syscalls` crate's tables.

#[cfg(target_arch = "aarch64")]
use syscalls::aarch64 as native;
#[cfg(target_arch = "x86_64")]
use syscalls::x86_64 as native;
use syscalls::{aarch64, x86_64};

/// The number of a call on this machine; `None` where this machine has none of that name.
pub fn call_number(name: &str) -> Option<i64> {
    let call: native::Sysno = name.parse().ok()?;
    Some(i64::from(call.id()))
}

/// The name of a number on this machine.
pub fn call_name(number: i64) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    native::Sysno::new(number).map(|call| call.name())
}

/// Far above every number in use.
const NUMBERS: i64 = 4096;

/// The highest number that this version knows: what is above is newer than every profile.
pub fn newest_call() -> i64 {
    // Not by the table's own iterator, which leaves the last one out (syscalls 0.8.1).
    (0..NUMBERS).rev().find(|number| call_name(*number).is_some()).unwrap_or_default()
}

/// Whether some machine has a call of that name, so that it is no typing mistake.
pub(crate) fn is_known(name: &str) -> bool {
    name.parse::<x86_64::Sysno>().is_ok() || name.parse::<aarch64::Sysno>().is_ok()
}
