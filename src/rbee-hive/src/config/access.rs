//! The tables `[access]` and `[tls]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::access::Role;

/// The table `[access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessConfig {
    /// Names or uids; they may do everything.
    pub(crate) users: Vec<Account>,
    /// Names or gids; their members may do everything.
    pub(crate) groups: Vec<Account>,
    /// Who may do less, as `[[access.grant]]`.
    pub(crate) grant: Vec<Grant>,
}

/// A role, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// The role.
    pub(crate) role: Role,
    /// Names or uids.
    #[serde(default)]
    pub(crate) users: Vec<Account>,
    /// Names or gids.
    #[serde(default)]
    pub(crate) groups: Vec<Account>,
    /// DNS or URI names of client certificates, or `sha256:` fingerprints.
    #[serde(default)]
    pub(crate) certificates: Vec<String>,
}

/// An account by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Account {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// The table `[tls]`. Options win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// Certificate chain, PEM.
    pub(crate) cert: Option<PathBuf>,
    /// Private key, PEM.
    pub(crate) key: Option<PathBuf>,
    /// CA of clients, PEM: without a certificate of it nobody comes in over TCP.
    pub(crate) client_ca: Option<PathBuf>,
    /// What a client with such a certificate may do whom no grant names; nothing without it.
    pub(crate) client_role: Option<Role>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn accounts_are_names_or_numbers() {
        let config: Config = toml::from_str("[access]\nusers = [\"ada\", 1000]").unwrap();
        assert_eq!(config.access.users, [Account::Name("ada".into()), Account::Id(1000)]);
    }

    #[test]
    fn a_grant_names_a_known_role() {
        let text = "[[access.grant]]\nrole = \"observe\"\nusers = [7]\ncertificates = [\"ci.example\"]";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.access.grant[0].role, &config.access.grant[0].users), (Role::Observe, &vec![Account::Id(7)]));
        for wrong in [text.replace("observe", "root"), text.replace("users", "user"), "[[access.grant]]\nusers = [7]".into()] {
            assert!(toml::from_str::<Config>(&wrong).is_err(), "{wrong}");
        }
    }
}
