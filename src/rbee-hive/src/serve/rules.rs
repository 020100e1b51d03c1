//! Who may call and how, from options and configuration: names become numbers and files are read here, once, while the start can still fail.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::ServeError;
use super::privileges;
use crate::access::{AccessRules, AccessState, Owners, Readers, Role, TokenSet, Watched, read_tls};
use crate::args::ServeArgs;
use crate::config::{Account, Config};
use crate::http::{group_id, user_id};

/// What `--listen` beyond loopback asks for.
const BEYOND: &str = "is beyond loopback: that needs TLS and a way to know the caller; give --tls-cert and --tls-key, and --token-file or \
    --tls-client-ca (or [tls] in the configuration), or listen on 127.0.0.1";

/// Paths of TLS, with the options before the configuration.
#[derive(Debug, Default)]
struct TlsFiles {
    pair: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
}

/// Refuses options that can't be, before anything is made.
pub(super) fn check_listening(ip: IpAddr, options: &ServeArgs, config: &Config) -> Result<(), ServeError> {
    let tls = TlsFiles::of(options, config)?;
    let known = options.token_file.is_some() || tls.client_ca.is_some();
    if ip.to_canonical().is_loopback() || (tls.pair.is_some() && known) {
        return Ok(());
    }
    Err(ServeError::Usage(format!("--listen {ip} {BEYOND}")))
}

/// The rules, and the files behind them; `socket_gid` is the Unix socket's group where that lets anybody in.
pub(super) fn access(
    options: &ServeArgs,
    config: &Config,
    (account, socket_gid): (Option<privileges::Account>, Option<u32>),
) -> Result<(AccessRules, AccessState), ServeError> {
    let mut rules = granted(config, socket_gid)?;
    let own = nix::unistd::getuid().as_raw();
    let owners = Owners { uids: [own, account.map_or(own, |account| account.uid)], gid: account.map(|account| account.gid) };
    let mut state = AccessState { denials: Arc::clone(&rules.denials), ..AccessState::default() };
    if let Some(path) = &options.token_file {
        let tokens = Watched::open(vec![(path.clone(), Readers::HiveGroup)], owners, read_tokens).context("read the token file")?;
        state.tokens = Some(Arc::new(tokens));
        rules.tokens = state.tokens.clone();
    }
    let TlsFiles { pair, client_ca } = TlsFiles::of(options, config)?;
    if let Some((cert, key)) = pair {
        let mut files = vec![(cert, Readers::Everybody), (key, Readers::Owner)];
        files.extend(client_ca.map(|ca| (ca, Readers::Everybody)));
        let tls = Watched::open(files, owners, read_tls).context("read the files of TLS")?;
        state.tls = Some(Arc::new(tls));
    }
    Ok((rules, state))
}

fn granted(config: &Config, socket_gid: Option<u32>) -> anyhow::Result<AccessRules> {
    let mut rules = AccessRules { any_certificate: config.tls.client_role, ..AccessRules::default() };
    rules.grant_uid(0, Role::Admin);
    rules.grant_uid(nix::unistd::getuid().as_raw(), Role::Admin);
    if let Some(gid) = socket_gid {
        rules.grant_gid(gid, Role::Admin);
    }
    let access = &config.access;
    let all = access.grant.iter().map(|grant| (grant.role, &grant.users, &grant.groups));
    for (role, users, groups) in all.chain([(Role::Admin, &access.users, &access.groups)]) {
        for user in users {
            let uid = number(user, user_id).with_context(|| format!("[access] users: there is no user {user:?}"))?;
            rules.grant_uid(uid, role);
        }
        for group in groups {
            let gid = number(group, group_id).with_context(|| format!("[access] groups: there is no group {group:?}"))?;
            rules.grant_gid(gid, role);
        }
    }
    for grant in &access.grant {
        for name in &grant.certificates {
            rules.grant_certificate(name, grant.role);
        }
    }
    Ok(rules)
}

fn read_tokens(files: &[Vec<u8>]) -> anyhow::Result<TokenSet> {
    let set = TokenSet::parse(files.first().map_or(&[][..], Vec::as_slice))?;
    if set.plain {
        tracing::warn!("the token file holds a token in clear: `rbee-hive token add` makes a file with hashes, roles and names instead");
    }
    Ok(set)
}

