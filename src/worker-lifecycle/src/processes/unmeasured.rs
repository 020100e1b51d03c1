//! Why a process's figure is `None`, for each that is. Must never know how one is read.

use rbee_hive_sandbox::cgroup::Unmeasured;

use crate::ProcessView;

const NO_MEMORY: &str = "it has ended and was not reaped yet: it has no memory any more";
const NOT_SHOWN: &str = "its /proc/PID/status does not show it: it ended meanwhile, or this kernel does not count it";
const NO_COUNT: &str = "only its init may read that, and has not told it of this process";
const NO_OPERATIONS: &str = "the kernel counts operations on block devices by cgroup, and by process only bytes";

/// Those of one process, in its figures' order.
pub(super) fn of(view: &ProcessView) -> Vec<Unmeasured> {
    let memory = if view.state == "Z" { NO_MEMORY } else { NOT_SHOWN };
    let figures = [
        ("rss_peak_bytes", view.rss_peak_bytes.is_none(), memory),
        ("rss_anon_bytes", view.rss_anon_bytes.is_none(), memory),
        ("rss_file_bytes", view.rss_file_bytes.is_none(), memory),
        ("rss_shmem_bytes", view.rss_shmem_bytes.is_none(), memory),
        ("swap_bytes", view.swap_bytes.is_none(), memory),
        ("io_read_bytes", view.io_read_bytes.is_none(), NO_COUNT),
        ("io_write_bytes", view.io_write_bytes.is_none(), NO_COUNT),
        ("io_read_ops", view.io_read_ops.is_none(), NO_OPERATIONS),
        ("io_write_ops", view.io_write_ops.is_none(), NO_OPERATIONS),
        ("oom_score_adj", view.oom_score_adj.is_none(), "it ended while it was looked at"),
        ("started_at", view.started_at.is_none(), "when this machine was started can't be read"),
    ];
    let missing = figures.into_iter().filter(|(_, missing, _)| *missing);
    missing.map(|(figure, _, why)| Unmeasured { figure: figure.into(), why: why.into() }).collect()
}
