//! One record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg), as far as it is about out of memory.
//!
//! Names in it are chosen by strangers: of processes (15 bytes of anything) and of other people's cgroups (anything without a slash). The kernel
//! escapes what is not printable, so that none can begin a line. None may stand for a field either: a line that could be read in two
//! ways is not read at all.

/// Longest name of a process, bytes (TASK_COMM_LEN, less its end).
const MAX_NAME: usize = 15;
/// How the kernel begins the line on a kill (__oom_kill_process in mm/oom_kill.c).
const KILLS: [&str; 3] = ["Memory cgroup out of memory", "Out of memory", "Out of memory (oom_kill_allocating_task)"];

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Whom the kernel has chosen, and for what (dump_oom_summary).
    Chosen {
        /// Process.
        pid: i32,
        /// Its memory cgroup, from the root of the hierarchy.
        group: String,
        /// The cgroup that has reached its limit; `None` where it was the host's memory.
        limit_of: Option<String>,
    },
    /// All of a cgroup is killed now (mem_cgroup_print_oom_group).
    Group {
        /// The cgroup, from the root of the hierarchy.
        group: String,
    },
    /// A process is killed.
    Killed {
        /// Process.
        pid: i32,
        /// Its name, control characters escaped.
        name: String,
        /// Bytes in memory.
        memory: u64,
    },
}

/// Reads a record; `None` for what is not about this, is not the kernel's own, or is not clear.
pub fn parse(record: &[u8]) -> Option<Said> {
    let record = std::str::from_utf8(record).ok()?;
    let (prefix, rest) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    // Facility 0 is the kernel's: whoever writes to /dev/kmsg gets another one (devkmsg_write).
    if priority >> 3 != 0 {
        return None;
    }
    let text = rest.lines().next()?;
    chosen(text).or_else(|| group(text)).or_else(|| killed(text))
}

/// `oom-kill:constraint=…,nodemask=…,cpuset=NAME,mems_allowed=…,oom_memcg=PATH,task_memcg=PATH,task=NAME,pid=N,uid=N`, or `global_oom` where
/// `oom_memcg=PATH` is.
fn chosen(text: &str) -> Option<Said> {
    const GROUP: &str = ",task_memcg=/";
    let rest = text.strip_prefix("oom-kill:constraint=")?;
    let (rest, _) = last_number(rest, ",uid=")?;
    let (rest, pid) = last_number(rest, ",pid=")?;
    // The first one: what stands before it is the kernel's, or a name without a slash, or a path that is looked through below.
    let (before, after) = rest.split_once(GROUP)?;
    let (group, name) = after.split_once(",task=")?;
    if group.contains(GROUP) || decoded(name).len() > MAX_NAME {
        return None;
    }
    let limit_of = match before.split_once(",oom_memcg=/") {
        Some((_, path)) => Some(path_of(path)),
        None if before.ends_with(",global_oom") => None,
        None => return None,
    };
    Some(Said::Chosen { pid, group: path_of(group), limit_of })
}

fn group(text: &str) -> Option<Said> {
    let path = text.strip_prefix("Tasks in /")?.strip_suffix(" are going to be killed due to memory.oom.group set")?;
    Some(Said::Group { group: path_of(path) })
}

/// `…: Killed process N (NAME) total-vm:NkB, anon-rss:NkB, file-rss:NkB, shmem-rss:NkB, …`
fn killed(text: &str) -> Option<Said> {
    let rest = KILLS.iter().find_map(|begin| text.strip_prefix(begin)?.strip_prefix(": Killed process "))?;
    let (pid, rest) = rest.split_once(" (")?;
    // The last one: after the name there are only figures.
    let (name, figures) = rest.rsplit_once(") total-vm:")?;
    let name = decoded(name);
    if name.len() > MAX_NAME {
        return None;
    }
    let kib = |key: &str| figures.split(", ").find_map(|f| f.strip_prefix(key)?.strip_suffix("kB")?.parse::<u64>().ok());
    let sum = kib("anon-rss:")?.saturating_add(kib("file-rss:")?).saturating_add(kib("shmem-rss:")?);
    Some(Said::Killed { pid: number(pid)?, name: shown(&name), memory: sum.saturating_mul(1024) })
}

fn last_number<'t>(text: &'t str, key: &str) -> Option<(&'t str, i32)> {
    let (rest, digits) = text.rsplit_once(key)?;
    // A uid may be one that no pid has.
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    Some((rest, digits.parse::<u32>().ok()?.try_into().unwrap_or(i32::MAX)))
}

fn number(text: &str) -> Option<i32> {
    text.parse().ok().filter(|n| *n > 0)
}

fn path_of(rest: &str) -> String {
    shown(format!("/{}", String::from_utf8_lossy(&decoded(rest))).as_bytes())
}

