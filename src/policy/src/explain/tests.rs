use super::*;
use crate::{Policy, embedded};

fn traced(text: &str) -> Traced {
    Policy::trace("test", "test.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap()
}

fn row(all: &[Explained], setting: &str, value: &str) -> String {
    let found = all.iter().find(|e| e.setting == setting && e.value.starts_with(value));
    found.map_or_else(|| format!("{setting} {value} is not there: {all:#?}"), |e| e.from.clone())
}

#[test]
fn every_value_is_from_a_line_or_a_default() {
    let all = explain(&traced(
        "include = [\"fragments/inference\"]\n[worker]\nbinary = \"x\"\nstop_grace = \"3s\"\n[limits]\nmemory_max = \"1GiB\"\n\
         [filesystem]\nread_only = [\n  \"/usr\",\n  { path = \"/opt\", optional = true },\n]\n\
         [request]\nmay_set = [\"limits\"]\n[request.max]\nmemory_max = \"2GiB\"\n",
    ));
    assert_eq!(row(&all, "worker.binary", "x"), "test.toml:3");
    assert_eq!(row(&all, "worker.stop_grace", "3s"), "test.toml:4");
    assert_eq!(row(&all, "worker.stop_signal", "SIGTERM"), "fragments/inference.toml:4");
    assert_eq!(row(&all, "readiness.http", "/health"), "fragments/inference.toml:8");
    assert_eq!(row(&all, "worker.command", "{binary} --model"), "default");
    assert_eq!(row(&all, "limits.memory_max", "1GiB (required)"), "test.toml:6");
    assert_eq!(row(&all, "limits.pids_max", "512 (if_available)"), "default");
    assert_eq!(row(&all, "filesystem.read_only", "/opt (if"), "test.toml:10");
    assert_eq!(row(&all, "filesystem.read_write", "none"), "default");
    assert_eq!(row(&all, "request.max.memory_max", "2GiB"), "test.toml:15");
    assert_eq!(row(&all, "process.umask", "0022"), "default");
}

#[test]
fn the_seccomp_profile_is_explained_entry_by_entry() {
    let all = explain(&traced("[worker]\nbinary = \"x\"\n"));
    let profile = embedded::fragment("seccomp/inference").unwrap();
    let entries = profile.matches("\n[[allow]]").count() + profile.matches("\n[[refuse]]").count();
    let told: Vec<_> = all.iter().filter(|e| e.file.as_deref() == Some("seccomp/inference.toml")).collect();
    assert_eq!(told.len(), entries);
    for entry in told {
        let header = profile.lines().nth(entry.line.unwrap() - 1).unwrap();
        assert!(header.starts_with("[["), "{header} is no entry");
        let reason = profile.lines().nth(entry.line.unwrap()).unwrap();
        assert!(reason.starts_with("reason"), "{reason}");
    }
}

#[test]
fn every_line_that_a_policy_writes_is_the_origin_of_something() {
    for name in embedded::names() {
        let traced = traced(embedded::policy(name).unwrap());
        let told: Vec<usize> =
            explain(&traced).into_iter().filter(|e| e.file.as_deref() == Some("test.toml")).filter_map(|e| e.line).collect();
        for unit in traced.origins.own_units().filter(|unit| !unit.starts_with("include[")) {
            let line = traced.origins.in_own_file(unit).unwrap().line;
            assert!(told.contains(&line), "{name}: {unit} in line {line} explains nothing");
        }
    }
}
