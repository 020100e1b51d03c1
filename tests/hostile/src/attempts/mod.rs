//! All attempts, by what they are aimed at.

mod calls;
mod deadly;
mod devices;
mod files;
mod floods;
mod identity;
mod more;
mod mounts;
mod namespaces;
mod network;
mod proc;
mod processes;
mod races;

use crate::attempt::Attempt;

/// In an order in which none hinders the next.
pub(crate) fn all() -> impl Iterator<Item = &'static Attempt> {
    let lists = [
        files::LIST,
        proc::LIST,
        devices::LIST,
        mounts::LIST,
        namespaces::LIST,
        identity::LIST,
        processes::LIST,
        network::LIST,
        calls::LIST,
        more::LIST,
        races::LIST,
        floods::LIST,
        deadly::LIST,
    ];
    lists.into_iter().flatten()
}
