//! `hive/leases.json`: what of leases and GPUs outlives a restart, written whole. The hive's own file; the launcher never reads it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rbee_hive_devices::{Known, MAX_EXTERNAL, OutOfUse, Share};
use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::{Deserialize, Serialize};

use crate::channel::lock;

const NAME: &str = "leases.json";
const NEW: &str = ".leases.json.new";
const VERSION: u32 = 1;
/// More than [`MAX_EXTERNAL`] leases of 64 GPUs with long names take.
const MAX_BYTES: u64 = 16 << 20;

/// A lease on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) lease_id: String,
    pub(super) holder: String,
    /// UUIDs, or `GPU-<index>` of one that has none.
    pub(super) gpus: Vec<String>,
    pub(super) share: Share,
    pub(super) expires: Option<SystemTime>,
    /// The worker that runs on it, or ran and whose memory is awaited.
    #[serde(default)]
    pub(super) used_by: Option<String>,
}

/// A lease that ends with the hive, and whose GPUs are free when their memory is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) lease_id: String,
    /// Whether the holder is no worker.
    pub(super) external: bool,
    pub(super) holder: String,
    /// The worker that has had it.
    pub(super) worker: Option<String>,
    pub(super) gpus: Vec<String>,
    pub(super) share: Share,
}

/// A GPU beside its leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfGpu {
    pub(super) out_of_use: Option<OutOfUse>,
    #[serde(flatten)]
    pub(super) known: Known,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The highest number that was given.
    pub(super) given: u64,
    /// External leases.
    pub(super) leases: Vec<Kept>,
    #[serde(default)]
    pub(super) open: Vec<Open>,
    /// By UUID, or `GPU-<index>`.
    #[serde(default)]
    pub(super) gpus: BTreeMap<String, OfGpu>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Nothing of it outlives the machine's run: holders end, and GPUs begin anew.
    boot_id: String,
    #[serde(flatten)]
    state: State,
}

/// The file in the hive's own directory.
#[derive(Debug)]
pub(super) struct Record {
    directory: Arc<OwnedFd>,
    /// One writer at a time, or an older list would end over a newer one.
    writing: Mutex<()>,
}

impl Record {
    pub(super) fn new(directory: Arc<OwnedFd>) -> Self {
        Self { directory, writing: Mutex::new(()) }
    }

    /// Writes what `content` says once it is this writer's turn.
    pub(super) fn write(&self, content: impl FnOnce() -> State) -> io::Result<()> {
        let _turn = lock(&self.writing);
        let state = content();
        let text = serde_json::to_vec(&Content { version: VERSION, boot_id: boot_id()?, state })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, NEW, flags, Mode::from_raw_mode(0o600))?;
        std::fs::File::from(file).write_all(&text)?;
        Ok(renameat(&self.directory, NEW, &self.directory, NAME)?)
    }

    /// What was written; nothing where there is no file, and the numbers alone where the machine was started since.
    pub(super) fn read(&self) -> io::Result<State> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.directory, NAME, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(State::default()),
            opened => opened?,
        };
        let mut text = Vec::new();
        std::fs::File::from(file).take(MAX_BYTES).read_to_end(&mut text)?;
        let Content { version, boot_id: written, state } = serde_json::from_slice(&text)?;
        if version != VERSION || state.leases.len() > MAX_EXTERNAL {
            return Err(io::Error::other(format!("version {version} with {} leases is not understood", state.leases.len())));
        }
        Ok(if written == boot_id()? { state } else { State { given: state.given, ..State::default() } })
    }
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (tempfile::TempDir, Record) {
        let directory = tempfile::tempdir().unwrap();
        let opened = std::fs::File::open(directory.path()).unwrap();
        (directory, Record::new(Arc::new(opened.into())))
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_is_there_at_first() {
        let (directory, record) = record();
        assert_eq!(record.read().unwrap(), State::default());
        let expires = Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_800_000_000_123));
        let kept = Kept {
            lease_id: "lease:3".into(),
            holder: "e".into(),
            gpus: vec!["GPU-a".into()],
            share: Share::Ways(2),
            expires,
            used_by: None,
        };
        let open = Open {
            lease_id: "lease:4".into(),
            external: false,
            holder: "w".into(),
            worker: Some("w".into()),
            gpus: vec!["GPU-a".into()],
            share: Share::Exclusive,
        };
        let known = Known { idle: Some(3), former: [("w".to_owned(), [7].into())].into(), ..Known::default() };
        let gpus = [("GPU-a".to_owned(), OfGpu { out_of_use: Some(OutOfUse { why: "x".into(), leaked: true }), known })].into();
        let state = State { given: 7, leases: vec![kept], open: vec![open], gpus };
        record.write(|| state.clone()).unwrap();
        assert_eq!(record.read().unwrap(), state);
        assert!(!directory.path().join(NEW).exists());
    }

    #[test]
    fn leases_of_another_run_of_the_machine_are_gone_and_their_numbers_are_not_given_again() {
        let (directory, record) = record();
        let kept =
            Kept { lease_id: "lease:3".into(), holder: "e".into(), gpus: vec![], share: Share::Exclusive, expires: None, used_by: None };
        record.write(|| State { given: 7, leases: vec![kept], ..State::default() }).unwrap();
        let path = directory.path().join(NAME);
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace(&boot_id().unwrap(), "another")).unwrap();
        assert_eq!(record.read().unwrap(), State { given: 7, ..State::default() });
    }

    #[test]
    fn what_an_older_hive_has_written_is_read() {
        let (directory, record) = record();
        let text = format!(
            "{{\"version\":1,\"boot_id\":\"{}\",\"given\":3,\"leases\":[{{\"lease_id\":\"lease:3\",\"holder\":\"e\",\"gpus\":[],\"share\":\"exclusive\",\"expires\":null}}]}}",
            boot_id().unwrap()
        );
        std::fs::write(directory.path().join(NAME), text).unwrap();
        assert_eq!(record.read().unwrap().leases[0].lease_id, "lease:3");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_an_error() {
        let (directory, record) = record();
        for text in ["", "{}", "{\"version\":2,\"boot_id\":\"x\",\"given\":1,\"leases\":[]}"] {
            std::fs::write(directory.path().join(NAME), text).unwrap();
            assert!(record.read().is_err(), "{text}");
        }
        std::fs::remove_file(directory.path().join(NAME)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join(NAME)).unwrap();
        assert!(record.read().is_err(), "a link is not followed");
    }
}
