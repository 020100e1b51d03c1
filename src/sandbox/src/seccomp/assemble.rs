//! Programs of single filters, by `seccompiler`; the two things that it has no words for are done here, by hand: a notification, and a
//! comparison of the call's number.

use std::collections::BTreeMap;

use rbee_hive_policy::{Condition, Errno, Refuse, call_number};
use rbee_hive_sys::seccomp::{Insn, RET_USER_NOTIF};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::Counted;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

const LD_W_ABS: u16 = 0x20;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_ALLOW: u32 = 0x7fff_0000;
pub(super) const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// Offsets in `struct seccomp_data`.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
/// Set in the numbers of x86's x32 calls, which are no new ones.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// Stands for a notification until it is put in.
const PLACEHOLDER: u16 = 0x7a5a;

#[cfg(target_arch = "x86_64")]
pub(super) const ARCH: (TargetArch, u32) = (TargetArch::x86_64, 0xc000_003e);
#[cfg(target_arch = "aarch64")]
pub(super) const ARCH: (TargetArch, u32) = (TargetArch::aarch64, 0xc000_00b7);

/// Gives ENOSYS to calls above `newest`: what a program that knows them expects of an older kernel.
pub(super) fn newer_than(newest: i64) -> Vec<Insn> {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    let newest = u32::try_from(newest).unwrap_or(u32::MAX);
    vec![
        insn(LD_W_ABS, 0, 0, DATA_ARCH),
        insn(JMP_JEQ_K, 0, 4, ARCH.1),
        insn(LD_W_ABS, 0, 0, DATA_NR),
        insn(JMP_JGE_K, 2, 0, X32_BIT),
        insn(JMP_JGT_K, 0, 1, newest),
        insn(RET_K, 0, 0, RET_ERRNO | Errno::Enosys.number()),
        insn(RET_K, 0, 0, RET_ALLOW),
    ]
}

/// Gives `errno` to what the entries say and lets everything else pass.
pub(super) fn refusing<'e>(entries: impl Iterator<Item = &'e Refuse>, errno: Errno) -> Result<Vec<Insn>, BackendError> {
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for entry in entries {
        let alternatives = alternatives(&entry.when)?;
        for number in entry.calls.iter().filter_map(|name| call_number(name)) {
            let all = rules.entry(number).or_insert_with(|| Some(vec![]));
            match (all.as_mut(), alternatives.is_empty()) {
                // Without a condition it is refused whatever else is said of it.
                (_, true) => *all = None,
                (Some(all), false) => all.extend(alternatives.iter().cloned()),
                (None, false) => {}
            }
        }
    }
    let rules = rules.into_iter().map(|(number, rules)| (number, rules.unwrap_or_default())).collect();
    let mut program = program(rules, (SeccompAction::Allow, SeccompAction::Errno(errno.number())))?;
    // Calls of another architecture are for the last filter, which tells of them.
    replace(&mut program, RET_KILL_PROCESS, RET_ALLOW);
    Ok(program)
}

/// Lets `calls` pass and notifies of everything else; and the same program that kills instead. The first also notifies of what the
/// init counts ([`Counted`]).
pub(super) fn allowing(calls: impl Iterator<Item = i64>) -> Result<(Vec<Insn>, Vec<Insn>), BackendError> {
    let mut rules: Rules = calls.map(|number| (number, vec![])).collect();
    let killing = program(rules.clone(), (SeccompAction::KillProcess, SeccompAction::Allow))?;
    for (_, number, arg, value) in Counted::ALL {
        if let Some(rules) = rules.get_mut(&number) {
            let others = SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(value))?;
            *rules = vec![SeccompRule::new(vec![others])?];
        }
    }
    let mut notifying = program(rules, (SeccompAction::Trace(u32::from(PLACEHOLDER)), SeccompAction::Allow))?;
    replace(&mut notifying, RET_TRACE | u32::from(PLACEHOLDER), RET_USER_NOTIF);
    replace(&mut notifying, RET_KILL_PROCESS, RET_USER_NOTIF);
    Ok((notifying, killing))
}

