//! Observing simulated GPUs.

use std::path::Path;

use super::*;

const HEAD: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\npci = \"0000:01:00.0\"\n";

fn rewrite(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

fn observer(text: &str) -> (tempfile::TempDir, PathBuf, Observer) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("d.toml");
    rewrite(&file, text);
    let inventory = Inventory::from_simulation(text, &file.display().to_string()).unwrap();
    let observer = Observer::new(inventory, vec![], Duration::ZERO);
    (directory, file, observer)
}

#[test]
fn each_look_reads_the_file_anew_and_a_gpu_that_is_not_in_it_is_gone() {
    let two = format!("{HEAD}memory_used = \"1GiB\"\n[[gpu]]\nindex = 1\nvendor = \"amd\"\nprocesses = []\n");
    let (_kept, file, mut observer) = observer(&two);
    let seen = observer.observe().gpus;
    assert_eq!((seen[&0].memory_used_bytes, seen[&0].processes.clone(), seen[&1].processes.clone()), (Some(1 << 30), None, Some(vec![])));
    rewrite(&file, &format!("{HEAD}memory_used = \"2GiB\"\nprocesses = [{{ pid = 7 }}]\nhangs = true\n"));
    let seen = observer.observe().gpus;
    assert!(seen[&0].silent.is_some() && seen[&0].memory_used_bytes.is_none() && seen[&0].processes.is_none(), "{seen:?}");
    assert!(seen[&1].silent.as_ref().is_some_and(|why| why.contains("gone")), "{seen:?}");
}

#[test]
fn a_fault_is_told_once_whether_the_file_or_the_kernels_log_tells_it() {
    let (_kept, file, mut observer) = observer(&format!("{HEAD}xid = [{{ code = 13, pid = 7, id = \"a\" }}]\n"));
    let codes = |observer: &mut Observer| observer.observe().gpus[&0].xids.iter().map(|x| x.code).collect::<Vec<_>>();
    assert_eq!(codes(&mut observer), [13]);
    assert!(codes(&mut observer).is_empty(), "it was told");
    rewrite(&file, &format!("{HEAD}xid = [{{ code = 13, id = \"a\" }}, {{ code = 79, id = \"b\" }}]\n"));
    observer.kernel_log("4,9,1,-;NVRM: Xid (PCI:0000:01:00): 31, pid=8\n4,10,1,-;NVRM: Xid (PCI:0000:02:00): 48, pid=8\n");
    assert_eq!(codes(&mut observer), [31, 79]);
    observer.kernel_log("4,9,1,-;NVRM: Xid (PCI:0000:01:00): 31, pid=8\n");
    assert!(codes(&mut observer).is_empty());
}

#[test]
fn a_fault_of_a_part_is_its_own_and_its_parents_and_one_that_names_no_part_is_everybodys() {
    let parts = "[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\n[[gpu.mig]]\ngpu_instance = 2\ncompute_instance = 0\n";
    let (_kept, _, mut observer) = observer(&format!("{HEAD}{parts}"));
    observer.kernel_log("4,1,1,-;NVRM: Xid (PCI:0000:01:00 GPU-I:02): 13, pid=8\n4,2,1,-;NVRM: Xid (PCI:0000:01:00): 79, pid=8");
    let codes: Vec<Vec<u32>> = observer.observe().gpus.values().map(|g| g.xids.iter().map(|x| x.code).collect()).collect();
    assert_eq!(codes, [vec![13, 79], vec![79], vec![13, 79]]);
}

#[test]
fn faults_without_end_are_bounded() {
    let (_kept, _, mut observer) = observer(HEAD);
    let log: String = (0..5000).map(|n| format!("4,{n},1,-;NVRM: Xid (PCI:0000:01:00): 13, pid=8\n")).collect();
    observer.kernel_log(&log);
    assert_eq!(observer.observe().gpus[&0].xids.len(), MAX_FAULTS);
}

#[test]
fn a_file_that_can_not_be_read_is_no_observation_and_says_why() {
    let (_kept, file, mut observer) = observer(HEAD);
    rewrite(&file, "[[gpu]]\nindex = 0\nvendor = \"matrox\"\n");
    assert!(observer.observe().gpus.is_empty() && observer.blind().is_some_and(|why| why.contains("matrox")));
    std::fs::remove_file(&file).unwrap();
    assert!(observer.observe().gpus.is_empty() && observer.blind().is_some_and(|why| why.contains("No such file")));
    rewrite(&file, HEAD);
    assert!(observer.observe().gpus.len() == 1 && observer.blind().is_none());
}

#[test]
fn many_who_ask_at_once_make_one_look() {
    let (_kept, file, observer) = observer(&format!("{HEAD}memory_used = \"1GiB\"\n"));
    let cache = ObserverCache::new(observer, Duration::from_secs(3600));
    let first = cache.recent();
    rewrite(&file, &format!("{HEAD}memory_used = \"2GiB\"\n"));
    assert_eq!(cache.recent(), first, "it is young enough");
    std::fs::write(&file, "x").unwrap();
    assert!(cache.blind().is_none() && cache.look().gpus.is_empty() && cache.blind().is_some_and(|why| why.contains("not read again")));
    rewrite(&file, HEAD);
    assert!(cache.look().gpus.len() == 1 && cache.blind().is_none());
    let (_other, file, observer) = self::observer(HEAD);
    let none = ObserverCache::new(observer, Duration::ZERO);
    rewrite(&file, &format!("{HEAD}memory_used = \"2GiB\"\n"));
    assert_eq!(none.recent().gpus[&0].memory_used_bytes, Some(2 << 30), "it is too old at once");
}
