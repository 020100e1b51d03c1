//! What a test has set, as text and as entries.
//!
//! Must never know: files, processes.

use std::time::Duration;

use nix::errno::Errno;

/// What to do at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// This process ends at once, with no chance to do anything.
    Kill,
    /// It ends with this status.
    Exit(i32),
    /// The call at the point fails.
    Fail(Errno),
    /// The call at the point takes that much longer.
    Delay(Duration),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `<process>.<point>`.
    pub(super) point: String,
    /// Text that the subject has to have.
    pub(super) who: String,
    pub(super) action: Action,
    /// Which time in a process, from 1; `None`: every time.
    pub(super) nth: Option<u32>,
}

/// All lines, and whether every point that is passed is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) entries: Vec<Entry>,
    pub(super) trace: bool,
}

impl Setting {
    /// Lines, or parts between semicolons. `None` for what is not understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut setting = Self::default();
        for line in text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
            match line {
                "trace" => setting.trace = true,
                line => setting.entries.push(Entry::parse(line)?),
            }
        }
        Some(setting)
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let (place, act) = line.split_once('=')?;
        let (point, who) = place.split_once('#').unwrap_or((place, ""));
        let (act, nth) = match act.split_once('@') {
            Some((act, nth)) => (act, Some(nth.parse().ok()?)),
            None => (act, None),
        };
        let action = match act.split_once(':') {
            None if act == "kill" => Action::Kill,
            Some(("exit", code)) => Action::Exit(code.parse().ok()?),
            Some(("errno", name)) => Action::Fail(errno(name)?),
            Some(("delay", ms)) => Action::Delay(Duration::from_millis(ms.parse().ok()?)),
            _ => return None,
        };
        Some(Self { point: point.to_owned(), who: who.to_owned(), action, nth })
    }

    pub(super) fn is_at(&self, point: &str, who: &str) -> bool {
        self.point == point && who.contains(&self.who)
    }
}

fn errno(name: &str) -> Option<Errno> {
    const NAMES: [Errno; 11] = [
        Errno::EACCES,
        Errno::EAGAIN,
        Errno::EBUSY,
        Errno::EDQUOT,
        Errno::EINTR,
        Errno::EIO,
        Errno::EMFILE,
        Errno::ENOMEM,
        Errno::ENOSPC,
        Errno::EPERM,
        Errno::EROFS,
    ];
    NAMES.into_iter().find(|errno| format!("{errno:?}") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_for_whom_what_and_which_time() {
        let entry = |point: &str, who: &str, action, nth| Entry { point: point.into(), who: who.into(), action, nth };
        let text =
            "launcher.spawn.leaves_made#w1=kill@3; init.step.mount proc=delay:200\n\nlauncher.cgroup.write#w-v/=errno:EIO;hive.x=exit:7";
        let setting = Setting::parse(text).unwrap();
        assert_eq!(
            setting.entries,
            [
                entry("launcher.spawn.leaves_made", "w1", Action::Kill, Some(3)),
                entry("init.step.mount proc", "", Action::Delay(Duration::from_millis(200)), None),
                entry("launcher.cgroup.write", "w-v/", Action::Fail(Errno::EIO), None),
                entry("hive.x", "", Action::Exit(7), None),
            ]
        );
        assert!(!setting.trace && Setting::parse("trace").unwrap().trace);
        assert!(setting.entries[2].is_at("launcher.cgroup.write", "/sys/fs/cgroup/w-v/worker/pids.max"));
        assert!(!setting.entries[2].is_at("launcher.cgroup.write", "/sys/fs/cgroup/w-other/worker/pids.max"));
    }

    #[test]
    fn what_is_not_understood_is_no_setting() {
        for text in ["launcher.x", "launcher.x=die", "launcher.x=errno:EFUN", "launcher.x=kill@often", "launcher.x=delay:long"] {
            assert_eq!(Setting::parse(text), None, "{text}");
        }
    }
}
