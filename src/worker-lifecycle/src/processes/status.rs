//! `/proc/<pid>/status`, as far as it is told (proc_pid_status(5)). By hand: it is the dearest part of a process's listing.

use std::fs;

/// What stands there; `None` for what does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Bytes.
    pub(super) rss_peak: Option<u64>,
    pub(super) rss_anon: Option<u64>,
    pub(super) rss_file: Option<u64>,
    pub(super) rss_shmem: Option<u64>,
    pub(super) swap: Option<u64>,
    /// Its pid one namespace further in, which is the sandbox's.
    pub(super) inner_pid: Option<i32>,
}

impl Status {
    /// Of a process; nothing of one that has ended, or of one without memory of its own (a zombie, a kernel thread).
    pub(super) fn read(pid: i32) -> Self {
        fs::read_to_string(format!("/proc/{pid}/status")).map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let bytes = |key: &str| value(key)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
        Self {
            rss_peak: bytes("VmHWM"),
            rss_anon: bytes("RssAnon"),
            rss_file: bytes("RssFile"),
            rss_shmem: bytes("RssShmem"),
            swap: bytes("VmSwap"),
            inner_pid: value("NSpid").and_then(|pids| pids.split_ascii_whitespace().nth(1)?.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Linux 6.1 writes it, shortened.
    const TEXT: &str = "Name:\tllama-server\nPid:\t4242\nNSpid:\t4242\t2\nVmHWM:\t  157800 kB\nVmRSS:\t  157696 kB\nRssAnon:\t   41984 kB\nRssFile:\t  115708 kB\n\
        RssShmem:\t       4 kB\nVmData:\t  811000 kB\nVmSwap:\t       0 kB\nThreads:\t5\n";

    #[test]
    fn kilobytes_become_bytes_and_the_inner_pid_is_the_second() {
        let want = Status {
            rss_peak: Some(157_800 << 10),
            rss_anon: Some(41_984 << 10),
            rss_file: Some(115_708 << 10),
            rss_shmem: Some(4096),
            swap: Some(0),
            inner_pid: Some(2),
        };
        assert_eq!(Status::parse(TEXT), want);
    }

    #[test]
    fn a_zombie_has_no_memory_and_a_process_of_our_own_namespace_no_inner_pid() {
        assert_eq!(Status::parse("Name:\tx\nState:\tZ (zombie)\nNSpid:\t7\n"), Status::default());
    }

    proptest! {
        #[test]
        fn what_does_not_stand_there_is_none_whatever_else_does(text in "([A-Za-z]{0,9}:?[\t ]{0,3}[0-9a-z]{0,22}( kB)?\n){0,6}", cut in 0usize..300) {
            let _ = Status::parse(&text);
            let part = TEXT.get(..cut.min(TEXT.len())).unwrap_or("");
            let (whole, some) = (Status::parse(TEXT), Status::parse(part));
            prop_assert!(some.swap.is_none() || some.swap == whole.swap);
            prop_assert!(some.rss_shmem.is_none() || some.rss_shmem == whole.rss_shmem);
        }
    }
}
