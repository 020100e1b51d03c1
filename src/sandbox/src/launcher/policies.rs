//! Policies by name: files first, then the embedded ones. Read anew for each request, so that an edit counts at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rbee_hive_policy::{Policy, embedded};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::audit::clipped;
use super::{LauncherOptions, Purpose, check_path};
use crate::protocol::{LaunchError, LaunchErrorKind, PolicyInfo, PolicyTexts};

/// Largest policy file, bytes.
const MAX_POLICY: u64 = 256 * 1024;

/// The directories of policies, kept open.
pub(super) struct Policies {
    directories: Vec<(PathBuf, OwnedFd)>,
    /// `run --policy FILE`.
    single: Option<PathBuf>,
    /// Whether files must be root's.
    strict: bool,
}

/// A policy as it was read.
pub(super) struct Loaded {
    pub(super) texts: PolicyTexts,
    pub(super) policy: Policy,
}

impl Policies {
    pub(super) fn open(options: &LauncherOptions) -> Result<Self, LaunchError> {
        let strict = nix::unistd::geteuid().is_root() && options.purpose == Purpose::Serve;
        let invalid = |path: &Path, why: String| {
            LaunchError::new(LaunchErrorKind::InvalidPolicy, format!("policy directory {} can't be used: {why}", path.display()))
                .with_hint("it and everything above it must be root's and writable by nobody else")
        };
        let mut directories = Vec::new();
        // What belongs to the one file of a foreground command lies beside it, as `policy check` has it.
        let beside = options.policy_file.as_deref().and_then(Path::parent).map(Path::to_owned);
        for path in beside.iter().chain(&options.policies) {
            if strict {
                check_path(path, &[]).map_err(|e| invalid(path, super::serve::error_chain(&e)))?;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| invalid(path, std::io::Error::from(e).to_string()))?;
            directories.push((path.clone(), fd));
        }
        Ok(Self { directories, single: options.policy_file.clone(), strict })
    }

    /// Reads and checks the policy `name`.
    pub(super) fn load(&self, name: &str) -> Result<Loaded, LaunchError> {
        let (source, text) = self.text(name)?;
        let fragments = RefCell::new(BTreeMap::new());
        let fragment = |name: &str| {
            let text = self.fragment(name)?;
            fragments.borrow_mut().insert(name.to_owned(), text.clone());
            Some(text)
        };
        let policy =
            Policy::parse(name, &source, &text, &fragment).map_err(|e| LaunchError::new(LaunchErrorKind::InvalidPolicy, e.to_string()))?;
        Ok(Loaded { texts: PolicyTexts { name: name.to_owned(), source, text, fragments: fragments.into_inner() }, policy })
    }

    /// All policies; one that can't be used says why.
    pub(super) fn list(&self) -> Vec<PolicyInfo> {
        let mut names: BTreeSet<String> = embedded::names().map(str::to_owned).collect();
        for (path, _) in &self.directories {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten().take(1000) {
                let file = PathBuf::from(entry.file_name());
                if file.extension().is_some_and(|e| e == "toml") {
                    names.extend(file.file_stem().map(|s| s.to_string_lossy().into_owned()));
                }
            }
        }
        names.into_iter().map(|name| self.info(name)).collect()
    }

    fn info(&self, name: String) -> PolicyInfo {
        match self.load(&name) {
            Ok(loaded) => PolicyInfo { description: loaded.policy.description.clone(), source: loaded.texts.source, name, error: None },
            Err(e) => PolicyInfo { name, description: String::new(), source: String::new(), error: Some(e.message) },
        }
    }

    fn text(&self, name: &str) -> Result<(String, String), LaunchError> {
        if let Some(path) = &self.single {
            let text = read_limited(File::open(path)).map_err(|e| unreadable(path, &e))?;
            return Ok((path.display().to_string(), text));
        }
        if valid_name(name) {
            if let Some(found) = self.file(&format!("{name}.toml"))? {
                return Ok(found);
            }
            if let Some(text) = embedded::policy(name) {
                return Ok(("embedded".into(), text.into()));
            }
        }
        let known: Vec<String> = self.list_names();
        let name = clipped(name, 64);
        Err(LaunchError::new(LaunchErrorKind::UnknownPolicy, format!("there is no policy {name:?}; there are {}", known.join(", "))))
    }

    fn list_names(&self) -> Vec<String> {
        let files = self.directories.iter().flat_map(|(path, _)| std::fs::read_dir(path).into_iter().flatten().flatten().take(1000));
        let stems = files.filter_map(|e| e.file_name().to_str().and_then(|n| n.strip_suffix(".toml")).map(str::to_owned));
        stems.chain(embedded::names().map(str::to_owned)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn fragment(&self, name: &str) -> Option<String> {
        let parts: Vec<&str> = name.split('/').collect();
        if !parts.iter().all(|p| valid_name(p)) {
            return None;
        }
        match self.file(&format!("{name}.toml")) {
            Ok(Some((_, text))) => Some(text),
            _ => embedded::fragment(name).map(str::to_owned),
        }
    }

    /// Opened beneath the kept directory, no link followed (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
    fn file(&self, name: &str) -> Result<Option<(String, String)>, LaunchError> {
        for (path, directory) in &self.directories {
            let shown = path.join(name);
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let file = match openat2(directory, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), resolve) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(unreadable(&shown, &e.into())),
            };
            let there = file.metadata().map_err(|e| unreadable(&shown, &e))?;
            if self.strict && (there.uid() != 0 || there.mode() & 0o022 != 0) {
                let text = format!("{}: the file must be root's and writable by nobody else", shown.display());
                return Err(LaunchError::new(LaunchErrorKind::InvalidPolicy, text).with_hint("chown root and chmod go-w"));
            }
            let text = read_limited(Ok(file)).map_err(|e| unreadable(&shown, &e))?;
            return Ok(Some((shown.display().to_string(), text)));
        }
        Ok(None)
    }
}

fn valid_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}

fn unreadable(path: &Path, why: &std::io::Error) -> LaunchError {
    LaunchError::new(LaunchErrorKind::InvalidPolicy, format!("{}: can't be read: {why}", path.display()))
}

fn read_limited(file: std::io::Result<File>) -> std::io::Result<String> {
    let mut text = String::new();
    file?.take(MAX_POLICY + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_POLICY {
        return Err(std::io::Error::other("longer than 256 KiB"));
    }
    Ok(text)
}

/// What a policy asks of the environment: the variables that it passes on from the launcher's own.
pub(super) fn passed(names: &[String]) -> BTreeMap<String, String> {
    names.iter().filter_map(|n| std::env::var(n).ok().map(|v| (n.clone(), v))).collect()
}
