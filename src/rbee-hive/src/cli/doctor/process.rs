//! The calling process: a hive that it started would have its rights.

use super::facts::HostTexts;
use super::finding::{Finding, State};

/// What the launcher needs, with the bits of `linux/capability.h`.
const NEEDED: [(&str, u32); 9] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];
/// What it does without, and what is not in force then.
const USEFUL: [(&str, u32, &str); 1] =
    [("CAP_SYS_RESOURCE", 24, "hard limits can't be raised above the hive's own, nor oom_score_adj lowered below it")];

/// The value of a line of `/proc/self/status`.
fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Whether it is root.
pub(super) fn user(texts: &HostTexts) -> Finding {
    // Real, effective, saved and file system uid.
    match field(&texts.status, "Uid").and_then(|uids| uids.split_whitespace().nth(1)) {
        Some("0") => Finding::new("root", State::Ok, "this user may start a hive").about_caller(),
        Some(uid) => {
            Finding::new("root", State::Missing, format!("effective uid {uid}: a hive started by this user can't make namespaces"))
                .with_remedy("start the hive as root; it drops its privileges before it listens")
                .about_caller()
        }
        None => Finding::new("root", State::Unknown, "/proc/self/status can't be read").about_caller(),
    }
}

/// Whether it has the capabilities that a launcher needs.
pub(super) fn capabilities(texts: &HostTexts) -> Finding {
    let name = "capabilities";
    let Some(effective) = field(&texts.status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
        return Finding::new(name, State::Unknown, "/proc/self/status can't be read").about_caller();
    };
    let lacks = |bit: u32| effective >> bit & 1 == 0;
    let absent: Vec<&str> = NEEDED.iter().filter(|(_, bit)| lacks(*bit)).map(|(name, _)| *name).collect();
    if !absent.is_empty() {
        return Finding::new(name, State::Missing, format!("without {}", absent.join(", ")))
            .with_remedy("start the hive as root; in a container, add these capabilities")
            .about_caller();
    }
    let weaker: Vec<String> =
        USEFUL.iter().filter(|(_, bit, _)| lacks(*bit)).map(|(name, _, lost)| format!("without {name} {lost}")).collect();
    let detail = if weaker.is_empty() { "all that the launcher needs".to_owned() } else { format!("enough; {}", weaker.join("; ")) };
    Finding::new(name, State::Ok, detail).about_caller()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: u32, effective: u64) -> HostTexts {
        HostTexts { status: format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective:016x}\n"), ..HostTexts::default() }
    }

    #[test]
    fn rights_are_read_from_the_status_file() {
        let root = status(0, 0x1ff_ffff_ffff);
        assert_eq!((user(&root).state, capabilities(&root).state), (State::Ok, State::Ok));
        let nobody = status(65534, 0);
        assert_eq!((user(&nobody).state, capabilities(&nobody).state), (State::Missing, State::Missing));
        assert_eq!(user(&HostTexts::default()).state, State::Unknown);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let without_admin = status(0, 0x1ff_ffff_ffff & !(1 << 21));
        assert_eq!(capabilities(&without_admin).detail, "without CAP_SYS_ADMIN");
        let without_resource = capabilities(&status(0, 0x1fe_feff_ffff));
        assert_eq!(without_resource.state, State::Ok);
        assert!(without_resource.detail.contains("CAP_SYS_RESOURCE"));
    }
}
