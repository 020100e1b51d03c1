//! The device list of a leaf: allow lines on v1, a program on v2.
//!
//! Must never know: why a device was granted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cgroups_rs::fs::devices::{DevicePermissions, DeviceType as V1Type, DevicesController};
use rbee_hive_policy::{DeviceKind, DeviceNode};
use rbee_hive_sys::bpf::{self, DeviceRule, DeviceType};

use super::error::CgroupError;
use super::interface;

/// Most loaded programs that are kept: one for each distinct device list.
const MAX_PROGRAMS: usize = 64;

/// The list as rules: sorted, each device once with all that any of its nodes grants.
pub(super) fn rules(devices: &[DeviceNode]) -> Vec<DeviceRule> {
    let mut rules: Vec<DeviceRule> = Vec::new();
    for node in devices {
        let kind = match node.kind {
            DeviceKind::Char => DeviceType::Char,
            DeviceKind::Block => DeviceType::Block,
        };
        let bits = [(node.access.read, bpf::ACCESS_READ), (node.access.write, bpf::ACCESS_WRITE), (node.access.mknod, bpf::ACCESS_MKNOD)];
        let access = bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
        match rules.iter_mut().find(|r| (r.kind, r.major, r.minor) == (kind, node.major, node.minor)) {
            Some(known) => known.access |= access,
            None => rules.push(DeviceRule { kind, major: node.major, minor: node.minor, access }),
        }
    }
    rules.retain(|r| r.access != 0);
    rules.sort_unstable();
    rules
}

/// Loaded programs by rule list, the oldest dropped first (attached ones live on in their cgroup).
#[derive(Debug, Default)]
pub(super) struct Programs {
    loaded: VecDeque<(Vec<DeviceRule>, OwnedFd)>,
}

impl Programs {
    /// Attaches the program for `rules` to the v2 leaf `dir`, loading it where no equal one is kept. Gives the kernel's number of it.
    pub(super) fn attach(&mut self, dir: BorrowedFd<'_>, path: &Path, rules: &[DeviceRule]) -> Result<u32, CgroupError> {
        let failed = |call| move |source| CgroupError::DeviceProgram { call, path: path.to_owned(), source };
        if !self.loaded.iter().any(|(known, _)| known == rules) {
            let code = bpf::assemble(rules).map_err(failed("assemble"))?;
            let program = bpf::load(&code).map_err(failed("load"))?;
            if self.loaded.len() == MAX_PROGRAMS {
                self.loaded.pop_front();
            }
            self.loaded.push_back((rules.to_vec(), program));
        }
        let gone = || io::Error::from_raw_os_error(libc::ENOENT);
        let (_, program) = self.loaded.iter().find(|(known, _)| known == rules).ok_or_else(gone).map_err(failed("look up"))?;
        bpf::attach(dir, program.as_fd()).map_err(failed("attach"))?;
        bpf::program_id(program.as_fd()).map_err(failed("look up"))
    }
}

/// Denies everything in the v1 leaf `dir`, then allows `rules`, then reads the list back.
pub(super) fn write_v1(dir: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let controller = DevicesController::new(dir.to_owned(), dir.to_owned());
    let set = |file: &str, value: String| {
        let path = dir.join(file);
        move |source| CgroupError::Set { path, value, source }
    };
    controller.deny_device(V1Type::All, -1, -1, &DevicePermissions::all()).map_err(set("devices.deny", "a".to_owned()))?;
    // Making a node grants nothing: opening it is what the rules are about (and CAP_MKNOD guards the making).
    for kind in [V1Type::Char, V1Type::Block] {
        controller.allow_device(kind, -1, -1, &[DevicePermissions::MkNod]).map_err(set("devices.allow", "*:* m".to_owned()))?;
    }
    for rule in rules {
        let kind = match rule.kind {
            DeviceType::Char => V1Type::Char,
            DeviceType::Block => V1Type::Block,
        };
        controller
            .allow_device(kind, i64::from(rule.major), i64::from(rule.minor), &permissions(rule.access))
            .map_err(set("devices.allow", line(rule)))?;
    }
    let wanted = listed(rules);
    interface::expect(&dir.join("devices.list"), &wanted.join(", "), |got| lines(got) == wanted)
}

/// `devices.list` as it is to be, sorted.
fn listed(rules: &[DeviceRule]) -> Vec<String> {
    let any = ["c *:* m".to_owned(), "b *:* m".to_owned()];
    let mut wanted: Vec<String> = any.into_iter().chain(rules.iter().map(line)).collect();
    wanted.sort_unstable();
    wanted
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What `devices.list` (`text`) has beyond what `devices` grants, and what it lacks.
pub(crate) fn device_list_differs(devices: &[DeviceNode], text: &str) -> (Vec<String>, Vec<String>) {
    let (wanted, got) = (listed(&rules(devices)), lines(text));
    let without = |all: &[String], these: &[String]| all.iter().filter(|l| !these.contains(l)).cloned().collect();
    (without(&got, &wanted), without(&wanted, &got))
}

fn permissions(access: u32) -> Vec<DevicePermissions> {
    let all = [
        (bpf::ACCESS_READ, DevicePermissions::Read),
        (bpf::ACCESS_WRITE, DevicePermissions::Write),
        (bpf::ACCESS_MKNOD, DevicePermissions::MkNod),
    ];
    all.into_iter().filter(|(bit, _)| access & bit != 0).map(|(_, p)| p).collect()
}

/// A rule as `devices.list` shows it.
fn line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceType::Char => 'c',
        DeviceType::Block => 'b',
    };
    let access: String = permissions(rule.access).iter().map(DevicePermissions::to_char).collect();
    format!("{kind} {}:{} {access}", rule.major, rule.minor)
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::DeviceAccess;

    use super::*;

    #[test]
    fn two_nodes_of_one_device_are_one_rule_and_no_access_is_none() {
        let node = |minor, read, write, mknod| DeviceNode {
            path: "/dev/x".into(),
            kind: DeviceKind::Char,
            major: 1,
            minor,
            access: DeviceAccess { read, write, mknod },
        };
        let got =
            rules(&[node(5, true, false, false), node(3, false, true, true), node(5, false, true, false), node(9, false, false, false)]);
        assert_eq!(got.iter().map(line).collect::<Vec<_>>(), ["c 1:3 wm", "c 1:5 rw"]);
    }
}
