//! Several ways to run a script, from none at all to our own: what the facts are asked of.
//!
//! Owns: making each sandbox as its own users would, as strict as it claims to be. Must never know: the facts.

mod bubblewrap;
mod crun;

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Sandboxed;

/// Limits that every sandbox is given which takes any.
const PIDS_MAX: u64 = 40;
const MEMORY_MAX: u64 = 96 << 20;

/// A group that the caller has beside its own.
pub(crate) const SUPPLEMENTARY_GROUP: u32 = 4;
/// The user nobody.
const NOBODY: u32 = 65534;

/// What no ordinary user can prevent: limits without a cgroup of one's own, and groups that are kept. A worker's `not_in_force` lists them.
pub const BEYOND_AN_ORDINARY_USER: [&str; 3] =
    ["have more processes than the limit", "have more memory than the limit", "read what only a supplementary group may"];

/// Who runs the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// A shell of the caller's: what shows that an act works at all.
    Outside,
    /// `rbee-hive run`.
    RbeeHive,
    /// `rbee-hive run` as the user nobody.
    RbeeHiveNobody,
    /// `bwrap`.
    Bubblewrap,
    /// `crun run`.
    Crun,
}

impl Runner {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::RbeeHive => "rbee-hive",
            Self::RbeeHiveNobody => "rbee-hive (user)",
            Self::Bubblewrap => "bubblewrap",
            Self::Crun => "crun",
        }
    }

    /// What it lacks on this machine.
    pub fn missing(self) -> Option<&'static str> {
        let (program, package) = match self {
            Self::Bubblewrap => ("bwrap", "bubblewrap"),
            Self::Crun => ("crun", "crun"),
            _ => return None,
        };
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err().then_some(package)
    }

    /// Runs `script` with /bin/sh; gives what it printed. `shared` is a directory of the host's that it may write.
    ///
    /// # Panics
    /// When it cannot even be started.
    pub fn run(self, script: &str, shared: &Path) -> String {
        let scratch = tempfile::Builder::new().prefix("rbee-hive-runner-").tempdir().expect("a directory");
        let command = match self {
            // Mounts that an act makes are its own and not the machine's.
            Self::Outside => words("unshare", &["--mount", "--uts", "/bin/sh", "-c", script]),
            Self::RbeeHive => return ours(script, shared, None),
            Self::RbeeHiveNobody => return ours(script, shared, Some(NOBODY)),
            Self::Bubblewrap => bubblewrap::command(script, shared),
            Self::Crun => crun::command(script, shared, scratch.path()),
        };
        finish(careless(command))
    }
}

/// `rbee-hive run`, by root or by another user.
fn ours(script: &str, shared: &Path, user: Option<u32>) -> String {
    let text = format!(
        "[worker]\nbinary = \"unused\"\n[filesystem]\nread_write = [\"{}\"]\n[limits]\n\
         pids_max = {{ value = {PIDS_MAX}, enforce = \"if_available\" }}\n\
         memory_max = {{ value = \"{MEMORY_MAX}B\", enforce = \"if_available\" }}\n",
        shared.display()
    );
    let sandboxed = Sandboxed::with_policy(&text);
    let Some(uid) = user else { return finish(careless(sandboxed.command(&["/bin/sh", "-c", script]))) };
    let sandboxed = sandboxed.owned_by(uid);
    let run = sandboxed.command(&["/bin/sh", "-c", script]);
    let uid = uid.to_string();
    let mut command = words("setpriv", &["--reuid", &uid, "--regid", &uid, "--keep-groups", "--"]);
    command.arg(run.get_program()).args(run.get_args());
    finish(careless(command))
}

/// A caller who leaves a descriptor open, ignores a signal, has a supplementary group and a variable that are nobody else's business.
fn careless(command: Command) -> Command {
    let mut shell = Command::new("setpriv");
    let groups = format!("0,{SUPPLEMENTARY_GROUP}");
    shell.args(["--groups", &groups, "--", "/bin/sh", "-c", "trap '' USR1; exec \"$@\" 9</etc/passwd", "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).env("LEAK", "leaked");
    shell
}

fn finish(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("start it");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("FACT") {
        text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    text
}

fn words(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}
