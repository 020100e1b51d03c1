//! What the hostile worker reported, and what the same attempts give where there is no sandbox.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use test_support::hive_binary;

use crate::bait::Bait;

/// Answers by which a kernel refuses without having looked at the rest.
const REFUSALS: [&str; 5] = ["EPERM", "EACCES", "EROFS", "ENOSYS", "empty"];

/// The program.
pub(crate) fn hostile() -> PathBuf {
    hive_binary().with_file_name("hostile-worker")
}

/// Attempts in their order, each with its outcome and what was said of it.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, String, String)>);

impl Report {
    /// Lines that are no report are somebody else's words.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(|l| l.split('\t').collect::<Vec<_>>()).filter(|l| l.len() == 3);
        Self(lines.map(|l| (l[0].into(), l[1].into(), l[2].into())).collect())
    }

    /// Each attempt that may be made here without a sandbox, in a process and mount, UTS and pid namespaces of its own.
    pub(crate) fn outside(bait: &Bait) -> Self {
        let thrown_away = std::env::var("RBEE_TEST_THROW_AWAY").is_ok_and(|v| v == "1");
        let mut names = Self::list("harmless");
        if thrown_away {
            names.extend(Self::list("harmful").into_iter().chain(Self::list("deadly")));
        }
        let mut text = String::new();
        for name in names {
            let mut command = Command::new("sh");
            // With a descriptor left open, to be found.
            command.args(["-c", "exec \"$@\" 7</etc/passwd", "sh", "timeout", "--kill-after=1", "20", "unshare", "--mount", "--uts"]);
            command.arg(hostile()).args(["outside", &name]);
            let output = command.args(bait.words()).output().expect("start it");
            text.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        Self::parse(&text)
    }

    /// The names of one kind.
    pub(crate) fn list(kind: &str) -> Vec<String> {
        let output = Command::new(hostile()).arg("list").output().expect("start it");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|l| l.split_once('\t')).filter(|(_, k)| *k == kind).map(|(n, _)| n.to_owned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The attempts that worked.
    pub(crate) fn holes(&self) -> Vec<String> {
        self.0.iter().filter(|(_, outcome, _)| outcome == "DONE").map(|(name, _, what)| format!("{name} {what}")).collect()
    }

    /// How many attempts are refused here that get further outside.
    pub(crate) fn proven(&self, outside: &Self) -> usize {
        let outside = outside.by_name();
        self.0.iter().filter(|line| is_proven(line, outside.get(line.0.as_str()).copied())).count()
    }

    /// For people: name, outside, inside.
    pub(crate) fn table(&self, outside: &Self) -> String {
        let outside = outside.by_name();
        let mut text = format!("{:<52} {:<16} {:<16}\n", "attempt", "outside", "inside");
        for line in &self.0 {
            let there = outside.get(line.0.as_str()).copied();
            let said = there.map_or("-", |t| if t.1 == "DONE" { "works" } else { t.2.as_str() });
            let proven = if is_proven(line, there) { "" } else { "  (no proof here)" };
            let _ = writeln!(text, "{:<52} {said:<16} {:<16}{proven}", line.0, if line.1 == "DONE" { "WORKS" } else { &line.2 });
        }
        text
    }

    fn by_name(&self) -> BTreeMap<&str, &(String, String, String)> {
        self.0.iter().map(|line| (line.0.as_str(), line)).collect()
    }
}

/// It works outside; or the kernel looked at it there, and gave another answer than in here.
fn is_proven(inside: &(String, String, String), outside: Option<&(String, String, String)>) -> bool {
    let Some(outside) = outside else { return false };
    let further = outside.1 == "refused" && outside.2 != inside.2 && !REFUSALS.contains(&outside.2.as_str());
    inside.1 == "refused" && (outside.1 == "DONE" || further)
}
