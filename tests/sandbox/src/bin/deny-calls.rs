//! `deny-calls ERRNO CALL,CALL… COMMAND…`: runs COMMAND below a seccomp filter that answers these calls with ERRNO, as an older kernel or a
//! container engine's profile does.

#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot be made ends its test")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

fn main() {
    let mut args = std::env::args().skip(1);
    let errno: u32 = args.next().and_then(|n| n.parse().ok()).expect("an errno");
    let calls = args.next().expect("calls");
    let numbers = calls.split(',').map(|name| rbee_hive_policy::call_number(name).expect("a call"));
    let rules: BTreeMap<i64, _> = numbers.map(|number| (number, vec![])).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a machine that seccompiler knows");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch).expect("a filter");
    seccompiler::apply_filter(&BpfProgram::try_from(filter).expect("a program")).expect("load the filter");
    let error = std::process::Command::new(args.next().expect("a command")).args(args).exec();
    panic!("exec: {error}");
}
