//! With what a hive is started.
//!
//! Owns: policies, models, configuration and arguments of one fixture. Must never know: processes.

use std::fs;
use std::path::Path;
use std::process::Command;

/// How a hive is to be started; `HiveOptions::default()` is one with the embedded policies and an empty model directory.
#[derive(Debug, Clone, Default)]
pub struct HiveOptions {
    policies: Vec<(String, String)>,
    models: Vec<(String, Vec<u8>)>,
    programs: Vec<String>,
    config: Option<String>,
    devices: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    accept_leftovers: bool,
    delegated: bool,
    ordinary_user: bool,
}

impl HiveOptions {
    /// Adds `policies/NAME.toml`.
    pub fn policy(mut self, name: &str, text: &str) -> Self {
        self.policies.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds `policies/seccomp/NAME.toml`.
    pub fn seccomp_profile(self, name: &str, text: &str) -> Self {
        self.policy(&format!("seccomp/{name}"), text)
    }

    /// Copies a program to where the hive finds binaries.
    pub fn with_program(mut self, path: &str) -> Self {
        self.programs.push(path.to_owned());
        self
    }

    /// Adds a file to the model directory.
    pub fn model(mut self, name: &str, content: &[u8]) -> Self {
        self.models.push((name.to_owned(), content.to_vec()));
        self
    }

    /// Sets `--config`.
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Sets `--devices`.
    pub fn devices(mut self, text: &str) -> Self {
        self.devices = Some(text.to_owned());
        self
    }

    /// Adds one argument to `serve`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable in the hive's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is left at the end is removed, but does not fail the test: for tests that kill the hive themselves.
    pub fn accept_leftovers(mut self) -> Self {
        self.accept_leftovers = true;
        self
    }

    /// Starts the hive in a v2 cgroup of its own, with its root below that one: what it finds in a container or a delegated unit.
    pub fn delegated(mut self) -> Self {
        self.delegated = true;
        self
    }

    /// Starts the hive as the user nobody, the owner of its state and log directories and of the cgroup of [`delegated`](Self::delegated).
    pub fn as_nobody(mut self) -> Self {
        self.ordinary_user = true;
        self
    }

    pub(super) fn is_for_nobody(&self) -> bool {
        self.ordinary_user
    }

    pub(super) fn is_delegated(&self) -> bool {
        self.delegated
    }

    pub(super) fn leftovers_are_a_failure(&self) -> bool {
        !self.accept_leftovers
    }

    /// Writes what the hive will read, below the fixture's directory.
    pub(super) fn write_files(&self, directory: &Path) {
        for (name, text) in &self.policies {
            let path = directory.join("policies").join(format!("{name}.toml"));
            fs::create_dir_all(path.parent().expect("a file has a folder")).expect("make a folder for policies");
            fs::write(path, text).expect("write a policy");
        }
        for program in &self.programs {
            let name = Path::new(program).file_name().expect("a program has a name");
            fs::copy(program, directory.join("bin").join(name)).expect("copy a program");
        }
        for (name, content) in &self.models {
            fs::write(directory.join("models").join(name), content).expect("write a model");
        }
        for (name, text) in [("config.toml", &self.config), ("devices.toml", &self.devices)] {
            if let Some(text) = text {
                fs::write(directory.join(name), text).expect("write a file for the hive");
            }
        }
    }

    /// Adds arguments and environment.
    pub(super) fn apply_to(&self, command: &mut Command, directory: &Path) {
        if self.config.is_some() {
            command.arg("--config").arg(directory.join("config.toml"));
        }
        if self.devices.is_some() {
            command.arg("--devices").arg(directory.join("devices.toml"));
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}
