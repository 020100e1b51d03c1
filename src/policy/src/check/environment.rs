//! Variables: named twice, overwritten, or dangerous to take over.

use super::Findings;
use crate::compile::{check_home, is_device_variable, is_loader_variable};

pub(super) fn look(findings: &mut Findings<'_>) {
    let environment = &findings.policy().environment;
    for (index, name) in environment.pass.iter().enumerate() {
        let at = format!("environment.pass[{index}]");
        if environment.pass[..index].contains(name) {
            findings.warning(&at, format!("{name} is listed twice; remove one of the two"));
        }
        if environment.set.contains_key(name) {
            findings.warning(&at, format!("{name} is set, too, which counts; remove it from pass or from set"));
        } else if is_loader_variable(name) {
            let text =
                format!("{name} decides which code is loaded, and whoever started the hive chose it; set it to a fixed value instead");
            findings.warning(&at, text);
        } else if is_device_variable(name) {
            findings.warning(&at, format!("{name} is the lease's to say, and comes after; remove it"));
        }
    }
    for (name, value) in &environment.set {
        let at = format!("environment.set.{name}");
        if is_device_variable(name) {
            findings.warning(&at, format!("{name} is the lease's to say, and comes after; remove it"));
        }
        if name == "HOME" && !check_home(value) {
            findings
                .error(&at, format!("{value:?} is no place for an empty home directory, and every start is refused; say \"/home/worker\""));
        }
        if name == "LD_LIBRARY_PATH" && !findings.policy().worker.library_dirs.is_empty() {
            findings.warning(&at, "it comes after worker.library_dirs and takes their place; say it in one of the two");
        }
    }
}
