//! What keeps hive, launcher and inits from being chosen when the host runs out of memory: their `oom_score_adj`.
//!
//! Whoever may lower it (CAP_SYS_RESOURCE) sets with it how low its children may come back without asking (`oom_score_adj_min`, __set_oom_adj in
//! fs/proc/base.c), in a user namespace of their own as well. So a launcher that is spared is not while it clones.

use std::io;

/// After everything that may be done without, before what the host can't live without (-1000).
const SPARED: i32 = -900;
/// For whom nobody has asked for another.
const ORDINARY: i32 = 0;

/// Spares this process, as far as it may. Whom the host's administrator spares more stays so. Host feature `init_oom_score` says whether it
/// could.
pub fn spare() {
    if !is_spared("self") {
        let _ = write(SPARED);
    }
}

/// Whether a process is spared, or more than that.
pub(crate) fn is_spared(pid: &str) -> bool {
    read(pid).is_some_and(|score| score <= SPARED)
}

/// Runs `clone` with the ordinary score, and gives the parent back its own; `is_child` of what it gives is true in the child, which stays as it
/// is.
///
/// Errors: of the write, before anything is cloned: a child must not be able to spare itself. What `clone` gives.
pub(crate) fn ordinary_child<T>(clone: impl FnOnce() -> io::Result<T>, is_child: impl FnOnce(&T) -> bool) -> io::Result<T> {
    let Some(own) = read("self").filter(|score| *score <= SPARED) else { return clone() };
    write(ORDINARY)?;
    let cloned = clone();
    if !cloned.as_ref().is_ok_and(is_child) {
        let _ = write(own);
    }
    cloned
}

fn read(pid: &str) -> Option<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

fn write(score: i32) -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_the_administrator_spares_more_stays_so() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", "--ignored", "--nocapture", "oom::score::tests::spared_more"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        if said.contains("SKIPPED") {
            eprintln!("SKIPPED: needs CAP_SYS_RESOURCE");
        }
    }

    #[test]
    #[ignore = "a part of whom_the_administrator_spares_more_stays_so, run by it in a process of its own"]
    fn spared_more() {
        if write(-1000).is_err() {
            println!("SKIPPED");
            return;
        }
        spare();
        assert!(read("self") == Some(-1000) && is_spared("self"));
        let born = ordinary_child(|| Ok(read("self")), |_| false).unwrap();
        assert_eq!((born, read("self")), (Some(0), Some(-1000)), "a child is like everybody, the parent as it was");
        assert_eq!(ordinary_child(|| Ok(7), |_| true).ok().zip(read("self")), Some((7, 0)));
        spare();
        assert_eq!(read("self"), Some(-900));
    }
}
