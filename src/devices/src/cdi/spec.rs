//! The text of one spec, as far as it is used here.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Devices of one spec that are believed.
const MAX_DEVICES: usize = 1024;
/// Nodes, mounts, variables or hooks of one device that are believed.
const MAX_EDITS: usize = 1024;

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Where it was read.
    pub(super) file: PathBuf,
    /// `nvidia.com/gpu`.
    pub(super) kind: String,
    /// Its devices.
    pub(super) devices: Vec<Device>,
    /// What every device of the spec gets.
    pub(super) edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Option<Edits>,
}

/// One device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    /// `0`, `0:1`, `GPU-…`, `MIG-…`, `all`.
    #[serde(deserialize_with = "text_or_number")]
    pub(super) name: String,
    /// What it gets.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// What is changed in a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    /// Variables, as `NAME=value`.
    #[serde(deserialize_with = "list")]
    pub(super) env: Vec<String>,
    /// Nodes.
    #[serde(deserialize_with = "list")]
    pub(super) device_nodes: Vec<Node>,
    /// Files and directories.
    #[serde(deserialize_with = "list")]
    pub(super) mounts: Vec<Mount>,
    /// Programs, of which nothing is read.
    #[serde(deserialize_with = "list")]
    pub(super) hooks: Vec<Value>,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    /// Inside.
    pub(super) path: PathBuf,
    /// On the host, where it is another.
    #[serde(default)]
    pub(super) host_path: Option<PathBuf>,
}

/// A mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(default, deserialize_with = "list")]
    pub(super) options: Vec<String>,
}

/// A list; one that is there without a value is empty.
fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A name such as `0` may lack its quotes in YAML.
fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        Value::Number(n) => Ok(n.to_string()),
        _ => Err(serde::de::Error::custom("a device's name is no text")),
    }
}

/// The spec that `text` of `file` is; its end tells YAML from JSON.
///
/// Errors: neither, a version that is not understood, no kind, too much of anything.
pub(super) fn parse(text: &str, file: &Path) -> Result<Spec, String> {
    let value: Value = match file.extension().is_some_and(|e| e == "json") {
        true => serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?,
        false => super::yaml::value(text)?,
    };
    let text = Text::deserialize(value).map_err(|e| format!("it is no CDI spec: {e}"))?;
    // What a later major version means nobody knows; within one, what is added is left out.
    if !["0.", "1."].iter().any(|known| text.cdi_version.trim_start_matches('v').starts_with(known)) {
        return Err(format!("its cdiVersion is {:.20?}, and 0.x and 1.x are understood", text.cdi_version));
    }
    if text.kind.split_once('/').is_none_or(|(vendor, class)| vendor.is_empty() || class.is_empty()) {
        return Err(format!("its kind {:.80?} is no vendor/class", text.kind));
    }
    let edits = text.container_edits.unwrap_or_default();
    let all = text.devices.iter().map(|d| &d.container_edits).chain([&edits]);
    let most = all.map(|e| e.env.len().max(e.device_nodes.len()).max(e.mounts.len()).max(e.hooks.len())).max().unwrap_or(0);
    if text.devices.len() > MAX_DEVICES || most > MAX_EDITS {
        return Err(format!("it has more than {MAX_DEVICES} devices, or a device has more than {MAX_EDITS} nodes, mounts or hooks"));
    }
    Ok(Spec { file: file.to_owned(), kind: text.kind, devices: text.devices, edits })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Result<Spec, String> {
        parse(text, Path::new("/etc/cdi/a.json"))
    }

    #[test]
    fn what_nvidias_tool_writes_is_read_from_yaml() {
        let text = "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  env:\n  - NVIDIA_VISIBLE_DEVICES=void\n  hooks:\n  - hookName: createContainer\n    path: /usr/bin/nvidia-cdi-hook\n  mounts:\n  - containerPath: /usr/lib/libcuda.so.1\n    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.1\n    options: [ro, nosuid, nodev, bind]\ndevices:\n- name: 0\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n";
        let spec = parse(text, Path::new("/etc/cdi/nvidia.yaml")).unwrap();
        assert_eq!((spec.devices[0].name.as_str(), spec.edits.hooks.len(), spec.edits.mounts[0].options.len()), ("0", 1, 4));
        assert_eq!(spec.devices[0].container_edits.device_nodes[0].path, Path::new("/dev/nvidia0"));
    }

    #[test]
    fn a_version_that_nobody_knows_and_what_is_no_spec_is_refused_with_its_reason() {
        for (bad, why) in [
            (r#"{"cdiVersion": "2.0.0", "kind": "a/b"}"#, "cdiVersion"),
            (r#"{"cdiVersion": "0.5.0", "kind": "gpu"}"#, "vendor/class"),
            (r#"{"kind": "a/b"}"#, "cdiVersion"),
            (r#"{"cdiVersion": "0.5.0", "kind": "a/b", "devices": [{"name": []}]}"#, "name"),
            ("[]", "no CDI spec"),
            ("", "no JSON"),
        ] {
            assert!(json(bad).unwrap_err().contains(why), "{bad}");
        }
        let many = format!(r#"{{"cdiVersion": "0.5.0", "kind": "a/b", "containerEdits": {{"env": [{}""]}}}}"#, "\"\",".repeat(2000));
        assert!(json(&many).unwrap_err().contains("more than"));
        assert!(json(r#"{"cdiVersion": "v0.8.0", "kind": "a/b", "new": 1, "devices": null}"#).is_err());
        assert!(json(r#"{"cdiVersion": "1.0.0", "kind": "a/b", "new": 1, "containerEdits": {"env": null}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\"?(cdiVersion|kind|devices|containerEdits|name|path)\"?: ?|[-{}\\[\\],\"0.5a/ \n]|\\PC){0,60}") {
            let _ = (json(&text), parse(&text, Path::new("a.yaml")));
        }
    }
}
