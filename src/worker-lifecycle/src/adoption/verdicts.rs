//! The directories of launcher and inits, `workers/<id>/`, read where a message could not say it: `verdict.json`, how a worker ended that
//! nobody told of; `plan.json`, a plan that is too long to be told.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rbee_hive_policy::{SandboxPlan, WorkerId};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::protocol::Resources;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use serde::Deserialize;

/// Largest record, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The launcher's `workers/`, opened.
#[derive(Debug)]
pub(crate) struct Verdicts(OwnedFd);

/// An end as it was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) verdict: Verdict,
    pub(crate) resources: Resources,
    /// When.
    pub(crate) at: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct PlanRecord {
    plan: SandboxPlan,
}

#[derive(Deserialize)]
struct Record {
    worker_id: String,
    verdict: Verdict,
    #[serde(default)]
    resources: Resources,
    /// Absent in those of older inits.
    #[serde(default)]
    boot_id: Option<String>,
}

impl Verdicts {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// What a worker was made from; `None` where that can't be read. Blocks.
    pub(crate) fn plan(&self, id: &WorkerId) -> Option<SandboxPlan> {
        let (text, _) = self.text(id, "plan.json")?;
        let PlanRecord { plan } = serde_json::from_slice(&text).ok()?;
        (plan.worker_id == *id).then_some(plan)
    }

    /// How a worker has ended; `None` where nothing says so. Its directory was made afresh for it, so that no end of another is in there.
    /// Blocks.
    pub(crate) fn read(&self, id: &WorkerId) -> Option<Written> {
        let (text, at) = self.text(id, "verdict.json")?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let here = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let of_now = record.boot_id.as_deref().is_none_or(|boot| boot == here.trim());
        (record.worker_id == id.as_str() && of_now).then_some(Written { verdict: record.verdict, resources: record.resources, at })
    }

    /// A file's text, and when it was written.
    fn text(&self, id: &WorkerId, name: &str) -> Option<(Vec<u8>, Option<jiff::Timestamp>)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&self.0, id.as_str(), flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let file = openat(&directory, name, flags | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let there = fstat(&file).ok()?;
        if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut text = Vec::new();
        File::from(file).take(MAX_BYTES).read_to_end(&mut text).ok()?;
        let nanoseconds = i32::try_from(there.st_mtime_nsec).unwrap_or_default();
        Some((text, jiff::Timestamp::new(there.st_mtime, nanoseconds).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Verdict> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("w")).unwrap();
        std::fs::write(directory.path().join("w/verdict.json"), text).unwrap();
        let verdicts = Verdicts::new(File::open(directory.path()).unwrap().into());
        verdicts.read(&WorkerId::parse("w").unwrap()).map(|written| written.verdict)
    }

    #[test]
    fn an_end_is_read_as_its_init_wrote_it_and_nobody_elses_is() {
        let text = |id: &str, more: &str| {
            format!(r#"{{"version":1,"worker_id":"{id}","verdict":{{"kind":"exited","code":3}},"resources":{{}}{more}}}"#)
        };
        assert_eq!(read(&text("w", "")), Some(Verdict::Exited { code: 3 }));
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(read(&text("w", &format!(r#","boot_id":"{}""#, boot.trim()))), Some(Verdict::Exited { code: 3 }));
        for none in [text("v", ""), text("w", r#","boot_id":"another""#), String::new(), text("w", "")[..20].to_owned()] {
            assert_eq!(read(&none), None, "{none}");
        }
    }

    #[test]
    fn a_plan_that_is_too_long_to_be_told_is_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("w")).unwrap();
        let plan = crate::tests::plans::of("bare");
        std::fs::write(directory.path().join("w/plan.json"), serde_json::json!({"version": 2, "plan": plan, "cgroup": null}).to_string())
            .unwrap();
        let verdicts = Verdicts::new(File::open(directory.path()).unwrap().into());
        assert_eq!(verdicts.plan(&plan.worker_id), Some(plan));
        assert_eq!(verdicts.plan(&WorkerId::parse("v").unwrap()), None);
    }

    #[test]
    fn a_link_is_not_followed_and_a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (there, end) = (directory.path().join("w"), directory.path().join("w/verdict.json"));
        std::fs::create_dir(&there).unwrap();
        let verdicts = Verdicts::new(File::open(directory.path()).unwrap().into());
        let id = WorkerId::parse("w").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &end).unwrap();
        assert!(verdicts.read(&id).is_none());
        std::fs::remove_file(&end).unwrap();
        nix::unistd::mkfifo(&end, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(verdicts.read(&id).is_none());
    }
}
