//! The whole report, in its order.

use super::facts::HostTexts;
use super::finding::Finding;
use super::{cgroups, kernel, process};

/// Judges what was read. Pure.
pub(super) fn judge(texts: &HostTexts) -> Vec<Finding> {
    let mut findings = vec![kernel::kernel(texts), process::user(texts), process::capabilities(texts)];
    findings.extend(cgroups::judge(texts));
    findings.extend([
        kernel::namespaces(texts),
        kernel::user_namespaces(texts),
        kernel::seccomp(texts),
        kernel::landlock(texts),
        kernel::swap(texts),
        kernel::pressure(texts),
    ]);
    findings
}
