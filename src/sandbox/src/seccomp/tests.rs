use super::*;
use rbee_hive_policy::embedded;

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const KILL: u32 = 0x8000_0000;
const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const I386: u32 = 0x4000_0003;

fn inference(capabilities: &[&str]) -> Filters {
    let profile = SeccompProfile::parse("inference", "embedded", embedded::fragment("seccomp/inference").unwrap()).unwrap();
    Filters::compile(&profile, &capabilities.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// The kernel's interpreter, as far as these programs use it.
fn run(program: &[Insn], data: &[u32]) -> u32 {
    let (mut at, mut a) = (0, 0u32);
    loop {
        let i = program[at];
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        at += 1 + match i.code {
            0x20 => {
                a = data[i.k as usize / 4];
                0
            }
            0x54 => {
                a &= i.k;
                0
            }
            0x05 => i.k as usize,
            0x15 => jump(a == i.k),
            0x25 => jump(a > i.k),
            0x35 => jump(a >= i.k),
            0x06 => return i.k,
            other => panic!("an instruction that is not known: {other:#x}"),
        };
    }
}

/// What the kernel would do: of all answers the strictest (seccomp(2)).
fn answer(filters: &Filters, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    data.extend((0..6).flat_map(|n| args.get(n).map_or([0, 0], |a| [*a as u32, (*a >> 32) as u32])));
    let severity = |ret: u32| [KILL, 0x0005_0000, NOTIFY, ALLOW].iter().position(|action| ret & 0xffff_0000 == *action).unwrap();
    let programs = filters.refusing.iter().chain([&filters.notifying]);
    programs.map(|p| run(p, &data)).min_by_key(|ret| severity(*ret)).unwrap()
}

fn call(filters: &Filters, name: &str, args: &[u64]) -> u32 {
    answer(filters, NATIVE, u32::try_from(call_number(name).unwrap()).unwrap(), args)
}

fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

#[test]
fn each_call_gets_what_the_profile_says() {
    let filters = inference(&[]);
    for name in ["read", "execve", "futex", "sendmsg", "mmap"] {
        assert_eq!(call(&filters, name, &[]), ALLOW, "{name}");
    }
    for name in ["mount", "ptrace", "bpf", "keyctl", "unshare", "io_uring_setup"] {
        assert_eq!(call(&filters, name, &[]), errno(1), "{name}");
    }
    for name in ["kexec_load", "init_module", "reboot", "swapon"] {
        assert_eq!(call(&filters, name, &[]), NOTIFY, "{name}");
    }
    assert_eq!(call(&filters, "clone3", &[]), errno(38));
}

#[test]
fn a_netlink_socket_is_counted_where_somebody_listens_and_allowed_where_nobody_can() {
    let filters = inference(&[]);
    let socket = |family: u64| {
        let data = [u32::try_from(call_number("socket").unwrap()).unwrap(), NATIVE, 0, 0, family as u32, (family >> 32) as u32];
        let data = [&data[..], &[0; 10]].concat();
        (run(&filters.notifying, &data), run(&filters.killing, &data))
    };
    assert_eq!(socket(16), (NOTIFY, ALLOW));
    assert_eq!(socket(1 << 32 | 16), (NOTIFY, ALLOW), "the kernel looks at the lower half alone");
    assert_eq!(socket(2), (ALLOW, ALLOW));
    let call = |number: i32, arch, family| Notified { id: 0, number, arch, args: [family, 3, 0, 0, 0, 0], tid: 1 };
    let number = i32::try_from(libc::SYS_socket).unwrap();
    for family in [16, 1 << 32 | 16] {
        assert_eq!(Counted::of(&call(number, NATIVE, family)), Some(Counted::Netlink));
    }
    for other in [call(number, NATIVE, 17), call(number, I386, 16), call(number + 1, NATIVE, 16)] {
        assert_eq!(Counted::of(&other), None, "{other:?}");
    }
    let number = i32::try_from(libc::SYS_seccomp).unwrap();
    assert_eq!((Counted::of(&call(number, NATIVE, 1)), Counted::of(&call(number, NATIVE, 2))), (Some(Counted::Filter), None));
}

#[test]
fn arguments_are_looked_at_where_they_count() {
    let filters = inference(&[]);
    let cases: [(&str, &[u64], u32); 28] = [
        ("prlimit64", &[0, 7], ALLOW),
        ("prlimit64", &[1, 7], errno(1)),
        ("kill", &[2, 15], ALLOW),
        ("kill", &[1, 0], errno(1)),
        ("kill", &[u64::MAX, 15], ALLOW),
        ("tgkill", &[7, 1, 6], errno(1)),
        ("setpriority", &[0, 0, 5], ALLOW),
        ("setpriority", &[0, 1, 5], errno(1)),
        ("setpriority", &[2, 0, 5], errno(1)),
        ("sched_setaffinity", &[0, 8], ALLOW),
        ("sched_setaffinity", &[1, 8], errno(1)),
        ("ioctl", &[0, 0x5401], ALLOW),
        ("ioctl", &[0, 0x5412], errno(1)),
        ("ioctl", &[0, 0x1_0000_5412], errno(1)),
        ("ioctl", &[0, 0x541c], errno(1)),
        ("clone", &[0x003d_0f00], ALLOW),
        ("clone", &[0x1000_0011], errno(1)),
        ("clone", &[0x0002_0000], errno(1)),
        ("socket", &[1, 1], ALLOW),
        ("socket", &[2, 0x80801], ALLOW),
        // The init counts these.
        ("socket", &[16, 3, 0], NOTIFY),
        ("socket", &[16, 3, 9], errno(93)),
        ("socket", &[17, 3], errno(97).min(errno(1))),
        ("socket", &[2, 3], errno(1)),
        ("mknodat", &[0, 0, 0x1180], ALLOW),
        ("mknodat", &[0, 0, 0x2180], errno(1)),
        ("prctl", &[38, 1], ALLOW),
        ("prctl", &[35, 1], errno(1)),
    ];
    for (name, args, want) in cases {
        let got = call(&filters, name, args);
        // Of two errnos the last loaded filter's counts; here either says no.
        let both_refuse = got >> 16 == want >> 16 && want != ALLOW && name == "socket";
        assert!(got == want || both_refuse, "{name} {args:x?}: {got:#x}, not {want:#x}");
    }
    assert_eq!(call(&inference(&["CAP_MKNOD"]), "mknodat", &[0, 0, 0x2180]), ALLOW);
}

#[test]
fn newer_calls_are_not_there_and_foreign_ones_are_violations() {
    let filters = inference(&[]);
    assert_eq!(answer(&filters, NATIVE, u32::try_from(newest_call()).unwrap() + 1, &[]), errno(38));
    assert_eq!(answer(&filters, NATIVE, 0x4000_0000, &[]), NOTIFY, "x32's read");
    assert_eq!(answer(&filters, I386, 3, &[]), NOTIFY, "i386's read");
    assert_eq!(run(&filters.killing, &[3, I386, 0, 0]), KILL);
}

#[test]
fn a_watched_worker_is_refused_what_its_base_refuses_and_everything_else_is_told() {
    let profile = SeccompProfile::parse("inference", "embedded", embedded::fragment("seccomp/inference").unwrap()).unwrap();
    let filters = Filters::watching(Some(&profile), &[]).unwrap();
    for name in ["read", "execve", "exit_group", "kexec_load"] {
        assert_eq!(call(&filters, name, &[]), NOTIFY, "{name}");
    }
    assert_eq!((call(&filters, "ptrace", &[]), call(&filters, "ioctl", &[0, 0x5412])), (errno(1), errno(1)));
    assert_eq!(call(&filters, "sendmsg", &[]), ALLOW, "or the listener could not be handed over");
    assert_eq!(answer(&filters, I386, 3, &[]), NOTIFY);
    assert_eq!(run(&filters.killing, &[3, NATIVE, 0, 0]), KILL, "never to be used; and if it were, nothing would run");
    let free = Filters::watching(None, &[]).unwrap();
    assert_eq!((call(&free, "ptrace", &[]), call(&free, "sendmsg", &[])), (NOTIFY, ALLOW));
}

#[test]
fn the_filters_are_small_enough_for_the_kernel() {
    let filters = inference(&[]);
    let longest = filters.refusing.iter().chain([&filters.notifying]).map(Vec::len).max().unwrap();
    assert!(longest <= 4096 && filters.len() < 4096, "{longest} of {}", filters.len());
}

/// What a call gets from the deny-list alone.
fn denied(list: &DenyList, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    data.extend((0..6).flat_map(|n| args.get(n).map_or([0, 0], |a| [*a as u32, (*a >> 32) as u32])));
    let answers = list.programs().iter().map(|p| run(p, &data)).collect::<Vec<_>>();
    answers.iter().copied().find(|a| *a != ALLOW).unwrap_or(ALLOW)
}

fn number(name: &str) -> u32 {
    u32::try_from(call_number(name).unwrap()).unwrap()
}

#[test]
fn the_deny_list_lets_the_launcher_work_and_nothing_more() {
    let launcher = DenyList::for_launcher().unwrap();
    for name in ["kexec_load", "finit_module", "delete_module", "reboot", "swapon", "clock_settime", "open_by_handle_at", "userfaultfd"] {
        assert_eq!(denied(&launcher, NATIVE, number(name), &[]), NOTIFY, "{name}");
    }
    for name in ["clone3", "mount", "setns", "seccomp", "sethostname", "keyctl", "execve", "read", "ptrace"] {
        assert_eq!(denied(&launcher, NATIVE, number(name), &[]), ALLOW, "{name}");
    }
    for (command, answer) in [(5, ALLOW), (8, ALLOW), (15, ALLOW), (16, ALLOW), (13, NOTIFY), (0, NOTIFY), (9, NOTIFY), (28, NOTIFY)] {
        assert_eq!(denied(&launcher, NATIVE, number("bpf"), &[command]), answer, "bpf({command})");
    }
    assert_eq!(denied(&DenyList::for_inits().unwrap(), NATIVE, number("bpf"), &[5]), NOTIFY);
    for list in [DenyList::whole().unwrap(), DenyList::for_bare_workers().unwrap()] {
        assert_ne!(denied(&list, NATIVE, number("bpf"), &[5]), ALLOW);
        assert_eq!(denied(&list, NATIVE, number("read"), &[]), ALLOW);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_deny_list_has_no_way_round_by_another_architecture() {
    for list in [DenyList::for_launcher().unwrap(), DenyList::for_bare_workers().unwrap()] {
        assert_ne!(denied(&list, NATIVE, number("reboot") | 0x4000_0000, &[]), ALLOW, "x32");
        assert_ne!(denied(&list, I386, 88, &[]), ALLOW, "reboot by its 32-bit number");
        assert_ne!(denied(&list, I386, 357, &[5]), ALLOW, "bpf by its 32-bit number");
        assert_eq!(denied(&list, I386, 4, &[]), ALLOW, "write by its 32-bit number, which is another call's by the 64-bit ones");
        assert_eq!(denied(&list, NATIVE, 88, &[]), ALLOW, "88 is symlink by the 64-bit ones");
    }
}

#[test]
fn a_profile_still_names_what_the_deny_list_holds() {
    // Both want to notify: the kernel asks the inner filter, which is the profile's, and that one has a listener.
    assert_eq!(call(&inference(&[]), "delete_module", &[]), NOTIFY);
    assert_eq!(denied(&DenyList::for_launcher().unwrap(), NATIVE, number("delete_module"), &[]), NOTIFY);
}
