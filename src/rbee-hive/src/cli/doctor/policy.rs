//! `doctor --policy`: what of one policy this host enforces.
//!
//! ```text
//!  a NAME, and a hive answers ──► policy_doctor ─────────────────────────────┐
//!  else a launcher of its own, with this user's rights, as for `run` ────────┴──► table or JSON
//! ```
//! Nothing is judged here: a launcher finds out what it would do, by the code that does it. Its own launcher makes a cgroup for the time
//! of the question, and takes it back.

use rbee_hive_api::PolicyJudgement;
use serde_json::{Value, json};

use super::super::commands::read;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::render;
use super::DoctorArgs;
use crate::launch::{is_file, judge_policy};

/// Judges `policy`, a name or a file. That a worker would be refused is no failure of this command.
pub(super) async fn judge(args: &DoctorArgs, policy: &str, output: &mut Output<'_>) -> Result<(), CliError> {
    // What a hive reads and where it looks is its own matter: with options of one's own, it is not asked.
    let by_hive = !is_file(policy) && args.places.is_empty();
    let client = if by_hive { args.asking.connect.client_if_any().await? } else { None };
    let (by, mut answer) = match client {
        Some(client) => ("the hive's launcher", client.call("policy_doctor", json!({"name": policy})).await?),
        None => ("a launcher of its own", own(args, policy)?),
    };
    if args.asking.json {
        answer["judged_by"] = json!(if by_hive && by.starts_with("the hive") { "hive" } else { "own_launcher" });
        return output.json(&answer);
    }
    let judgement: PolicyJudgement = read("policy_doctor", answer)?;
    output.text(&render::judgement(&judgement, by))
}

fn own(args: &DoctorArgs, policy: &str) -> Result<Value, CliError> {
    let judgement = judge_policy(policy, &args.places).map_err(|error| CliError::Judge(error.into()))?;
    serde_json::to_value(judgement).map_err(|source| CliError::Answer { method: "policy_doctor", source })
}
