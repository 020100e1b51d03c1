//! Records against a real directory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::WorkerState;
use crate::tests::hive::eventually;
use crate::tests::plans;

fn opened(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn open(directory: &Path) -> (Arc<Records>, Before) {
    Records::open(Some(&opened(directory)))
}

fn record(directory: &Path, name: &str) -> PathBuf {
    directory.join("workers").join(name)
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(record(directory, name)).unwrap_or_default()
}

/// A directory with the records of these workers.
async fn with(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (records, _) = open(directory.path());
    for name in names {
        let (_view, worker) = plans::worker(name);
        records.begin(&worker).await;
    }
    directory
}

#[tokio::test]
async fn a_worker_is_written_down_as_it_changes_and_read_again_as_it_was_seen_last() {
    let directory = tempfile::tempdir().unwrap();
    let (records, before) = open(directory.path());
    assert!(before.listed.is_empty() && before.deleted.is_empty());
    let (view, worker) = plans::worker("w");
    let _ = worker.known.lease_id.set("lease:7".into());
    *lock(&worker.known.frozen_by) = Some(crate::state::FrozenBy::Idle);
    records.begin(&worker).await;
    assert!(text(directory.path(), "w.json").contains("\"starting\""), "the first one is there when its start goes on");
    for n in 0..20 {
        view.send_modify(|view| view.generation = 100 + n);
    }
    view.send_modify(|view| view.state = WorkerState::Ready);
    eventually("the last change is not written", || text(directory.path(), "w.json").contains("\"ready\"")).await;
    let (_, before) = open(directory.path());
    let read = &before.listed[0];
    assert_eq!((&read.worker, before.listed.len()), (&worker.view(), 1));
    assert_eq!((read.lease_id.as_deref(), read.frozen_by), (Some("lease:7"), Some(crate::state::FrozenBy::Idle)));
    assert_eq!(read.known().lease_id.get().map(String::as_str), Some("lease:7"));
    drop(view);
    eventually("the keeper goes on", || matches!(&*lock(&worker.known.kept), Kept::By(keeper) if keeper.is_finished())).await;
}

#[tokio::test]
async fn what_is_no_record_is_set_aside_and_the_others_are_read() {
    let own = rustix::process::geteuid().is_root();
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 9] = [
        ("it is empty", |path| std::fs::write(path, "").unwrap()),
        ("it is no record", |path| {
            let whole = std::fs::read(path).unwrap();
            std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
        }),
        ("its version is 2", |path| {
            let whole = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, whole.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
        }),
        ("at most", |path| std::fs::write(path, vec![b' '; (1 << 20) + 1]).unwrap()),
        ("symbolic link", |path| {
            let elsewhere = path.with_file_name("elsewhere");
            std::fs::rename(path, &elsewhere).unwrap();
            symlink(&elsewhere, path).unwrap();
        }),
        ("no regular file", |path| {
            std::fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("no regular file", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
        ("the record of worker \"other\"", |path| {
            let whole = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, whole.replace("\"worker_id\":\"w\"", "\"worker_id\":\"other\"")).unwrap();
        }),
        ("belongs to uid", |path| std::os::unix::fs::chown(path, Some(12345), None).unwrap()),
    ];
    for (why, spoil) in cases.into_iter().filter(|(why, _)| own || *why != "belongs to uid") {
        let directory = with(&["v", "w"]).await;
        spoil(&record(directory.path(), "w.json"));
        let (records, before) = open(directory.path());
        let names: Vec<_> = before.listed.iter().map(|r| r.worker.worker_id.as_str()).collect();
        assert_eq!(names, ["v"], "{why}");
        let notes = records.notes();
        assert!(notes.len() == 1 && notes[0].contains(why) && notes[0].contains("w.json.bad-1"), "{why}: {notes:?}");
        assert!(record(directory.path(), "w.json.bad-1").symlink_metadata().is_ok() && !record(directory.path(), "w.json").exists());
        let (records, _) = open(directory.path());
        assert!(records.notes().is_empty(), "and is not looked at again");
    }
}

#[tokio::test]
async fn what_was_set_aside_is_bounded_and_what_was_not_finished_goes() {
    let directory = with(&["v"]).await;
    for n in 0..100 {
        std::fs::write(record(directory.path(), &format!("w{n}.json")), "").unwrap();
    }
    std::fs::write(record(directory.path(), ".x.json.new"), "").unwrap();
    let (_, before) = open(directory.path());
    let names: Vec<_> = std::fs::read_dir(directory.path().join("workers")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let bad = names.iter().filter(|n| n.to_string_lossy().contains(".bad-")).count();
    assert!(before.listed.len() == 1 && bad <= 64 && names.len() == bad + 1, "{bad} of {names:?}");
}

#[tokio::test]
async fn a_folder_that_is_none_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    symlink("/tmp", directory.path().join("workers")).unwrap();
    let (records, _) = open(directory.path());
    let (_view, worker) = plans::worker("w");
    records.begin(&worker).await;
    assert!(record(directory.path(), "w.json").exists() && directory.path().join("workers.bad-1").symlink_metadata().unwrap().is_symlink());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_and_tried_again_and_the_record_of_before_stays() {
    let directory = with(&["w"]).await;
    let before = text(directory.path(), "w.json");
    let (records, _) = open(directory.path());
    // What it would write first can't be made.
    let in_the_way = record(directory.path(), ".w.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let (view, worker) = plans::worker("w");
    view.send_modify(|view| view.state = WorkerState::Ready);
    records.begin(&worker).await;
    eventually("it is not told", || records.notes().iter().any(|n| n.contains("w.json") && n.contains("workers go on"))).await;
    assert_eq!(text(directory.path(), "w.json"), before);
    std::fs::remove_dir(&in_the_way).unwrap();
    view.send_modify(|view| view.generation += 1);
    eventually("it is not tried again", || text(directory.path(), "w.json").contains("\"ready\"")).await;
    assert!(records.notes().is_empty());
}

#[tokio::test]
async fn a_refused_start_leaves_nothing_and_a_deleted_worker_what_explains_it() {
    let directory = tempfile::tempdir().unwrap();
    let (records, _) = open(directory.path());
    let ((_a, refused), (_b, deleted)) = (plans::worker("refused"), plans::worker("deleted"));
    records.begin(&refused).await;
    records.begin(&deleted).await;
    records.end(&refused, Fate::Refused).await;
    records.begin(&refused).await;
    let at = "2026-01-01T00:00:00.000Z".to_owned();
    records.end(&deleted, Fate::Deleted { at: at.clone() }).await;
    let (_, before) = open(directory.path());
    assert!(before.listed.is_empty() && before.deleted.len() == 1);
    assert_eq!((before.deleted[0].worker.worker_id.as_str(), before.deleted[0].deleted_at.as_ref()), ("deleted", Some(&at)));
    records.forget_deleted("deleted").await;
    assert_eq!(std::fs::read_dir(directory.path().join("workers")).unwrap().count(), 0);
}

#[tokio::test]
async fn of_many_deleted_workers_the_last_ones_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (records, _) = open(directory.path());
    for n in 0..DELETED_KEPT + 3 {
        let (_view, worker) = plans::worker(&format!("w{n}"));
        records.begin(&worker).await;
        records.end(&worker, Fate::Deleted { at: format!("2026-01-01T00:00:00.{n:03}Z") }).await;
    }
    let (_, before) = open(directory.path());
    assert_eq!(
        (before.deleted.len(), before.deleted[0].worker.worker_id.as_str()),
        (DELETED_KEPT, format!("w{}", DELETED_KEPT + 2).as_str())
    );
    assert_eq!(std::fs::read_dir(directory.path().join("workers")).unwrap().count(), DELETED_KEPT);
}
