use super::*;
use crate::embedded;

const LEAST: &str = "[[allow]]\nreason = \"r\"\ncalls = [\"execve\", \"exit_group\", \"sendmsg\", \"ioctl\"]\n";

fn error(more: &str) -> String {
    SeccompProfile::parse("p", "p.toml", &format!("{LEAST}{more}")).unwrap_err().to_string()
}

#[test]
fn the_shipped_profile_is_sound_and_gives_a_reason_for_everything() {
    let text = embedded::fragment("seccomp/inference").unwrap();
    let profile = SeccompProfile::parse("inference", "embedded", text).unwrap();
    assert!(profile.allow.iter().map(|e| &e.reason).chain(profile.refuse.iter().map(|e| &e.reason)).all(|r| r.len() > 6));
    let listed = |call: &str| profile.allow.iter().any(|e| e.calls.iter().any(|c| c == call));
    for call in ["kexec_load", "init_module", "reboot", "swapon", "iopl", "ptrace", "bpf", "keyctl", "io_uring_setup", "userfaultfd"] {
        assert!(!listed(call), "{call}");
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    let cases = [
        ("[[allow]]\nreason = \"r\"\ncalls = [\"reed\"]", "p.toml:6: allow: \"reed\" is no system call"),
        ("[[allow]]\nreason = \" \"\ncalls = [\"read\"]", "every entry has a reason"),
        ("[[allow]]\nreason = \"r\"\ncalls = []", "an entry without calls"),
        ("[[allow]]\nreason = \"r\"\ncalls = [\"ioctl\"]", "ioctl is allowed twice"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"ioctl\"]\nerrno = \"EPERM\"", "allowed and refused"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"bpf\"]\nerrno = \"EPERMM\"", "EPERMM"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"bpf\", \"bpf\"]\nerrno = \"EPERM\"", "refused twice"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"bpf\"]\nerrno = \"EPERM\"\nwhen = [{arg = 0, is = [1]}]", "not allowed for the others"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"ioctl\"]\nerrno = \"EPERM\"\nwhen = [{arg = 6, is = [1]}]", "no argument 6"),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"ioctl\"]\nerrno = \"EPERM\"\nwhen = [{arg = 1}]", "exactly one of"),
        (
            "[[refuse]]\nreason = \"r\"\ncalls = [\"ioctl\"]\nerrno = \"EPERM\"\nwhen = [{arg = 1, mask = 1, is = [2]}]",
            "outside of its mask",
        ),
        ("[[refuse]]\nreason = \"r\"\ncalls = [\"ioctl\"]\nerrno = \"EPERM\"\nwhen = [{arg = 1, is = [2], typo = 1}]", "typo"),
    ];
    for (more, want) in cases {
        let error = error(more);
        assert!(error.contains(want), "{more}\n{error}");
    }
    let nothing = SeccompProfile::parse("p", "p.toml", "[[allow]]\nreason = \"r\"\ncalls = [\"execve\"]").unwrap_err().to_string();
    assert!(nothing.contains("exit_group is missing"), "{nothing}");
}

#[test]
fn a_granted_capability_lifts_its_refusals() {
    let more = "[[refuse]]\nreason = \"r\"\ncalls = [\"bpf\"]\nerrno = \"EPERM\"\nunless_capability = \"CAP_BPF\"";
    let profile = SeccompProfile::parse("p", "p.toml", &format!("{LEAST}{more}")).unwrap();
    assert_eq!(profile.refused(&[]).count(), 1);
    assert_eq!(profile.refused(&["CAP_BPF".into()]).count(), 0);
}

#[test]
fn names_and_numbers_belong_together() {
    let number = call_number("openat").unwrap();
    assert_eq!(call_name(number), Some("openat"));
    assert_eq!((newest_call() > 450, call_name(newest_call() + 1)), (true, None), "{}", newest_call());
    assert_eq!((call_number("no_such_call"), call_name(-1)), (None, None));
}

#[test]
fn a_call_is_permitted_by_its_arguments() {
    let profile = SeccompProfile::parse("inference", "embedded", embedded::fragment("seccomp/inference").unwrap()).unwrap();
    let may = |call: &str, args: [u32; 6], capabilities: &[&str]| {
        profile.permits(call, &args, &capabilities.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
    };
    assert!(may("read", [0; 6], &[]) && !may("bpf", [0; 6], &["CAP_BPF"]));
    assert!(may("socket", [2, 1, 0, 0, 0, 0], &[]) && !may("socket", [2, 3, 0, 0, 0, 0], &[]) && !may("socket", [17, 1, 0, 0, 0, 0], &[]));
    assert!(!may("clone", [0x2000_0000, 0, 0, 0, 0, 0], &[]) && may("clone", [17, 0, 0, 0, 0, 0], &[]));
    assert!(!may("mknod", [0, 0x2000, 0, 0, 0, 0], &[]) && may("mknod", [0, 0x2000, 0, 0, 0, 0], &["CAP_MKNOD"]));
    assert!(may("mknod", [0, 0x1000, 0, 0, 0, 0], &[]), "a fifo");
}