/// Gives `answer` to what `rules` say and lets everything else pass, other architectures' calls too.
pub(super) fn denying(rules: Rules, answer: u32) -> Result<Vec<Insn>, BackendError> {
    let mut program = program(rules, (SeccompAction::Allow, SeccompAction::Trace(u32::from(PLACEHOLDER))))?;
    replace(&mut program, RET_TRACE | u32::from(PLACEHOLDER), answer);
    replace(&mut program, RET_KILL_PROCESS, RET_ALLOW);
    Ok(program)
}

/// [`denying`] for the calls of another architecture (`AUDIT_ARCH_…`), for which `seccompiler` has no name.
#[cfg(target_arch = "x86_64")]
pub(super) fn denying_on(arch: u32, rules: Rules, answer: u32) -> Result<Vec<Insn>, BackendError> {
    let mut program = denying(rules, answer)?;
    for insn in program.iter_mut().filter(|i| i.code == JMP_JEQ_K && i.k == ARCH.1) {
        insn.k = arch;
    }
    Ok(program)
}

/// Notifies of every call but sendmsg(2), which the launcher needs to hand the listener over; and a program that kills at the first call,
/// whatever it is.
pub(super) fn watching() -> (Vec<Insn>, Vec<Insn>) {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    let sendmsg = call_number("sendmsg").and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
    let notifying = vec![
        insn(LD_W_ABS, 0, 0, DATA_ARCH),
        insn(JMP_JEQ_K, 0, 3, ARCH.1),
        insn(LD_W_ABS, 0, 0, DATA_NR),
        insn(JMP_JEQ_K, 0, 1, sendmsg),
        insn(RET_K, 0, 0, RET_ALLOW),
        insn(RET_K, 0, 0, RET_USER_NOTIF),
    ];
    (notifying, vec![insn(RET_K, 0, 0, RET_KILL_PROCESS)])
}

fn replace(program: &mut [Insn], answer: u32, by: u32) {
    for insn in program.iter_mut().filter(|i| i.code == RET_K && i.k == answer) {
        insn.k = by;
    }
}

/// `actions`: for what is not in the rules, and for what is.
fn program(rules: Rules, actions: (SeccompAction, SeccompAction)) -> Result<Vec<Insn>, BackendError> {
    let program: BpfProgram = SeccompFilter::new(rules, actions.0, actions.1, ARCH.0)?.try_into()?;
    Ok(program.iter().map(|i| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}

/// All conditions hold at once; one that offers several values becomes several rules.
fn alternatives(conditions: &[Condition]) -> Result<Vec<SeccompRule>, BackendError> {
    if conditions.is_empty() {
        return Ok(vec![]);
    }
    let mut rules: Vec<Vec<SeccompCondition>> = vec![vec![]];
    for condition in conditions {
        let offered = offered(condition)?;
        rules = rules.iter().flat_map(|so_far| offered.iter().map(|more| [so_far.as_slice(), more.as_slice()].concat())).collect();
    }
    rules.into_iter().map(SeccompRule::new).collect()
}

/// One of these lists must hold as a whole.
fn offered(condition: &Condition) -> Result<Vec<Vec<SeccompCondition>>, BackendError> {
    let test = |op, value: u32| SeccompCondition::new(condition.arg, SeccompCmpArgLen::Dword, op, u64::from(value));
    let equal = |value: u32| match condition.mask {
        Some(mask) => test(SeccompCmpOp::MaskedEq(u64::from(mask)), value),
        None => test(SeccompCmpOp::Eq, value),
    };
    if let Some(bits) = condition.any_bit {
        let single = (0..u32::BITS).map(|n| 1u32 << n).filter(|bit| bits & bit != 0);
        return single.map(|bit| Ok(vec![test(SeccompCmpOp::MaskedEq(u64::from(bit)), bit)?])).collect();
    }
    if !condition.is.is_empty() {
        return condition.is.iter().map(|value| Ok(vec![equal(*value)?])).collect();
    }
    // There is no "masked and not equal": a mask with `is_not` is refused by the policy's own check.
    Ok(vec![condition.is_not.iter().map(|value| test(SeccompCmpOp::Ne, *value)).collect::<Result<_, _>>()?])
}
