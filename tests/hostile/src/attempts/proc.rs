//! What the kernel shows as files: `/proc`, `/sys`, cgroups.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};

use crate::attempt::{Outcome, attempts};

attempts! {
    Harmless "proc write core_pattern" => rewrite("/proc/sys/kernel/core_pattern"),
    Harmless "proc write hostname" => rewrite("/proc/sys/kernel/hostname"),
    Harmless "proc write modprobe" => rewrite("/proc/sys/kernel/modprobe"),
    Harmless "proc write max_user_namespaces" => rewrite("/proc/sys/user/max_user_namespaces"),
    Harmless "proc write overcommit_memory" => rewrite("/proc/sys/vm/overcommit_memory"),
    Harmless "proc write the pid of the next process" => open_to_write("/proc/sys/kernel/ns_last_pid"),
    Harmless "proc write ip_forward" => rewrite("/proc/sys/net/ipv4/ip_forward"),
    Harmful "proc write drop_caches" => fs::write("/proc/sys/vm/drop_caches", "1"),
    Harmless "proc write sysrq-trigger" => open_to_write("/proc/sysrq-trigger"),
    Harmless "proc write irq affinity" => rewrite("/proc/irq/default_smp_affinity"),
    Harmless "proc write binfmt_misc" => open_to_write("/proc/sys/fs/binfmt_misc/register"),
    Harmless "proc write mtrr" => open_to_write("/proc/mtrr"),
    Harmless "proc read kcore" => read("/proc/kcore"),
    Harmless "proc read kallsyms" => read("/proc/kallsyms"),
    Harmless "proc read keys" => read("/proc/keys"),
    Harmless "proc read timer_list" => read("/proc/timer_list"),
    Harmless "proc read interrupts" => read("/proc/interrupts"),
    Harmless "proc open kmsg" => open("/proc/kmsg"),
    Harmless "proc open kpagecount" => open("/proc/kpagecount"),
    Harmless "proc open vmallocinfo" => open("/proc/vmallocinfo"),
    Harmless "proc open slabinfo" => open("/proc/slabinfo"),
    Harmless "proc list the init's descriptors" => list("/proc/1/fd"),
    Harmless "proc list the init's memory" => list("/proc/1/map_files"),
    Harmless "proc enter the init's root" => list("/proc/1/root/"),
    Harmless "proc enter the init's directory" => list("/proc/1/cwd/"),
    Harmless "proc read the init's environment" => read("/proc/1/environ"),
    Harmless "proc read the init's stack" => read("/proc/1/stack"),
    Harmless "proc open the init's memory" => open("/proc/1/mem"),
    Harmless "proc open the init's oom_score_adj to write" => open_to_write("/proc/1/oom_score_adj"),
    Harmless "proc lower its own oom_score_adj" => lower_oom_score(),
    Harmless "sys list the kernel's settings" => list("/sys/kernel"),
    Harmless "sys list the firmware" => list("/sys/firmware"),
    Harmless "sys list block devices" => list("/sys/block"),
    Harmless "sys list modules" => list("/sys/module"),
    Harmless "sys open a cpu's switch" => open_to_write("/sys/devices/system/cpu/cpu1/online"),
    Harmless "sys open uevent_helper" => open_to_write("/sys/kernel/uevent_helper"),
    Harmless "cgroup list hierarchies" => list("/sys/fs/cgroup"),
    Harmless "cgroup find a process list to write" => process_list(),
}

/// Writes what is there already.
fn rewrite(path: &str) -> io::Result<()> {
    let old = fs::read(path)?;
    OpenOptions::new().write(true).open(path)?.write_all(&old)
}

fn open(path: &str) -> io::Result<()> {
    fs::File::open(path).map(drop)
}

fn open_to_write(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

pub(super) fn read(path: &str) -> Outcome {
    let mut buffer = [0u8; 64];
    match fs::File::open(path).and_then(|mut f| f.read(&mut buffer)) {
        Ok(0) => Outcome::Empty,
        Ok(n) => Outcome::Done(format!("{n} bytes")),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

pub(super) fn list(path: &str) -> Outcome {
    match fs::read_dir(path).map(|entries| entries.flatten().count()) {
        Ok(0) => Outcome::Empty,
        Ok(n) => Outcome::Done(format!("{n} entries")),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// To one less than it is: what is raised by whoever started this, nobody in here may take back.
fn lower_oom_score() -> Outcome {
    let now = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|t| t.trim().parse::<i32>().ok()).unwrap_or_default();
    match fs::write("/proc/self/oom_score_adj", (now - 1).to_string()) {
        Ok(()) => {
            let _ = fs::write("/proc/self/oom_score_adj", now.to_string());
            Outcome::Done(format!("{}", now - 1))
        }
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// Wherever a hierarchy is mounted: the list of its top is how a process leaves its own group.
fn process_list() -> Outcome {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    let lists = mounts.map(|m| format!("{m}/cgroup.procs")).chain(["/sys/fs/cgroup/cgroup.procs".to_owned()]);
    let mut last = Outcome::Refused(nix::errno::Errno::ENOENT);
    for path in lists {
        last = Outcome::from(open_to_write(&path));
        if matches!(last, Outcome::Done(_)) {
            break;
        }
    }
    last
}