/// Without the kernel's escapes: `\xHH`, also of the backslash itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        match escape.get(2..4).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &escape[4..];
            }
            None => {
                out.extend_from_slice(b"\\x");
                rest = &escape[2..];
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// For a person's terminal: no control characters.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAF: &str = "/rbee-hive/0a/workers/w-1/worker";

    /// As devkmsg_read writes it.
    fn escaped(bytes: &[u8]) -> String {
        let one = |b: &u8| if (32..127).contains(b) && *b != b'\\' { char::from(*b).to_string() } else { format!("\\x{b:02x}") };
        bytes.iter().map(one).collect()
    }

    fn summary(limit_of: Option<&str>, group: &str, name: &[u8]) -> String {
        let (constraint, of) = limit_of.map_or(("NONE", "global_oom".to_owned()), |path| ("MEMCG", format!("oom_memcg={path}")));
        format!(
            "6,812,99,-;oom-kill:constraint=CONSTRAINT_{constraint},nodemask=(null),cpuset=worker,mems_allowed=0,{of},task_memcg={group},\
             task={},pid=4242,uid=1879048192\n SUBSYSTEM=x\n",
            escaped(name)
        )
    }

    fn kill(name: &[u8]) -> String {
        format!(
            "3,813,99,-;Memory cgroup out of memory: Killed process 4242 ({}) total-vm:2048kB, anon-rss:1024kB, file-rss:4kB, shmem-rss:0kB, \
             UID:0 pgtables:40kB oom_score_adj:0\n",
            escaped(name)
        )
    }

    #[test]
    fn the_kernels_lines_are_read() {
        let chosen = Said::Chosen { pid: 4242, group: LEAF.into(), limit_of: Some(LEAF.into()) };
        assert_eq!(parse(summary(Some(LEAF), LEAF, b"python3").as_bytes()), Some(chosen));
        let host = Said::Chosen { pid: 4242, group: LEAF.into(), limit_of: None };
        assert_eq!(parse(summary(None, LEAF, b"python3").as_bytes()), Some(host));
        assert_eq!(parse(kill(b"python3").as_bytes()), Some(Said::Killed { pid: 4242, name: "python3".into(), memory: 1028 * 1024 }));
        let all = format!("6,1,2,-;Tasks in {LEAF} are going to be killed due to memory.oom.group set\n");
        assert_eq!(parse(all.as_bytes()), Some(Said::Group { group: LEAF.into() }));
        for other in
            ["", ";", "6,1,2,-;", "6,1,2,-;mock-worker invoked oom-killer: gfp_mask=0xcc0", "x,1;oom-kill:constraint=", "6,1,2,-;oom-kill:"]
        {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn what_a_process_writes_into_the_log_is_not_the_kernels() {
        for line in [summary(Some(LEAF), LEAF, b"x"), kill(b"x")] {
            let (_, rest) = line.split_once(',').unwrap();
            assert_eq!(parse(format!("14,{rest}").as_bytes()), None, "facility 1 is a user's");
            assert!(parse(format!("4,{rest}").as_bytes()).is_some());
        }
    }

    #[test]
    fn a_name_is_told_and_begins_no_line() {
        for (name, shown) in
            [(&b"a\nb"[..], "a\\nb"), (b"x) total-vm:1", "x) total-vm:1"), (b"\\x41", "\\x41"), ("ü".as_bytes(), "ü"), (b"", "")]
        {
            assert_eq!(parse(kill(name).as_bytes()), Some(Said::Killed { pid: 4242, name: shown.into(), memory: 1028 * 1024 }), "{name:?}");
        }
        for name in [&b",pid=1,uid=0"[..], b",task=x", b",task_memcg=/a", b"\n6,1,2,-;oom"] {
            let said = Said::Chosen { pid: 4242, group: LEAF.into(), limit_of: Some(LEAF.into()) };
            assert_eq!(parse(summary(Some(LEAF), LEAF, name).as_bytes()), Some(said), "{name:?}");
        }
        assert_eq!(parse(kill(b"sixteen letters!").as_bytes()), None, "no process has so long a name");
    }

    #[test]
    fn a_strangers_cgroup_is_not_taken_for_a_workers() {
        for (limit_of, group) in [
            (format!("/u/evil,task_memcg={LEAF}"), "/u/a".to_owned()),
            (format!("/u/evil,task_memcg={LEAF}/below"), "/u/a".to_owned()),
            (format!("/u/evil,task_memcg={LEAF},task=x"), "/u/a".to_owned()),
            ("/u".to_owned(), format!("/u/evil,task_memcg={LEAF}")),
        ] {
            match parse(summary(Some(&limit_of), &group, b"x").as_bytes()) {
                None => {}
                Some(Said::Chosen { group, .. }) => assert!(group != LEAF && !group.starts_with(&format!("{LEAF}/")), "{group}"),
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_mangled_record_makes_it_panic_no_more(at in 0usize..200, what in any::<u8>(), cut in 0usize..200) {
            for line in [summary(Some(LEAF), LEAF, b"name"), kill(b"name")] {
                let mut bytes = line.into_bytes();
                let index = at % bytes.len();
                bytes[index] = what;
                bytes.truncate(cut.max(1));
                let _ = parse(&bytes);
            }
        }

        #[test]
        fn whatever_a_process_is_called_pid_and_group_are_the_kernels(name in proptest::collection::vec(1u8.., 0..=MAX_NAME)) {
            let wanted = Said::Chosen { pid: 4242, group: LEAF.into(), limit_of: Some(LEAF.into()) };
            prop_assert_eq!(parse(summary(Some(LEAF), LEAF, &name).as_bytes()), Some(wanted));
            let killed = parse(kill(&name).as_bytes());
            let told = matches!(killed, Some(Said::Killed { pid: 4242, memory, .. }) if memory == 1028 * 1024);
            prop_assert!(told);
        }

        #[test]
        fn no_path_of_a_stranger_reads_as_the_workers(parts in proptest::collection::vec("(evil,task_memcg=|worker|w-1|,task=x|workers|0a|rbee-hive|,oom_memcg=){1,2}", 1..8), name in "[,=/a-z]{0,15}") {
            let path = format!("/u/{}", parts.join("/"));
            for line in [summary(Some(&path), "/u/real", name.as_bytes()), summary(Some("/u"), &path, name.as_bytes()), summary(Some(&path), &path, name.as_bytes())] {
                if let Some(Said::Chosen { group, .. }) = parse(line.as_bytes()) {
                    prop_assert!(group != LEAF && !group.starts_with(&format!("{LEAF}/")), "{}", line);
                }
            }
        }
    }
}
