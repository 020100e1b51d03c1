//! `plan.json`: what a launcher has to know of a worker that outlives the launcher that made it.
//!
//! Written whole, once before the init is born and once after, and again when its limits change. Believed only as root's own file: whoever can
//! write it could as well have the launcher start what he likes. Must never know: whether what it says is still so.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbee_hive_policy::{LimitKey, MpsPlan, OnHiveExit, SandboxPlan};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ledger::{Claim, DeviceNumber};
use crate::Verdict;
use crate::init::write_whole;
use crate::protocol::Resources;
use crate::step::{CallError, failed};

/// The format that this program writes. Fields are only ever added to one.
pub(super) const VERSION: u32 = 2;
/// The record's name in a worker's state directory.
pub(super) const NAME: &str = "plan.json";
/// The verdict's, which the init writes.
const VERDICT: &str = "verdict.json";
/// Longest record, bytes: several times the longest plan, which has to fit into a message.
const MAX_RECORD: u64 = 1 << 20;

/// A worker as it was made, with its limits as they are now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// The machine's run (random(4)): numbers and cgroups of another are nobody's.
    pub(super) boot_id: String,
    pub(super) plan: Box<SandboxPlan>,
    /// Its leaf, relative to each hierarchy's mount.
    pub(super) cgroup: Option<String>,
    pub(super) policy_digest: u64,
    /// The kernel's number of the device program on its v2 leaf.
    pub(super) device_program: Option<u32>,
    /// Its parts of GPUs.
    pub(super) gpus: Vec<Claim>,
    /// GPUs that it serves, for an MPS daemon: it is no holder, and goes before somebody gets them alone.
    pub(super) serves: Vec<DeviceNumber>,
    /// The locks that its init holds, in the order in which it hands them out.
    pub(super) locks: Vec<DeviceNumber>,
    /// And then that of its uid.
    pub(super) uid_locked: bool,
    /// Its init; `None` in the moment between the first record and the second.
    pub(super) init: Option<InitIdentity>,
}

/// A process that no other can be taken for, as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InitIdentity {
    pub(super) pid: i32,
    /// Clock ticks after boot (`/proc/<pid>/stat`, field 22).
    pub(super) start_ticks: u64,
}

impl InitIdentity {
    /// Of a process that can't be reaped meanwhile, or is held by a descriptor.
    pub(super) fn of(pid: i32) -> Result<Self, CallError> {
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        let stat = stat.map_err(|e| CallError::new(format!("read(/proc/{pid}/stat)"), io::Error::other(e.to_string())))?;
        Ok(Self { pid, start_ticks: stat.starttime })
    }
}

impl Record {
    /// Its `memory_max`, bytes; counted against the configured total.
    pub(super) fn memory(&self) -> u64 {
        self.plan.limits.get(&LimitKey::MemoryMax).and_then(|limit| limit.value.count()).unwrap_or(0)
    }

    /// Whether it is an MPS daemon and no worker.
    pub(super) fn is_mps_daemon(&self) -> bool {
        self.plan.mps == Some(MpsPlan::Server)
    }

    /// Whether it outlives its hive.
    pub(super) fn is_kept(&self) -> bool {
        self.plan.on_hive_exit == OnHiveExit::Keep
    }

    /// Writes it into the worker's state directory, whole: a reader sees the one before or this one.
    pub(super) fn write(&self, state: &OwnedFd) -> Result<(), CallError> {
        write_whole(state.as_fd(), NAME, self).map_err(failed(|| format!("write({NAME})")))
    }

    /// Reads it from there.
    ///
    /// Errors: why it is not believed.
    pub(super) fn read(state: BorrowedFd<'_>, id: &str) -> Result<Self, String> {
        let text = own_file(state, NAME)?;
        let Format { version } = parse(NAME, &text)?;
        if version != VERSION {
            return Err(format!("{NAME} has version {version}, and this program reads {VERSION}"));
        }
        let record: Self = parse(NAME, &text)?;
        if record.plan.worker_id.as_str() != id {
            return Err(format!("{NAME} is about the worker {}", record.plan.worker_id));
        }
        Ok(record)
    }
}

/// What an init has written at its worker's end.
#[derive(Debug, Deserialize)]
pub(super) struct VerdictRecord {
    worker_id: String,
    pub(super) verdict: Verdict,
    pub(super) resources: Box<Resources>,
}

impl VerdictRecord {
    /// Errors: why there is none.
    pub(super) fn read(state: BorrowedFd<'_>, id: &str) -> Result<Self, String> {
        let record: Self = parse(VERDICT, &own_file(state, VERDICT)?)?;
        if record.worker_id == id { Ok(record) } else { Err(format!("{VERDICT} is about another worker")) }
    }
}

