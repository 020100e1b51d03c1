//! Figures of a hive without cgroups: what an init can say is said, everything else is null with its reason.

use super::hive::{Hive, id};
use crate::{ErrorKind, HistoryRange};

#[tokio::test]
async fn without_cgroups_only_what_the_init_counts_is_measured_and_the_rest_says_why() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unix").await.unwrap();
    for view in [hive.spawner.status(&id("w")).await.unwrap(), hive.spawner.list(&Default::default()).await.remove(0)] {
        assert_eq!(
            (view.resources.io_read_bytes, view.resources.io_write_bytes, view.resources.cpu_usage_usec),
            (Some(11), Some(12), None)
        );
        let explained = |figure: &str| view.unmeasured.iter().any(|u| u.figure == figure && u.why.contains("mode none"));
        assert!(explained("memory_current") && explained("pressure") && explained("io_read_ops") && !explained("io_read_bytes"));
    }
    let ended = hive.stop("w", 0).await;
    assert_eq!(ended.resources.cpu_usage_usec, Some(7));
    let unmeasured = |figure: &str| ended.unmeasured.iter().any(|u| u.figure == figure);
    assert!(unmeasured("memory_peak") && !unmeasured("cpu_usage_usec"));
}

#[tokio::test]
async fn a_history_is_of_a_worker_that_is_listed_and_of_at_least_one_point() {
    let hive = Hive::start();
    assert_eq!(hive.spawner.history(&id("x"), HistoryRange::default()).await.unwrap_err().kind, ErrorKind::NotFound);
    hive.spawn("w", "serve", "unix").await.unwrap();
    let none = HistoryRange { max_points: Some(0), ..HistoryRange::default() };
    assert_eq!(hive.spawner.history(&id("w"), none).await.unwrap_err().kind, ErrorKind::InvalidParams);
    let told = hive.spawner.history(&id("w"), HistoryRange::default()).await.unwrap();
    assert!(told.times.is_empty() && told.unmeasured.len() == told.columns.len() && !told.columns.is_empty(), "{told:?}");
    hive.spawner.delete(&id("w")).await.unwrap();
    assert_eq!(hive.spawner.history(&id("w"), HistoryRange::default()).await.unwrap_err().kind, ErrorKind::NotFound);
}
