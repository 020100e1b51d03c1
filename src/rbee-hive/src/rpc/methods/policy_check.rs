//! `policy_check`

use std::collections::BTreeMap;

use rbee_hive_policy::check::{Checked, Level, check};
use rbee_hive_policy::embedded;
use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};
use serde_json::json;

use super::super::method::{Answer, Method, WhenClientLeaves};
use crate::params::{Param, Refusal};

const TEXT: &str = r#"{"type":"string"}"#;
const FRAGMENTS: &str = r#"{"type":"object","additionalProperties":{"type":"string"}}"#;
/// Most bytes of all texts together: the launcher's own bound for a policy's file.
const MAX_TEXTS: usize = 256 * 1024;

/// Included texts are those that come along, then the embedded ones: the text comes from the caller, and so has no directory of its own.
fn answer(text: &str, fragments: &BTreeMap<String, String>) -> Answer {
    let fragment = |name: &str| fragments.get(name).cloned().or_else(|| embedded::fragment(name).map(str::to_owned));
    let checked = check("checked", "text", text, &fragment);
    let Checked { traced, findings } = checked.map_err(|e| Refusal::from(LifecycleError::new(ErrorKind::InvalidPolicy, e.to_string())))?;
    let valid = findings.iter().all(|finding| finding.level != Level::Error);
    Ok(json!({"valid": valid, "findings": findings, "resolved": traced.policy}))
}

/// The method. `{valid, findings: [{level, file, line, key, message}], resolved}`; `level` is `error`, `warning` or `note`, `file` is `text`
/// for the text itself, `valid` is false where there is an error among the findings. A text that is no policy is an error, `invalid_policy`.
pub(super) const METHOD: Method = Method {
    name: "policy_check",
    summary: "Whether a policy text is valid, and what is to be said about it",
    params: &[Param::required("text", TEXT), Param::optional("fragments", FRAGMENTS)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |_, mut fields| {
        Box::pin(async move {
            let text: String = fields.need("text")?;
            let fragments: BTreeMap<String, String> = fields.take("fragments")?.unwrap_or_default();
            let bytes = text.len() + fragments.values().map(String::len).sum::<usize>();
            if bytes > MAX_TEXTS {
                return Err(Refusal::params("text", format!("{bytes} bytes with its fragments, at most {MAX_TEXTS} are taken")));
            }
            // It is parsed once for each of its keys: not on a thread that serves others.
            let checking = tokio::task::spawn_blocking(move || answer(&text, &fragments));
            checking
                .await
                .map_err(|e| Refusal::from(LifecycleError::new(ErrorKind::InvalidPolicy, format!("it could not be checked: {e}"))))?
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_an_answer_and_no_policy_is_an_error() {
        let none = BTreeMap::new();
        let good = answer("[worker]\nbinary = \"x\"\n", &none).unwrap();
        assert_eq!((&good["valid"], &good["findings"]), (&json!(true), &json!([])));
        let torn = "[worker]\nbinary = \"x\"\n[limits]\nmemory_max = \"1GiB\"\nmemory_high = \"2GiB\"\n";
        let bad = answer(torn, &none).unwrap();
        assert_eq!((&bad["valid"], &bad["findings"][0]["line"], &bad["findings"][0]["level"]), (&json!(false), &json!(5), &json!("error")));
        assert!(answer("[worker]\nbinnary = \"x\"\n", &none).unwrap_err().to_string().contains("text:2"));
    }

    #[test]
    fn fragments_that_come_along_count_before_the_embedded_ones() {
        let text = "include = [\"fragments/inference\"]\n[worker]\nbinary = \"x\"\n";
        let own = [("fragments/inference".to_owned(), "[limits]\npids_max = 7\n".to_owned())].into();
        assert_eq!(answer(text, &own).unwrap()["resolved"]["limits"]["pids_max"]["value"], json!(7));
        assert_eq!(answer(text, &BTreeMap::new()).unwrap()["resolved"]["limits"]["pids_max"]["value"], json!(512));
    }
}
