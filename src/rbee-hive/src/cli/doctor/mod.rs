//! `doctor`: what this host can enforce, feature by feature, and what to do about what it cannot.
//!
//! ```text
//!  facts (reads the host) ──► judge (pure) ──► findings ──► table or JSON
//!  hive_info, where a hive answers ──────────►
//! ```
//! A hive's word counts more: its launcher has tried what is only read off here. Must never change anything on the host, but for what
//! `--policy` makes and takes back (`policy`).

mod cgroups;
mod facts;
mod finding;
mod judge;
mod kernel;
mod policy;
mod process;

use clap::Args;
use rbee_hive_api::HiveInfo;
use serde_json::json;

use super::commands::{Asking, read};
use super::error::CliError;
use super::output::{Align, Output, clean, table};
use crate::args::PlaceArgs;
use facts::HostTexts;
use finding::{Finding, State};

/// Options of `doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What of this policy the host enforces, setting by setting, and whether a worker under it would be started
    #[arg(long, value_name = "NAME|FILE")]
    policy: Option<String>,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten, next_help_heading = "With --policy, without a hive")]
    places: PlaceArgs,
}

/// Shows the findings. Something missing is no failure of this command: its exit status stays 0.
pub(crate) async fn run(args: &DoctorArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    match &args.policy {
        Some(policy) => return policy::judge(args, policy, output).await,
        None if !args.places.is_empty() => return Err(CliError::Usage("these options go with --policy".into())),
        None => {}
    }
    let hive = match args.asking.connect.client_if_any().await? {
        Some(client) => Some(read::<HiveInfo>("hive_info", client.call("hive_info", serde_json::Value::Null).await?)?),
        None => None,
    };
    let texts = HostTexts::read();
    let findings = merge(hive.as_ref(), judge::judge(&texts));
    if args.asking.json {
        let told_by = hive.as_ref().map(|info| json!({"version": info.version, "pid": info.pid, "cgroup": info.cgroup}));
        return output.json(&json!({"kernel": texts.kernel, "hive": told_by, "features": findings}));
    }
    output.text(&render(&texts, hive.as_ref(), &findings))
}

/// The hive's findings, then those about which it says nothing. What is true of the caller only would mislead there.
fn merge(hive: Option<&HiveInfo>, own: Vec<Finding>) -> Vec<Finding> {
    let Some(info) = hive else { return own };
    let told = info.host.iter().map(|(name, feature)| {
        let state = if feature.supported { State::Ok } else { State::Missing };
        Finding::new(name, state, feature.why.clone().unwrap_or_default())
    });
    let more = own.into_iter().filter(|f| !info.host.contains_key(&f.feature) && !f.about_caller);
    told.chain(more).collect()
}

fn render(texts: &HostTexts, hive: Option<&HiveInfo>, findings: &[Finding]) -> String {
    let head = match hive {
        Some(info) => {
            let notes: String = info.cgroup.notes.iter().map(|note| format!("  {}\n", clean(note))).collect();
            let root = clean(info.cgroup.root.as_deref().unwrap_or("none"));
            format!(
                "kernel {}, hive {} with cgroups {} at {root}\n{notes}",
                clean(texts.kernel.trim()),
                clean(&info.version),
                clean(&info.cgroup.mode)
            )
        }
        None => format!("kernel {}, no hive answers: read off the host\n", clean(texts.kernel.trim())),
    };
    let rows = findings.iter().map(|f| vec![clean(&f.feature), f.state.word().to_owned(), clean(&f.detail)]).collect();
    let columns = [("feature", Align::Left), ("state", Align::Left), ("detail", Align::Left)];
    let todo: String =
        remedies(findings).iter().map(|(names, remedy)| format!("  {}: {}\n", clean(&names.join(", ")), clean(remedy))).collect();
    let todo = if todo.is_empty() { todo } else { format!("\nWhat to do\n{todo}") };
    format!("{head}\n{}{todo}", table(&columns, rows, 0))
}

/// Each remedy once, with the features that it is for.
fn remedies(findings: &[Finding]) -> Vec<(Vec<&str>, &str)> {
    let mut found: Vec<(Vec<&str>, &str)> = vec![];
    for finding in findings {
        let Some(remedy) = finding.remedy.as_deref() else { continue };
        match found.iter_mut().find(|(_, known)| *known == remedy) {
            Some((names, _)) => names.push(&finding.feature),
            None => found.push((vec![&finding.feature], remedy)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> HiveInfo {
        serde_json::from_value(json!({
            "version": "9.9", "pid": 1, "cgroup": {"mode": "hybrid", "root": "/r", "notes": ["a note"]}, "workers": 0, "draining": false,
            "host": {"seccomp": {"supported": false, "why": "not built in"}}
        }))
        .unwrap()
    }

    #[test]
    fn the_hives_word_counts_more_and_the_callers_own_rights_do_not() {
        let own = vec![
            Finding::new("seccomp", State::Ok, "kernel has it"),
            Finding::new("swap", State::Ok, "none"),
            Finding::new("capabilities", State::Missing, "you are nobody").about_caller(),
        ];
        let merged = merge(Some(&info()), own);
        let seen: Vec<_> = merged.iter().map(|f| (f.feature.as_str(), f.state)).collect();
        assert_eq!(seen, [("seccomp", State::Missing), ("swap", State::Ok)]);
    }

    #[test]
    fn what_can_be_done_stands_below_the_table() {
        let findings = [Finding::new("swap", State::Missing, "not counted").with_remedy("boot with swapaccount=1")];
        let texts = HostTexts { kernel: "6.1.0\n".into(), ..HostTexts::default() };
        let text = render(&texts, None, &findings);
        assert!(text.starts_with("kernel 6.1.0, no hive answers") && text.contains("missing"), "{text}");
        assert!(text.ends_with("\nWhat to do\n  swap: boot with swapaccount=1\n"), "{text}");
        assert!(render(&texts, Some(&info()), &[]).contains("hive 9.9 with cgroups hybrid at /r\n  a note\n"));
    }

    #[test]
    fn a_remedy_for_several_features_is_told_once() {
        let with = |name| Finding::new(name, State::Missing, "").with_remedy("boot v2");
        assert_eq!(remedies(&[with("a"), with("b"), Finding::new("c", State::Ok, "")]), [(vec!["a", "b"], "boot v2")]);
    }

    #[test]
    fn this_host_can_be_read() {
        let findings = judge::judge(&HostTexts::read());
        for feature in ["kernel", "cgroups", "namespaces", "seccomp", "landlock", "capabilities", "memory_max"] {
            assert!(findings.iter().any(|f| f.feature == feature), "{feature} is not judged");
        }
    }
}
