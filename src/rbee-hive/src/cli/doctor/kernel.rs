//! The kernel: its version, namespaces, seccomp, Landlock, swap and pressure.

use super::facts::{HostTexts, NAMESPACES};
use super::finding::{Finding, State};

/// The oldest kernel on which this program is tested.
const OLDEST: (u32, u32) = (5, 10);
/// Landlock ABIs and the kernels that brought them (landlock(7)).
const LANDLOCK: [((u32, u32), u32); 7] = [((5, 13), 1), ((5, 19), 2), ((6, 2), 3), ((6, 7), 4), ((6, 10), 5), ((6, 12), 6), ((6, 15), 7)];
/// What the seccomp filter asks for (seccomp(2)).
const ACTIONS: [&str; 3] = ["kill_process", "errno", "user_notif"];

/// Major and minor number; `(0, 0)` where they can't be read.
pub(super) fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The version.
pub(super) fn kernel(texts: &HostTexts) -> Finding {
    let release = texts.kernel.trim();
    match version(release) {
        (0, 0) => Finding::new("kernel", State::Unknown, "/proc/sys/kernel/osrelease can't be read").with_remedy("mount /proc"),
        version if version < OLDEST => Finding::new("kernel", State::Missing, format!("{release} is older than {}.{}", OLDEST.0, OLDEST.1))
            .with_remedy("boot a newer kernel"),
        _ => Finding::new("kernel", State::Ok, release),
    }
}

/// Every kind that a worker gets.
pub(super) fn namespaces(texts: &HostTexts) -> Finding {
    let kinds = || NAMESPACES.iter().map(|(kind, _)| *kind).filter(|kind| *kind != "user");
    let absent: Vec<&str> = kinds().filter(|kind| !texts.namespaces.contains(*kind)).collect();
    let barred: Vec<&str> = kinds().filter(|kind| texts.namespace_limits.get(*kind).is_some_and(|limit| limit.trim() == "0")).collect();
    match (absent.as_slice(), barred.as_slice()) {
        ([], []) => Finding::new("namespaces", State::Ok, kinds().collect::<Vec<_>>().join(", ")),
        ([], barred) => Finding::new("namespaces", State::Missing, format!("the limit is 0 for {}", barred.join(", ")))
            .with_remedy(format!("sysctl user.max_{}_namespaces=1000", barred[0])),
        (absent, _) => Finding::new("namespaces", State::Missing, format!("this kernel has no {}", absent.join(", ")))
            .with_remedy("boot a kernel with CONFIG_NAMESPACES and all kinds"),
    }
}

/// Those for an ordinary user; a hive that root starts does without.
pub(super) fn user_namespaces(texts: &HostTexts) -> Finding {
    let name = "user_namespaces";
    let missing = |why: &str, remedy: &str| {
        Finding::new(name, State::Missing, format!("{why}; a hive that root starts does not need them")).with_remedy(remedy)
    };
    let is = |text: &Option<String>, value: &str| text.as_deref().is_some_and(|t| t.trim() == value);
    if !texts.namespaces.contains("user") {
        return missing("this kernel has none", "boot a kernel with CONFIG_USER_NS");
    }
    if texts.namespace_limits.get("user").is_some_and(|limit| limit.trim() == "0") {
        return missing("the limit is 0", "sysctl user.max_user_namespaces=1000");
    }
    if is(&texts.userns_clone, "0") {
        return missing("they are root's alone", "sysctl kernel.unprivileged_userns_clone=1");
    }
    if is(&texts.userns_apparmor, "1") {
        return missing("AppArmor restricts them", "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give the program a profile");
    }
    Finding::new(name, State::Ok, "ordinary users may make them")
}

/// The actions of the filter.
pub(super) fn seccomp(texts: &HostTexts) -> Finding {
    let Some(actions) = &texts.seccomp_actions else {
        return Finding::new("seccomp", State::Missing, "there is no /proc/sys/kernel/seccomp")
            .with_remedy("boot a kernel with CONFIG_SECCOMP_FILTER");
    };
    let absent: Vec<&str> = ACTIONS.into_iter().filter(|action| !actions.split_whitespace().any(|a| a == *action)).collect();
    match absent.as_slice() {
        [] => Finding::new("seccomp", State::Ok, format!("the kernel offers {}", ACTIONS.join(", "))),
        absent => Finding::new("seccomp", State::Missing, format!("the kernel does not offer {}", absent.join(", ")))
            .with_remedy("boot a newer kernel"),
    }
}

