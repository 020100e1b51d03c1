//! `/proc/<pid>/status`.

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
/// Name, uids, gids, groups, number, no_new_privs, mode and the sets: without one of them nothing is said of a process.
const FIELDS: usize = 7 + SETS.len();

/// What of it is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `comm`
    pub name: String,
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    /// The same of the group.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Its number in its own pid namespace.
    pub inner: i32,
    /// In how many pid namespaces it is, from the reader's on.
    pub depth: usize,
    /// Inheritable, permitted, effective, bounding and ambient set.
    pub capabilities: [u64; 5],
    /// no_new_privs
    pub no_new_privs: bool,
    /// Mode: 0, 1 (strict) or 2 (filters).
    pub seccomp: u8,
    /// How many filters; `None` before Linux 5.9.
    pub filters: Option<u32>,
}

impl Status {
    /// `None` where a field that every kernel since 4.10 has is missing or means nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut status = Self::default();
        let mut seen = 0;
        for (key, value) in text.lines().filter_map(|line| line.split_once(":\t")) {
            match key {
                "Name" => status.name = value.to_owned(),
                "Uid" => status.uids = four(value)?,
                "Gid" => status.gids = four(value)?,
                "Groups" => status.groups = value.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect(),
                "NSpid" => {
                    status.inner = value.split_ascii_whitespace().last()?.parse().ok()?;
                    status.depth = value.split_ascii_whitespace().count();
                }
                "NoNewPrivs" => status.no_new_privs = value.trim() == "1",
                "Seccomp" => status.seccomp = value.trim().parse().ok()?,
                "Seccomp_filters" => {
                    status.filters = value.trim().parse().ok();
                    continue;
                }
                _ => {
                    let Some(at) = SETS.iter().position(|set| *set == key) else { continue };
                    status.capabilities[at] = u64::from_str_radix(value.trim(), 16).ok()?;
                }
            }
            seen += 1;
        }
        (seen == FIELDS).then_some(status)
    }
}

fn four(value: &str) -> Option<[u32; 4]> {
    let all: Vec<u32> = value.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    all.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_is_read_and_a_cut_text_is_none() {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let status = Status::parse(&text).unwrap();
        assert_eq!(status.uids, [nix::unistd::getuid().as_raw(); 4]);
        assert_eq!(status.inner, i32::try_from(std::process::id()).unwrap());
        assert!(!status.name.is_empty() && status.depth >= 1);
        let cut = text.split_once("CapBnd").unwrap().0;
        assert_eq!(Status::parse(cut), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "((Uid|CapInh|NSpid|Seccomp|Name):\t[ -~]{0,20}\n){0,6}") {
            let _ = Status::parse(&text);
        }
    }
}
