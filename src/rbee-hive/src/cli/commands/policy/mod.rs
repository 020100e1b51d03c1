//! `policy list|show|check|explain|score`: by the hive where one answers, else with what is built in; a FILE is always this program's to read.

mod local;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rbee_hive_api::{ClientError, PolicyCheck, PolicyExplanation, PolicyInfo, PolicyScore, PolicyText};
use serde_json::{Value, json};

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::{Output, Screen, clean_line, remark};
use crate::cli::render;
use crate::launch::is_file;

/// What can be done with policies.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List policies
    List(ListArgs),
    /// Print a policy as it is written; with --json also as it is resolved
    Show(ShowArgs),
    /// Check a policy file: typing mistakes, contradictions, entries without effect
    Check(CheckArgs),
    /// Show where each setting of a policy is from: file and line, or default
    Explain(NamedArgs),
    /// Score how open a policy leaves its workers, from 0.0 (tight) to 10.0 (open)
    Score(NamedArgs),
    /// Watch a command and propose the smallest policy under which it does the same
    Learn(Box<super::LearnArgs>),
}

/// Options of `policy list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Options of `policy show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of the policy, or a policy file
    #[arg(value_name = "NAME|FILE")]
    policy: String,
    /// Every setting with its value, what is included and the defaults filled in, and the score
    #[arg(long)]
    resolved: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Options of `policy check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file
    file: PathBuf,
    /// Warnings fail the check, too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Options of `policy explain` and `policy score`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NamedArgs {
    /// Name of the policy, or a policy file
    #[arg(value_name = "NAME|FILE")]
    policy: String,
    #[command(flatten)]
    asking: Asking,
}

/// Carries one out.
pub(crate) async fn policy(command: &PolicyCommand, output: &mut Output<'_>) -> Result<(), CliError> {
    match command {
        PolicyCommand::List(args) => list(args, output).await,
        PolicyCommand::Show(args) if args.resolved => resolved(args, output).await,
        PolicyCommand::Show(args) => show(args, output).await,
        PolicyCommand::Check(args) => check(args, output).await,
        PolicyCommand::Explain(args) => explain(args, output).await,
        PolicyCommand::Score(args) => score(args, output).await,
        PolicyCommand::Learn(args) => super::learn(args),
    }
}

async fn list(args: &ListArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = match args.asking.connect.client_if_any().await? {
        Some(client) => client.call("policy_list", Value::Null).await?,
        None => {
            remark("no hive answers: these are the built-in policies");
            local::built_in_list()
        }
    };
    args.asking.print(("policy_list", answer), output, |list: &Vec<PolicyInfo>| render::policies(list))
}

/// The answer of a hive's `method`, or what `local` makes of a file or of a built-in policy.
async fn ask(
    (asking, method, policy): (&Asking, &'static str, &str),
    local: impl FnOnce(local::Read) -> Result<Value, CliError>,
) -> Result<Value, CliError> {
    if is_file(policy) {
        return local(local::file(Path::new(policy))?);
    }
    match asking.connect.client_if_any().await? {
        Some(client) => Ok(client.call(method, json!({"name": policy})).await?),
        None => local(local::built_in(policy)?),
    }
}

async fn show(args: &ShowArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = ask((&args.asking, "policy_show", &args.policy), |read| read.shown()).await?;
    let screen = output.screen();
    args.asking.print(("policy_show", answer), output, |policy: &PolicyText| match screen {
        Screen::Terminal => policy.text.lines().map(|line| format!("{}\n", clean_line(line))).collect(),
        Screen::Pipe => policy.text.clone(),
    })
}

async fn resolved(args: &ShowArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = ask((&args.asking, "policy_explain", &args.policy), |read| read.explained()).await?;
    args.asking.print(("policy_explain", answer), output, |policy: &PolicyExplanation| render::resolved(policy))
}

async fn explain(args: &NamedArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = ask((&args.asking, "policy_explain", &args.policy), |read| read.explained()).await?;
    args.asking.print(("policy_explain", answer), output, |policy: &PolicyExplanation| render::origins(&policy.settings))
}

async fn score(args: &NamedArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = ask((&args.asking, "policy_score", &args.policy), |read| read.scored()).await?;
    args.asking.print(("policy_score", answer), output, |policy: &PolicyScore| {
        format!("{}\n{}", render::score_points(&policy.exposure), render::score_line(&policy.name, &policy.exposure))
    })
}

/// Findings are output, as a compiler's are; errors among them, with --strict also warnings, make it fail.
async fn check(args: &CheckArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let checked = local::check(&args.file)?;
    let answer = match args.asking.connect.client_if_any().await? {
        Some(client) => {
            let mut params = json!({"text": checked.text});
            if !checked.fragments.is_empty() {
                params["fragments"] = json!(checked.fragments);
            }
            name_findings(client.call("policy_check", params).await.map_err(|e| name_file(e, &args.file))?, &args.file)
        }
        None => checked.answer?,
    };
    let result: PolicyCheck = super::read("policy_check", answer.clone())?;
    let file = args.file.display().to_string();
    args.asking.print(("policy_check", answer), output, |check: &PolicyCheck| render::findings(&file, check))?;
    let failed = |level: &str| level == "error" || (args.strict && level == "warning");
    match result.findings.iter().filter(|finding| failed(&finding.level)).count() {
        0 => Ok(()),
        count => Err(CliError::PolicyFindings { path: args.file.clone(), count }),
    }
}

/// The hive has seen a text without a name, and calls it by its parameter: `text:5: …`.
fn name_file(error: ClientError, path: &Path) -> CliError {
    match error {
        ClientError::Rpc(mut error) => {
            error.message = match error.message.strip_prefix("text:") {
                Some(place) => format!("{}:{place}", path.display()),
                None => format!("{}: {}", path.display(), error.message),
            };
            ClientError::Rpc(error).into()
        }
        other => other.into(),
    }
}

/// The same for its findings.
fn name_findings(mut answer: Value, path: &Path) -> Value {
    for finding in answer["findings"].as_array_mut().into_iter().flatten().filter(|finding| finding["file"] == "text") {
        finding["file"] = json!(path.display().to_string());
    }
    answer
}