impl TlsFiles {
    fn of(options: &ServeArgs, config: &Config) -> Result<Self, ServeError> {
        let first = |option: &Option<PathBuf>, configured: &Option<PathBuf>| option.clone().or_else(|| configured.clone());
        let cert = first(&options.tls_cert, &config.tls.cert);
        let key = first(&options.tls_key, &config.tls.key);
        let client_ca = first(&options.tls_client_ca, &config.tls.client_ca);
        let pair = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(ServeError::Usage("TLS needs a certificate and its key: give --tls-cert and --tls-key".into())),
        };
        if pair.is_none() && (client_ca.is_some() || config.tls.client_role.is_some()) {
            let text = "a CA or role of clients is of use with TLS only: give --tls-cert and --tls-key";
            return Err(ServeError::Usage(text.into()));
        }
        if client_ca.is_none() && config.tls.client_role.is_some() {
            return Err(ServeError::Usage("[tls] client_role needs a CA of clients: give --tls-client-ca".into()));
        }
        Ok(Self { pair, client_ca })
    }
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

    fn usage(ip: &str, options: &ServeArgs, config: &str) -> Option<String> {
        match check_listening(ip.parse().unwrap(), options, &toml::from_str(config).unwrap()) {
            Ok(()) => None,
            Err(ServeError::Usage(text)) => Some(text),
            Err(ServeError::Failed(error)) => panic!("{error:#}"),
        }
    }

    fn options(token: Option<&str>, tls: [Option<&str>; 3]) -> ServeArgs {
        let [tls_cert, tls_key, tls_client_ca] = tls.map(|path| path.map(PathBuf::from));
        ServeArgs { token_file: token.map(PathBuf::from), tls_cert, tls_key, tls_client_ca, ..ServeArgs::default() }
    }

    #[test]
    fn beyond_loopback_needs_tls_and_a_way_to_know_the_caller() {
        let (c, k, a) = (Some("/c"), Some("/k"), Some("/a"));
        for ip in ["0.0.0.0", "::", "192.168.0.1"] {
            for lacking in [options(None, [None; 3]), options(Some("/t"), [None; 3]), options(None, [c, k, None])] {
                let text = usage(ip, &lacking, "").unwrap();
                assert!(text.contains("--tls-cert") && text.contains("--token-file") && text.contains("--tls-client-ca"), "{text}");
            }
            assert_eq!(usage(ip, &options(Some("/t"), [c, k, None]), ""), None);
            assert_eq!(usage(ip, &options(None, [c, k, a]), ""), None);
            assert_eq!(usage(ip, &options(Some("/t"), [None; 3]), "[tls]\ncert = \"/c\"\nkey = \"/k\""), None);
        }
        for ip in ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(usage(ip, &options(None, [None; 3]), ""), None, "{ip}");
        }
    }

    #[test]
    fn half_of_tls_is_a_usage_error() {
        let (c, a) = (Some("/c"), Some("/a"));
        assert!(usage("127.0.0.1", &options(None, [c, None, None]), "").is_some());
        assert!(usage("127.0.0.1", &options(None, [None, None, a]), "").is_some());
        assert!(usage("127.0.0.1", &options(None, [None; 3]), "[tls]\nclient_role = \"observe\"").is_some());
        assert!(usage("127.0.0.1", &options(None, [c, Some("/k"), None]), "[tls]\nclient_role = \"observe\"").is_some());
    }

    #[test]
    fn what_was_granted_before_roles_is_everything_and_grants_are_less() {
        let text = "[access]\nusers = [7]\ngroups = [8]\n[[access.grant]]\nrole = \"observe\"\nusers = [7, 9]\ngroups = [10]\ncertificates = [\"a\"]";
        let rules = granted(&toml::from_str(text).unwrap(), Some(50)).unwrap();
        assert_eq!((rules.uids[&0], rules.uids[&7], rules.uids[&9]), (Role::Admin, Role::Admin, Role::Observe));
        assert_eq!((rules.gids[&8], rules.gids[&50], rules.gids[&10]), (Role::Admin, Role::Admin, Role::Observe));
        assert_eq!((rules.certificates["a"], rules.any_certificate), (Role::Observe, None));
    }

    #[test]
    fn an_unknown_user_stops_the_start() {
        let config: Config = toml::from_str("[access]\nusers = [\"no-such-user-here\"]").unwrap();
        assert!(granted(&config, None).is_err());
    }

    #[test]
    fn an_empty_token_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\n").unwrap();
        let options = options(file.path().to_str(), [None; 3]);
        assert!(access(&options, &Config::default(), (None, None)).is_err());
        std::fs::write(file.path(), "secret\n").unwrap();
        assert!(access(&options, &Config::default(), (None, None)).is_ok());
    }
}
