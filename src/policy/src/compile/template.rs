//! The command line's template. Inserted text is never expanded again.

use crate::file::Policy;
use crate::{HostFacts, NetworkMode, WorkerRequest};

const PLACEHOLDERS: [&str; 8] = ["{binary}", "{model}", "{device}", "{host}", "{port}", "{socket}", "{worker_id}", "{args}"];

/// What the placeholders stand for.
pub(super) struct Words<'a> {
    pub(super) facts: &'a HostFacts,
    pub(super) args: &'a [String],
    pub(super) port: Option<u16>,
    pub(super) socket: &'a str,
}

/// Whether the template names `placeholder`.
pub(super) fn uses(policy: &Policy, placeholder: &str) -> bool {
    policy.worker.command.iter().any(|part| part.contains(placeholder))
}

/// Refuses a template that could never be expanded rightly.
pub(crate) fn check_template(policy: &Policy) -> Result<(), String> {
    if policy.worker.command.is_empty() {
        return Err("is empty".into());
    }
    for part in &policy.worker.command {
        if part.contains('\0') {
            return Err("contains a NUL character".into());
        }
        if part.contains("{args}") && part != "{args}" {
            return Err(format!("{part:?}: {{args}} stands for several arguments and must be an element of its own"));
        }
        for name in pieces(part).filter_map(|p| p.err()) {
            if !PLACEHOLDERS.contains(&name) {
                return Err(format!("{part:?}: there is no placeholder {name}; there are {}", PLACEHOLDERS.join(" ")));
            }
        }
    }
    if policy.network == NetworkMode::None && uses(policy, "{port}") {
        return Err("names {port}, but the network mode is \"none\"".into());
    }
    Ok(())
}

/// The command line.
pub(super) fn expand(policy: &Policy, request: &WorkerRequest, words: &Words<'_>) -> Vec<String> {
    let mut argv = Vec::new();
    for part in &policy.worker.command {
        if part == "{args}" {
            argv.extend(words.args.iter().cloned());
        } else {
            argv.push(pieces(part).map(|piece| piece.map_or_else(|name| word(name, request, words), str::to_owned)).collect());
        }
    }
    if !uses(policy, "{args}") {
        argv.extend(words.args.iter().cloned());
    }
    argv
}

fn word(name: &str, request: &WorkerRequest, words: &Words<'_>) -> String {
    match name {
        "{binary}" => words.facts.binary.to_string_lossy().into_owned(),
        "{model}" => words.facts.model.clone(),
        "{device}" => request.devices.join(","),
        "{host}" => "127.0.0.1".into(),
        "{port}" => words.port.map_or_else(String::new, |p| p.to_string()),
        "{socket}" => words.socket.to_owned(),
        "{worker_id}" => request.worker_id.to_string(),
        other => other.to_owned(),
    }
}

/// Whether a word stands for itself in a template: nothing in it looks like a placeholder.
pub(crate) fn takes_no_part(word: &str) -> bool {
    pieces(word).all(|piece| piece.is_ok())
}

/// Literal text (`Ok`) and placeholders with their braces (`Err`), in order.
fn pieces(part: &str) -> impl Iterator<Item = Result<&str, &str>> {
    let mut rest = part;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let open = rest.find('{').unwrap_or(rest.len());
        if open > 0 {
            let (text, after) = rest.split_at(open);
            rest = after;
            return Some(Ok(text));
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        match rest.find('}').filter(|end| is_name(&rest[1..*end])) {
            Some(end) => {
                let (name, after) = rest.split_at(end + 1);
                rest = after;
                Some(Err(name))
            }
            // A brace that opens no name, as in JSON, is text.
            None => {
                let (text, after) = rest.split_at(1);
                rest = after;
                Some(Ok(text))
            }
        }
    })
}
