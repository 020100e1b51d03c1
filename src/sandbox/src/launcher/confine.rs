//! The deny-list that the launcher lives under, or who loads it where the launcher can't.

use crate::protocol::{HostFeature, LaunchError, LaunchErrorKind};
use crate::seccomp::DenyList;
use rbee_hive_policy::NotInForce;

/// Name of the setting in `not_in_force`, `hive_info` and `doctor`.
pub(super) const SETTING: &str = "deny_list";

/// What an init and its worker still have to load.
#[derive(Clone, Default)]
pub(crate) struct DenyLists {
    /// By the init, before anything else that it does in its namespaces.
    pub(crate) init: Option<DenyList>,
    /// By the worker, where no listener of ours is in its filters.
    pub(crate) bare_worker: Option<DenyList>,
}

/// Where the list is in force.
pub(super) enum Confined {
    /// From the launcher on.
    Launcher(DenyLists),
    /// From each init on: an ordinary user's launcher has no privilege to begin with, nor the one to load it without no_new_privs, which is for
    /// ever as well. Its inits have that privilege in their own user namespace.
    Inits(DenyLists),
    /// Nowhere: this kernel takes no filters.
    Nowhere(String),
}

impl Confined {
    /// Loads the list for this process; from here on it is inherited.
    pub(super) fn enter() -> Result<Self, LaunchError> {
        let broken = |e| LaunchError::new(LaunchErrorKind::SetupFailed, super::serve::error_chain(&e));
        let bare_worker = Some(DenyList::for_bare_workers().map_err(broken)?);
        match DenyList::for_launcher().map_err(broken)?.load() {
            Ok(()) => Ok(Self::Launcher(DenyLists { init: Some(DenyList::for_inits().map_err(broken)?), bare_worker })),
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                Ok(Self::Inits(DenyLists { init: Some(DenyList::whole().map_err(broken)?), bare_worker }))
            }
            Err(e) => Ok(Self::Nowhere(format!("seccomp(SECCOMP_SET_MODE_FILTER) => {e}"))),
        }
    }

    /// What the next init gets.
    pub(super) fn lists(&self) -> DenyLists {
        match self {
            Self::Launcher(lists) | Self::Inits(lists) => lists.clone(),
            Self::Nowhere(_) => DenyLists::default(),
        }
    }

    /// For a worker's `not_in_force`.
    pub(super) fn note(&self) -> Option<NotInForce> {
        let Self::Nowhere(why) = self else { return None };
        Some(NotInForce { setting: SETTING.into(), why: why.clone() })
    }

    /// For `hive_info`.
    pub(super) fn feature(&self) -> HostFeature {
        let (supported, why) = match self {
            Self::Launcher(_) => (true, "launcher, inits and workers live under it"),
            Self::Inits(_) => {
                (true, "each init loads it for itself and its worker; an ordinary user's launcher has no privilege to take away")
            }
            Self::Nowhere(why) => (false, why.as_str()),
        };
        HostFeature { supported, why: why.to_owned() }
    }
}