#[derive(Deserialize)]
struct Format {
    version: u32,
}

fn parse<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|e| format!("{name} can't be read: {e}"))
}

/// The content of a file that is this process's own user's, plain, and of a bearable size.
fn own_file(directory: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, String> {
    let refused = |why: &str| Err(format!("{name} {why}"));
    // Not to wait for who writes into a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return refused("is not there"),
        Err(Errno::LOOP) => return refused("is a link"),
        Err(e) => return Err(format!("{name} can't be opened: {e}")),
    };
    let there = fstat(&file).map_err(|e| format!("{name} can't be looked at: {e}"))?;
    if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
        return refused("is no plain file");
    }
    if there.st_uid != rustix::process::geteuid().as_raw() || there.st_mode & 0o022 != 0 {
        return Err(format!(
            "{name} belongs to uid {} and has mode {:04o}: others may have written it",
            there.st_uid,
            there.st_mode & 0o7777
        ));
    }
    let mut text = Vec::new();
    let read = std::fs::File::from(file).take(MAX_RECORD + 1).read_to_end(&mut text);
    match read {
        Err(e) => Err(format!("{name} can't be read: {e}")),
        Ok(_) if text.len() as u64 > MAX_RECORD => refused("is too long"),
        Ok(0) => refused("is empty"),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    use super::*;

    pub(in super::super) fn record() -> Record {
        Record {
            version: VERSION,
            boot_id: "b".into(),
            plan: Box::new(crate::verify::tests::plan()),
            cgroup: None,
            policy_digest: u64::MAX,
            device_program: Some(3),
            gpus: vec![],
            serves: vec![],
            locks: vec![],
            uid_locked: true,
            init: Some(InitIdentity { pid: 7, start_ticks: 9 }),
        }
    }

    fn open(directory: &Path) -> OwnedFd {
        std::fs::File::open(directory).unwrap().into()
    }

    fn read(directory: &Path) -> Result<Record, String> {
        Record::read(open(directory).as_fd(), "w1")
    }

    #[test]
    fn a_record_is_read_as_it_was_written_also_by_one_who_knows_less() {
        let dir = tempfile::tempdir().unwrap();
        record().write(&open(dir.path())).unwrap();
        assert_eq!(read(dir.path()).unwrap(), record());
        let mut more: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.path().join(NAME)).unwrap()).unwrap();
        more["colour"] = "red".into();
        std::fs::write(dir.path().join(NAME), more.to_string()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), record());
    }

    #[test]
    fn a_record_that_may_not_be_the_launchers_own_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        record().write(&open(dir.path())).unwrap();
        let good = std::fs::read(&path).unwrap();
        let future = String::from_utf8(good.clone()).unwrap().replacen("\"version\": 2", "\"version\": 3", 1);
        let contents: [(&[u8], &str); 6] = [
            (b"", "is empty"),
            (&good[..good.len() / 2], "can't be read"),
            (future.as_bytes(), "has version 3"),
            (b"\xff\xfe", "can't be read"),
            (b"{\"version\": 2}", "can't be read"),
            (&[b' '; (MAX_RECORD + 1) as usize], "is too long"),
        ];
        for (text, why) in contents {
            std::fs::write(&path, text).unwrap();
            let refused = read(dir.path()).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(Record::read(open(dir.path()).as_fd(), "w2").unwrap_err().contains("about the worker w1"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("others may have written it"));
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("is not there"));
        symlink("elsewhere", &path).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("is a link"));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("is no plain file"), "and nobody waits for who writes there");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("is no plain file"));
    }

    #[test]
    fn a_record_of_another_owner_is_not_believed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        record().write(&open(dir.path())).unwrap();
        assert!(read(dir.path()).is_ok());
        chown(dir.path().join(NAME), Some(65534), None).unwrap();
        assert!(read(dir.path()).unwrap_err().contains("belongs to uid 65534"));
    }

    #[test]
    fn a_verdict_is_read_as_an_init_wrote_it_and_that_of_another_worker_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let written = r#"{"version": 1, "worker_id": "w1", "verdict": {"kind": "exited", "code": 3}, "resources": {"memory_peak": 5}}"#;
        std::fs::write(dir.path().join(VERDICT), written).unwrap();
        let read = |id| VerdictRecord::read(open(dir.path()).as_fd(), id);
        let told = read("w1").unwrap();
        assert_eq!((told.verdict, told.resources.memory_peak), (Verdict::Exited { code: 3 }, Some(5)));
        assert!(read("w2").unwrap_err().contains("another worker"));
        std::fs::write(dir.path().join(VERDICT), &written[..40]).unwrap();
        assert!(read("w1").unwrap_err().contains("can't be read"));
    }
}
