//! Who may call, from options and configuration: names become numbers here, once, while the start can still fail.

use anyhow::Context as _;

use crate::args::ServeArgs;
use crate::config::{Account, Config};
use crate::http::{AccessRules, group_id, user_id};

/// The rules; `socket_gid` is the Unix socket's group where that lets anybody in.
pub(super) fn access_rules(options: &ServeArgs, config: &Config, socket_gid: Option<u32>) -> anyhow::Result<AccessRules> {
    let mut rules = AccessRules::default();
    rules.uids.extend([0, nix::unistd::getuid().as_raw()]);
    rules.gids.extend(socket_gid);
    for user in &config.access.users {
        rules.uids.insert(number(user, user_id).with_context(|| format!("[access] users: there is no user {user:?}"))?);
    }
    for group in &config.access.groups {
        rules.gids.insert(number(group, group_id).with_context(|| format!("[access] groups: there is no group {group:?}"))?);
    }
    let Some(path) = &options.token_file else { return Ok(rules) };
    let text = std::fs::read_to_string(path).with_context(|| format!("read the token file {path:?}"))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "the token file {path:?} is empty");
    Ok(rules.with_token(token))
}

fn number(account: &Account, by_name: fn(&str) -> Option<u32>) -> Option<u32> {
    match account {
        Account::Id(id) => Some(*id),
        Account::Name(name) => by_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_stops_the_start() {
        let config: Config = toml::from_str("[access]\nusers = [\"no-such-user-here\"]").unwrap();
        assert!(access_rules(&ServeArgs::default(), &config, None).is_err());
    }

    #[test]
    fn an_empty_token_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\n").unwrap();
        let options = ServeArgs { token_file: Some(file.path().into()), ..ServeArgs::default() };
        assert!(access_rules(&options, &Config::default(), None).is_err());
        std::fs::write(file.path(), "secret\n").unwrap();
        assert!(access_rules(&options, &Config::default(), None).is_ok());
    }
}
