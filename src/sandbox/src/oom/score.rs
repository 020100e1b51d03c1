//! What keeps hive, launcher and inits from being chosen when the host runs out of memory: their `oom_score_adj`.
//!
//! Whoever may lower it (CAP_SYS_RESOURCE) sets with it how low its children may come back without asking (`oom_score_adj_min`, __set_oom_adj in
//! fs/proc/base.c), in a user namespace of their own as well. So a launcher that is spared is not while it clones.

use std::io;

/// After everything that may be done without, before what the host can't live without (-1000).
const SPARED: &str = "-900";
/// For whom nobody has asked for another.
const ORDINARY: &str = "0";
const FILE: &str = "/proc/self/oom_score_adj";

/// Spares this process, as far as it may. Host feature `init_oom_score` says whether it could.
pub fn spare() {
    let _ = std::fs::write(FILE, SPARED);
}

/// Whether a process is spared.
pub(crate) fn is_spared(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).is_ok_and(|text| text.trim() == SPARED)
}

/// Runs `clone` with the ordinary score, and spares the parent again; `is_child` of what it gives is true in the child, which stays as it is.
///
/// Errors: of the write, before anything is cloned: a child must not be able to spare itself. What `clone` gives.
pub(crate) fn ordinary_child<T>(clone: impl FnOnce() -> io::Result<T>, is_child: impl FnOnce(&T) -> bool) -> io::Result<T> {
    if !is_spared("self") {
        return clone();
    }
    std::fs::write(FILE, ORDINARY)?;
    let cloned = clone();
    if !cloned.as_ref().is_ok_and(is_child) {
        spare();
    }
    cloned
}
