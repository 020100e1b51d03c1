//! What a start would look for on disk, looked for without one: before somebody else's worker is stopped to make room for it.

use super::resolve::{identity, rootfs::RootFs};
use super::serve::Launcher;
use super::spawn::{find, joined, nowhere};
use crate::protocol::LaunchError;

impl Launcher {
    /// Looks for a policy's binary and a model, by the rules of a start.
    ///
    /// Errors: those of a start; `at_capacity` where every uid is in use, which says nothing of the files.
    pub(super) fn find(&mut self, policy: &str, model: &str) -> Result<(), LaunchError> {
        let loaded = self.policies.load(policy)?;
        self.check_trusted(policy)?;
        let policy = &loaded.policy;
        let directories = joined(&policy.worker.binary_dirs, &self.options.binary_dirs);
        match &policy.filesystem.root {
            Some(path) => drop(RootFs::open(path, &self.options)?.find_binary(&policy.worker.binary, &directories).map_err(nowhere)?),
            None => drop(find(&policy.worker.binary, &directories, self.options.owner)?),
        }
        // The uid goes back at the end of this: whether it can read the model depends on who it is.
        let who = identity::identify(&policy.credentials.user, &mut self.uids, &self.options)?;
        self.model(model, policy, who.ids).map(drop)
    }
}
