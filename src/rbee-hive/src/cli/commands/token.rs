//! `token`: the file behind `serve --token-file`.
//!
//! The file is written whole and renamed into its place; a hive that may read it takes it over by itself. Must never print a token that was
//! made before: no file has it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::access::{NewToken, Role, TokenSet};
use crate::cli::error::CliError;
use crate::cli::output::{Align, Output, remark, table};
use crate::http::group_id;

/// Longest file read, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// What is done with the tokens of a file.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once; the file gets its hash
    Add(AddArgs),
    /// List names, roles and ends
    List(ListArgs),
    /// Take a token back
    Remove(RemoveArgs),
}

/// Options of `token add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    file: FileArgs,
    /// What it lets do
    #[arg(long, value_enum)]
    role: Role,
    /// When it ends, as 2030-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// Group that may read the file: the hive's, so that it can read it again when it changes
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Whose it is: it stands in the audit
    name: String,
}

/// Options of `token list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `token remove`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Whose it is
    name: String,
}

#[derive(Clone, Debug, Args)]
struct FileArgs {
    /// The file of `serve --token-file`
    #[arg(long = "token-file", value_name = "FILE")]
    path: PathBuf,
}

/// Carries it out.
pub(crate) fn token(command: &TokenCommand, output: &mut Output<'_>) -> Result<(), CliError> {
    let path = match command {
        TokenCommand::Add(args) => &args.file.path,
        TokenCommand::List(args) => &args.file.path,
        TokenCommand::Remove(args) => &args.file.path,
    };
    let failed = |source| CliError::Tokens { path: path.clone(), source };
    match command {
        TokenCommand::Add(args) => {
            let new = add(args).map_err(failed)?;
            remark("the token is shown only now: keep it");
            output.text(&format!("{}\n", new.token))
        }
        TokenCommand::List(args) => {
            let set = read(path).map_err(failed)?.unwrap_or_default();
            list(&set, args, output)
        }
        TokenCommand::Remove(args) => remove(args).map_err(failed),
    }
}

fn list(set: &TokenSet, args: &ListArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let now = Timestamp::now();
    let is_over = |end: &Option<Timestamp>| end.is_some_and(|end| end <= now);
    if args.json {
        let tokens: Vec<_> = set
            .entries()
            .map(|token| json!({"name": token.name, "role": token.role, "expires": token.expires, "expired": is_over(&token.expires)}))
            .collect();
        return output.json(&json!(tokens));
    }
    let rows = set.entries().map(|token| {
        let end = token.expires.map_or_else(|| "never".to_owned(), |end| end.to_string());
        vec![token.name.clone(), token.role.to_string(), if is_over(&token.expires) { format!("{end} (over)") } else { end }]
    });
    output.text(&table(&[("NAME", Align::Left), ("ROLE", Align::Left), ("EXPIRES", Align::Left)], rows.collect(), 0))
}

fn add(args: &AddArgs) -> anyhow::Result<NewToken> {
    let group = args.group.as_deref().map(|group| group_id(group).with_context(|| format!("there is no group {group:?}"))).transpose()?;
    let _lock = lock(&args.file.path)?;
    let mut set = read(&args.file.path)?.unwrap_or_default();
    let new = NewToken::make(&args.name, args.role, args.expires)?;
    set.add(new.entry.clone())?;
    write(&args.file.path, &set, group)?;
    Ok(new)
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let _lock = lock(&args.file.path)?;
    let mut set = read(&args.file.path)?.context("there is no such file")?;
    if !set.remove(&args.name) {
        bail!("there is no token {:?} in it", args.name);
    }
    write(&args.file.path, &set, None)
}

/// Its directory, locked: two changes at one time would lose one of them.
fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let directory = directory_of(path);
    let file = File::open(directory).with_context(|| format!("open the directory {directory:?}"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).with_context(|| format!("lock the directory {directory:?}"))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `None` where there is no file as yet.
fn read(path: &Path) -> anyhow::Result<Option<TokenSet>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.context("open it")?,
    };
    let mut bytes = vec![];
    file.take(MAX_FILE).read_to_end(&mut bytes).context("read it")?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let set = TokenSet::parse(&bytes)?;
    if set.plain {
        bail!("it holds one token in clear, the older form: move it away, add tokens, and give them to those who have that one");
    }
    Ok(Some(set))
}

/// Owner, group and mode stay those of the file that is there; a new one is its maker's alone, or also its group's.
fn write(path: &Path, set: &TokenSet, group: Option<u32>) -> anyhow::Result<()> {
    let before = path.metadata().ok();
    let new = path.with_added_extension("new");
    let text = set.to_text()?;
    // What a change that was cut has left.
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(|| format!("make {new:?}"))?;
    let gid = group.or(before.as_ref().map(MetadataExt::gid));
    let mode = if group.is_some() { 0o640 } else { before.as_ref().map_or(0o600, |meta| meta.mode() & 0o640) };
    let written = fchown(&file, before.as_ref().map(MetadataExt::uid), gid)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.with_context(|| format!("write {new:?} and rename it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(path: &Path, name: &str) -> anyhow::Result<NewToken> {
        let file = FileArgs { path: path.into() };
        add(&AddArgs { file, role: Role::Operate, expires: None, group: None, name: name.into() })
    }

    #[test]
    fn tokens_are_added_listed_and_taken_back_and_the_file_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (one, two) = (added(&path, "one").unwrap(), added(&path, "two").unwrap());
        assert_ne!(one.token, two.token);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(added(&path, "one").is_err() && added(&path, "a b").is_err());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&one.token) && text.contains(&one.entry.sha256), "{text}");
        remove(&RemoveArgs { file: FileArgs { path: path.clone() }, name: "one".into() }).unwrap();
        assert!(remove(&RemoveArgs { file: FileArgs { path: path.clone() }, name: "one".into() }).is_err());
        let mut out = vec![];
        let args = ListArgs { file: FileArgs { path: path.clone() }, json: true };
        token(&TokenCommand::List(args), &mut Output::to(&mut out)).unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(listed, json!([{"name": "two", "role": "operate", "expires": null, "expired": false}]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_token_in_clear_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "secret\n").unwrap();
        assert!(added(&path, "one").err().unwrap().to_string().contains("in clear"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret\n");
    }
}