/// Whether it is switched on; the ABI itself is told by a system call that only a hive makes.
pub(super) fn landlock(texts: &HostTexts) -> Finding {
    let abi = LANDLOCK.into_iter().rev().find(|(since, _)| version(&texts.kernel) >= *since).map(|(_, abi)| abi);
    let (Some(abi), lsm) = (abi, &texts.lsm) else {
        return Finding::new("landlock", State::Missing, "this kernel is older than 5.13").with_remedy("boot a newer kernel");
    };
    match lsm.as_deref().map(|list| list.trim().split(',').any(|name| name == "landlock")) {
        Some(true) => Finding::new("landlock", State::Ok, format!("switched on; by the kernel's version ABI {abi} or later")),
        Some(false) => Finding::new("landlock", State::Missing, "built in or not, it is not switched on")
            .with_remedy("add landlock to the list of the boot parameter lsm="),
        None => Finding::new(
            "landlock",
            State::Unknown,
            format!("/sys/kernel/security/lsm can't be read; by the kernel's version ABI {abi} is possible"),
        )
        .with_remedy("mount -t securityfs none /sys/kernel/security, or ask a running hive"),
    }
}

/// Whether there is any: without it `swap_max` limits nothing that could happen.
pub(super) fn swap(texts: &HostTexts) -> Finding {
    match texts.swaps.as_deref().map(|text| text.lines().skip(1).filter(|line| !line.trim().is_empty()).count()) {
        None => Finding::new("swap", State::Ok, "this kernel has none"),
        Some(0) => Finding::new("swap", State::Ok, "none in use: memory_max is all there is"),
        Some(n) => Finding::new("swap", State::Ok, format!("{n} in use: a worker without swap_max may use it beyond its memory_max")),
    }
}

/// Pressure stall information.
pub(super) fn pressure(texts: &HostTexts) -> Finding {
    match texts.pressure {
        Some(_) => Finding::new("pressure", State::Ok, "/proc/pressure is there"),
        None => Finding::new("pressure", State::Missing, "/proc/pressure can't be read").with_remedy("boot with psi=1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kernel: &str) -> HostTexts {
        HostTexts {
            kernel: kernel.into(),
            namespaces: NAMESPACES.iter().map(|(kind, _)| (*kind).to_owned()).collect(),
            ..HostTexts::default()
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc\n"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version("linux"), (0, 0));
        assert_eq!(kernel(&host("5.9.1")).state, State::Missing);
        assert_eq!(kernel(&host("5.10.0")).state, State::Ok);
        assert_eq!(kernel(&host("")).state, State::Unknown);
    }

    #[test]
    fn landlock_must_be_switched_on() {
        let with = |kernel: &str, lsm: Option<&str>| landlock(&HostTexts { lsm: lsm.map(str::to_owned), ..host(kernel) });
        assert_eq!(with("6.12.0", Some("capability,landlock,yama\n")).state, State::Ok);
        assert!(with("6.12.0", Some("landlock")).detail.contains("ABI 6"));
        assert_eq!(with("6.12.0", Some("capability")).state, State::Missing);
        assert_eq!(with("6.12.0", None).state, State::Unknown);
        assert_eq!(with("5.10.0", None).state, State::Missing);
    }

    #[test]
    fn seccomp_needs_all_its_actions() {
        let with = |actions: Option<&str>| seccomp(&HostTexts { seccomp_actions: actions.map(str::to_owned), ..host("6.1") });
        assert_eq!(with(Some("kill_process kill_thread trap errno user_notif trace log allow\n")).state, State::Ok);
        assert!(with(Some("kill_thread trap errno trace allow")).detail.contains("kill_process, user_notif"));
        assert_eq!(with(None).state, State::Missing);
    }

    #[test]
    fn a_limit_of_0_bars_namespaces() {
        let mut texts = host("6.1");
        assert_eq!((namespaces(&texts).state, user_namespaces(&texts).state), (State::Ok, State::Ok));
        texts.namespace_limits = [("net".to_owned(), "0\n".to_owned()), ("user".to_owned(), "0\n".to_owned())].into();
        assert!(namespaces(&texts).remedy.is_some_and(|r| r.contains("max_net_namespaces")));
        assert_eq!(user_namespaces(&texts).state, State::Missing);
        texts.namespaces.remove("pid");
        assert!(namespaces(&texts).detail.contains("no pid"));
    }

    #[test]
    fn user_namespaces_may_be_barred_by_distributions() {
        let debian = HostTexts { userns_clone: Some("0\n".into()), ..host("6.1") };
        let ubuntu = HostTexts { userns_apparmor: Some("1\n".into()), ..host("6.1") };
        assert_eq!((user_namespaces(&debian).state, user_namespaces(&ubuntu).state), (State::Missing, State::Missing));
    }

    #[test]
    fn swap_in_use_is_told() {
        let with = |swaps: &str| swap(&HostTexts { swaps: Some(swaps.into()), ..host("6.1") }).detail;
        assert!(with("Filename Type\n").contains("none in use"));
        assert!(with("Filename Type\n/dev/sda2 partition\n").contains("1 in use"));
    }
}
