//! From a watched command to two files: a policy and its seccomp profile.
//!
//! Owns when there is a proposal at all, and where it is written. Must never know how a command is watched, or what a policy is made of it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rbee_hive_policy::learn::{Proposal, Watched, propose};
use rbee_hive_policy::{Policy, embedded};
use rbee_hive_sandbox::Verdict;

use crate::args::RunArgs;
use crate::launch::{Watching, run_foreground};

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The policy.
    pub(crate) policy: PathBuf,
    /// Its profile.
    pub(crate) profile: PathBuf,
    /// How many system calls it allows.
    pub(crate) calls: usize,
    /// How many paths it shows.
    pub(crate) paths: usize,
    /// How the command ended.
    pub(crate) end: String,
}

/// The two files of a proposal.
struct Files {
    name: String,
    policy: PathBuf,
    profile: PathBuf,
}

/// Runs the command of `args` for at most `time` (and its policy's grace), with its `port` in reach, and writes what it needs.
pub(crate) fn learn(args: &RunArgs, output: &Path, (time, port): (Duration, Option<u16>)) -> anyhow::Result<Written> {
    let files = Files::at(output)?;
    let outcome = run_foreground(args, Watching::For { time, port })?;
    let end = end(&outcome.verdict, time)?;
    let mut watched = outcome.watched.context("the launcher has not told the plan that the command ran under")?;
    // Of what it did not find, only that is of interest which another base could show.
    watched.seen.missing.retain(|path| path.symlink_metadata().is_ok());
    let command: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let proposal = propose(&Watched {
        name: &files.name,
        command: &command,
        plan: &watched.plan,
        seen: &watched.seen,
        memory_peak: watched.memory_peak,
        end: &end,
    })?;
    check(&files, &proposal)?;
    files.write(&proposal)?;
    Ok(Written { policy: files.policy, profile: files.profile, calls: proposal.calls, paths: proposal.paths, end })
}

/// How it ended, where that is an end that can be learned from.
fn end(verdict: &Verdict, time: Duration) -> anyhow::Result<String> {
    match verdict {
        Verdict::Exited { .. } | Verdict::Signaled { .. } => Ok(verdict.sentence()),
        Verdict::Stopped { .. } => Ok(format!("{}, after {} s of learning", verdict.sentence(), time.as_secs_f64())),
        Verdict::SeccompKilled { .. } => {
            bail!(
                "{}: the base policy does not allow it, and nothing beyond the base is proposed; learn with one that does",
                verdict.sentence()
            )
        }
        Verdict::OomKilled { .. } => bail!("{}: learn with a base policy that allows more memory", verdict.sentence()),
        _ => bail!("{}", verdict.sentence()),
    }
}

/// What is written must be what a launcher takes.
fn check(files: &Files, proposal: &Proposal) -> anyhow::Result<()> {
    let profile = format!("seccomp/{}", files.name);
    let text = |name: &str| if name == profile { Some(proposal.profile.clone()) } else { embedded::fragment(name).map(str::to_owned) };
    Policy::parse(&files.name, &files.policy.display().to_string(), &proposal.policy, &text).context("check the proposal")?;
    Ok(())
}

impl Files {
    /// Errors: a name that no profile can have, a file that is there already.
    fn at(output: &Path) -> anyhow::Result<Self> {
        let name = output.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let plain = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let toml = output.extension().is_some_and(|e| e == "toml");
        ensure!(plain && toml, "{output:?}: the file is NAME.toml, of letters, digits, - and _: the profile gets the same name");
        let files = Self { policy: output.to_owned(), profile: output.with_file_name("seccomp").join(format!("{name}.toml")), name };
        ensure!(files.name != "none", "{output:?}: \"none\" is no name for a seccomp profile");
        for path in [&files.policy, &files.profile] {
            ensure!(path.symlink_metadata().is_err(), "{path:?} is there already: take it away, or give another --output");
        }
        Ok(files)
    }

    /// Both or none.
    fn write(&self, proposal: &Proposal) -> anyhow::Result<()> {
        let directory = self.profile.parent().unwrap_or(Path::new("."));
        let made = !directory.exists();
        std::fs::create_dir_all(directory).with_context(|| format!("make the directory {directory:?}"))?;
        let undo = |written: &[&Path]| {
            for path in written {
                let _ = std::fs::remove_file(path);
            }
            if made {
                let _ = std::fs::remove_dir(directory);
            }
        };
        write(&self.profile, &proposal.profile).inspect_err(|_| undo(&[]))?;
        write(&self.policy, &proposal.policy).inspect_err(|_| undo(&[&self.profile]))
    }
}

/// A new file: what somebody has written by hand meanwhile is not lost.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("write {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_name_is_its_profiles_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Files::at(&dir.path().join(name));
        let files = at("mine-1.toml").unwrap();
        assert_eq!((files.name.as_str(), files.profile), ("mine-1", dir.path().join("seccomp/mine-1.toml")));
        for bad in ["mine", "mine.txt", "a b.toml", ".toml", "none.toml", "ä.toml"] {
            assert!(at(bad).is_err(), "{bad}");
        }
        std::fs::create_dir(dir.path().join("seccomp")).unwrap();
        std::fs::write(dir.path().join("seccomp/mine-1.toml"), "").unwrap();
        assert!(at("mine-1.toml").is_err_and(|e| e.to_string().contains("there already")));
    }

    #[test]
    fn both_files_are_written_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(&dir.path().join("mine.toml")).unwrap();
        std::fs::write(&files.policy, "by hand").unwrap();
        let proposal = Proposal { policy: "p".into(), profile: "s".into(), calls: 0, paths: 0 };
        assert!(files.write(&proposal).is_err());
        assert_eq!(std::fs::read_to_string(&files.policy).unwrap(), "by hand");
        assert!(!files.profile.exists() && !dir.path().join("seccomp").exists());
        std::fs::remove_file(&files.policy).unwrap();
        files.write(&proposal).unwrap();
        assert!(files.policy.exists() && files.profile.exists());
    }

    #[test]
    fn only_an_end_that_shows_what_is_needed_is_learned_from() {
        let time = Duration::from_secs(3);
        assert!(end(&Verdict::Exited { code: 3 }, time).is_ok_and(|e| e.contains('3')));
        let killed = Verdict::SeccompKilled { syscall: Some("bpf".into()), number: None, args: None };
        assert!(end(&killed, time).is_err_and(|e| e.to_string().contains("base policy")));
        assert!(end(&Verdict::Lost { why: "x".into() }, time).is_err());
    }
}
