//! Deaths for a system call.

use super::Findings;

pub(super) fn seccomp_killed((syscall, number, args): (Option<&str>, Option<i32>, Option<&[String]>), found: &mut Findings) {
    found.prove("syscall", syscall.map(str::to_owned), |name| format!("system call {name}"));
    found.prove("number", number, |n| format!("number {n}"));
    found.prove("args", args.map(|args| args.join(", ")), |args| format!("with ({args})"));
    match (syscall, number) {
        (Some(name), _) => {
            found.advise(format!("find out why it calls {name}; where it has to, add {name} to a seccomp profile of your own"));
            found.advise("`rbee-hive policy learn` drafts a policy with what a run needs");
        }
        (None, Some(_)) => found.advise("it is a call of another architecture: take a build for this machine"),
        (None, None) => found.advise("its last lines may say what it did: this host does not tell which call it was"),
    }
}
