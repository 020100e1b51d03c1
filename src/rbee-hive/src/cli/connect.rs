//! Which hive to talk to.
//!
//! Owns the options and the order of places. Must never know what is asked there.

use std::path::{Path, PathBuf};

use clap::Args;
use rbee_hive_api::{Client, ClientError, Endpoint};

use super::error::{CliError, chain};

/// Environment variable with the hive's address.
const VARIABLE: &str = "RBEE_HIVE_URL";
/// Socket of a hive that root has started.
const SYSTEM_SOCKET: &str = "/run/rbee-hive/hive.sock";
/// Socket of a user's own hive, below `$XDG_RUNTIME_DIR`.
const USER_SOCKET: &str = "rbee-hive/hive.sock";
/// Where a hive listens when nothing else is said.
const DEFAULT_URL: &str = "http://127.0.0.1:8600";

/// How the hive is found. Without either option: `RBEE_HIVE_URL`, else the usual sockets, else `http://127.0.0.1:8600`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectOptions {
    /// The hive's Unix socket
    #[arg(long, value_name = "PATH", conflicts_with = "url", help_heading = "Hive")]
    pub(crate) socket: Option<PathBuf>,
    /// The hive's address, unix:///PATH or http://HOST:PORT [env: RBEE_HIVE_URL]
    #[arg(long, value_name = "URL", help_heading = "Hive")]
    pub(crate) url: Option<Endpoint>,
}

/// What decides besides the options.
struct Surroundings {
    root: bool,
    url: Option<String>,
    runtime_dir: Option<PathBuf>,
}

impl ConnectOptions {
    /// A client of the hive.
    ///
    /// Errors: a wrong `RBEE_HIVE_URL`; nobody at any of the usual places. An address that was given is not tried yet.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        let mut places = self.places(&Surroundings::of_this_process())?;
        if places.len() == 1
            && let Some(only) = places.pop()
        {
            return Ok(Client::new(only));
        }
        let mut tried = vec![];
        for place in places {
            let client = Client::new(place);
            match client.probe().await {
                Ok(()) => return Ok(client),
                Err(error) => tried.push((client.endpoint().to_string(), reason(&error))),
            }
        }
        Err(CliError::NoHive { tried })
    }

    /// As [`ConnectOptions::client`]; nobody at the usual places is no error, at an address given by option it is.
    pub(crate) async fn client_if_any(&self) -> Result<Option<Client>, CliError> {
        let client = match self.client().await {
            Err(CliError::NoHive { .. }) => return Ok(None),
            other => other?,
        };
        match client.probe().await {
            Ok(()) => Ok(Some(client)),
            Err(ClientError::NoHive { .. }) if self.socket.is_none() && self.url.is_none() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn places(&self, here: &Surroundings) -> Result<Vec<Endpoint>, CliError> {
        if let Some(path) = &self.socket {
            return Ok(vec![Endpoint::Unix(path.clone())]);
        }
        if let Some(url) = &self.url {
            return Ok(vec![url.clone()]);
        }
        if let Some(url) = here.url.as_deref().filter(|u| !u.is_empty()) {
            return url.parse().map(|place| vec![place]).map_err(|source| CliError::Variable { name: VARIABLE, source });
        }
        let system = Path::new(SYSTEM_SOCKET).to_owned();
        let own = here.runtime_dir.as_deref().filter(|_| !here.root).map(|dir| dir.join(USER_SOCKET));
        let sockets = own.into_iter().chain([system]).map(Endpoint::Unix);
        Ok(sockets.chain(DEFAULT_URL.parse()).collect())
    }
}

impl Surroundings {
    fn of_this_process() -> Self {
        Self {
            root: nix::unistd::geteuid().is_root(),
            url: std::env::var(VARIABLE).ok(),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

/// The cause alone: the place stands beside it already.
fn reason(error: &ClientError) -> String {
    match error {
        ClientError::NoHive { source, .. } => source.to_string(),
        other => chain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(options: &ConnectOptions, here: &Surroundings) -> Vec<String> {
        options.places(here).unwrap().iter().map(ToString::to_string).collect()
    }

    fn here(root: bool, url: Option<&str>) -> Surroundings {
        Surroundings { root, url: url.map(str::to_owned), runtime_dir: Some("/run/user/7".into()) }
    }

    #[test]
    fn options_win_over_the_variable_and_the_variable_over_the_usual_places() {
        let socket = ConnectOptions { socket: Some("/a".into()), url: None };
        assert_eq!(places(&socket, &here(true, Some("unix:///b"))), ["unix:///a"]);
        assert_eq!(places(&ConnectOptions::default(), &here(true, Some("unix:///b"))), ["unix:///b"]);
        assert_eq!(places(&ConnectOptions::default(), &here(true, Some(""))), ["unix:///run/rbee-hive/hive.sock", DEFAULT_URL]);
    }

    #[test]
    fn a_user_looks_for_the_own_hive_first() {
        let want = ["unix:///run/user/7/rbee-hive/hive.sock", "unix:///run/rbee-hive/hive.sock", DEFAULT_URL];
        assert_eq!(places(&ConnectOptions::default(), &here(false, None)), want);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = ConnectOptions::default().places(&here(true, Some("ftp://x"))).unwrap_err();
        assert!(error.to_string().contains(VARIABLE));
        assert_eq!(error.status(), 2);
    }

    #[tokio::test]
    async fn an_address_that_was_given_must_answer() {
        let options = ConnectOptions { socket: Some("/nonexistent/hive.sock".into()), url: None };
        assert_eq!(options.client_if_any().await.unwrap_err().status(), 3);
    }
}
