//! The shipped policies, built in, so that the program works without a file.

const POLICIES: [(&str, &str); 5] = [
    ("cpu-gguf", include_str!("../../../policies/cpu-gguf.toml")),
    ("default", include_str!("../../../policies/default.toml")),
    ("mock", include_str!("../../../policies/mock.toml")),
    ("mps", include_str!("../../../policies/mps.toml")),
    ("trusted", include_str!("../../../policies/trusted.toml")),
];
const FRAGMENTS: [(&str, &str); 2] = [
    ("fragments/inference", include_str!("../../../policies/fragments/inference.toml")),
    ("seccomp/inference", include_str!("../../../policies/seccomp/inference.toml")),
];

/// Names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|(name, _)| *name)
}

/// The text of a policy.
pub fn policy(name: &str) -> Option<&'static str> {
    POLICIES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// The text of a fragment, by the name that `include` gives, or of a seccomp profile.
pub fn fragment(name: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}
