//! Ends that nobody saw.

use super::{Case, Findings, memory};

pub(super) fn lost(case: &Case<'_>, why: &str, found: &mut Findings) {
    found.prove("why", Some(why.to_owned()), |why| why);
    memory::kills(case, found);
    found.advise("see the hive's log and the kernel's of that moment: something has ended the worker's init");
}
