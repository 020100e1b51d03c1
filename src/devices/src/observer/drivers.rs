//! Real GPUs: one helper process for each, so that a hung driver is one GPU's misfortune.
//!
//! All are asked at once, whoever made them. One that did not answer in time is asked aside from then on, until it answers: it takes its
//! deadline from the others once, and not at every look.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Child;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::chain::chain;
use crate::inventory::ask::{Answer, Aside, AskError, ask_each};
use crate::inventory::drm::Use;
use crate::inventory::nvml::{Used, Watched, addresses};
use crate::{Gpu, GpuObservation, GpuProcess, Inventory, Vendor};

/// The helpers.
pub(super) struct Drivers {
    helper: Vec<OsString>,
    deadline: Duration,
    /// Those that hang in a driver, by the GPU that they were to ask.
    left: BTreeMap<u32, (Child, Instant)>,
    /// GPUs that did not answer in time and are asked aside; `None`: from the next look on.
    aside: BTreeMap<u32, Option<Aside>>,
}

/// A GPU, and what its helper is asked.
type Question = (u32, Vec<OsString>);

impl Drivers {
    pub(super) fn new(helper: Vec<OsString>, deadline: Duration) -> Self {
        Self { helper, deadline, left: BTreeMap::new(), aside: BTreeMap::new() }
    }

    pub(super) fn left_behind(&self) -> usize {
        self.left.len()
    }

    pub(super) fn observe(&mut self, inventory: &Inventory) -> BTreeMap<u32, GpuObservation> {
        self.left.retain(|_, (child, _)| matches!(child.try_wait(), Ok(None)));
        let mut seen: BTreeMap<u32, GpuObservation> =
            self.left.iter().map(|(index, (child, since))| (*index, silent(still(child, *since)))).collect();
        let questions = questions(inventory).into_iter().filter(|(n, _)| !seen.contains_key(n));
        let (aside, at_once): (Vec<Question>, Vec<Question>) = questions.partition(|(n, _)| self.aside.contains_key(n));
        // Before the others are waited for: that time is theirs, too.
        for question in &aside {
            self.put_aside(question);
        }
        let mut told = self.ask(at_once);
        told.extend(aside.into_iter().map(|(index, _)| (index, self.answer_aside(index))));
        for (index, answer) in told {
            let Some(gpu) = inventory.gpu(index) else { continue };
            if gpu.vendor != Vendor::Nvidia {
                seen.insert(index, answer.and_then(rendered).unwrap_or_else(silent));
                continue;
            }
            let used = answer.and_then(understood).and_then(|line: Watched| match line {
                Watched::Used(used) => Ok(used),
                Watched::Failed(why) => Err(why),
            });
            for part in inventory.gpus.iter().filter(|g| g.mig.as_ref().is_some_and(|m| m.parent == index)) {
                seen.insert(part.index, used.as_ref().map_or_else(|why| silent(why.clone()), |used| of_part(part, used)));
            }
            seen.insert(index, used.map_or_else(silent, whole));
        }
        silence_parts(inventory, &mut seen);
        seen
    }

    /// The first line of each answer, or why there is none.
    fn ask(&mut self, questions: Vec<Question>) -> Vec<(u32, Result<Value, String>)> {
        let (indices, questions): (Vec<u32>, Vec<Vec<OsString>>) = questions.into_iter().unzip();
        let answers = ask_each::<Value>(&self.helper, &questions, self.deadline);
        indices.into_iter().zip(answers).map(|(index, answer)| (index, self.take(index, answer))).collect()
    }

    fn put_aside(&mut self, (index, question): &Question) {
        let (helper, deadline) = (&self.helper, self.deadline);
        if let Some(place @ None) = self.aside.get_mut(index) {
            *place = Some(Aside::ask(helper, question, deadline));
        }
    }

    fn answer_aside(&mut self, index: u32) -> Result<Value, String> {
        match self.aside.get_mut(&index).and_then(Option::as_mut).map(Aside::answer) {
            Some(Some(answer)) => self.take(index, answer),
            _ => Err(format!("its driver did not answer within {} ms, and is asked again", self.deadline.as_millis())),
        }
    }

    /// What an answer says. Who was late is asked aside from now on.
    fn take(&mut self, index: u32, Answer { lines, trouble, left }: Answer<Value>) -> Result<Value, String> {
        match trouble {
            Some(AskError::Late(_)) => drop(self.aside.insert(index, None)),
            _ => drop(self.aside.remove(&index)),
        }
        if let Some(child) = left {
            self.left.insert(index, (child, Instant::now()));
        }
        let nothing = || trouble.as_ref().map_or_else(|| "the helper said nothing".to_owned(), |why| chain(why));
        lines.into_iter().next().ok_or_else(nothing)
    }
}

/// What each GPU's helper is asked.
fn questions(inventory: &Inventory) -> Vec<Question> {
    let question = |words: [&str; 2]| words.map(OsString::from).to_vec();
    let nvidia = addresses(inventory).into_iter().map(|(n, pci)| (n, question(["watch", &pci])));
    let others = inventory.gpus.iter().filter(|g| g.vendor != Vendor::Nvidia);
    nvidia.chain(others.filter_map(|g| Some((g.index, question(["drm", &g.minor()?.to_string()]))))).collect()
}

fn understood<T: DeserializeOwned>(line: Value) -> Result<T, String> {
    serde_json::from_value(line).map_err(|e| format!("understand the helper's answer: {e}"))
}

/// Of a GPU with a render node.
fn rendered(line: Value) -> Result<GpuObservation, String> {
    let used: Option<Use> = understood(line)?;
    let used = used.ok_or("it is gone: its render node is not in sysfs any more")?;
    Ok(GpuObservation { silent: None, memory_used_bytes: used.memory_used_bytes, processes: used.processes, xids: vec![] })
}

fn still(child: &Child, since: Instant) -> String {
    let (seconds, pid) = (since.elapsed().as_secs(), child.id());
    format!(
        "its driver has not answered for {seconds} s: the helper that asked (pid {pid}) hangs in the kernel, and no other asks before it ends"
    )
}

fn silent(why: String) -> GpuObservation {
    GpuObservation { silent: Some(why), memory_used_bytes: None, processes: None, xids: vec![] }
}

fn whole(used: Used) -> GpuObservation {
    let process = |p: &crate::inventory::nvml::Running| GpuProcess { pid: p.pid, memory_bytes: p.memory_bytes };
    let processes = used.processes.map(|list| list.iter().map(process).collect());
    GpuObservation { silent: None, memory_used_bytes: used.memory_used_bytes, processes, xids: vec![] }
}

fn of_part(part: &Gpu, used: &Used) -> GpuObservation {
    let own = part.mig.as_ref().map(|m| (m.gpu_instance, m.compute_instance));
    let memory = used.parts.iter().find(|(gi, ci, _)| Some((*gi, *ci)) == own).and_then(|(.., bytes)| *bytes);
    let of = |list: &Vec<_>| -> Vec<_> { list.iter().filter(|p: &&crate::inventory::nvml::Running| p.part == own).copied().collect() };
    let processes = used.processes.as_ref().map(of);
    whole(Used { memory_used_bytes: memory, processes, parts: vec![] })
}

/// A part of a GPU that does not answer does not either.
fn silence_parts(inventory: &Inventory, seen: &mut BTreeMap<u32, GpuObservation>) {
    for gpu in &inventory.gpus {
        let Some(mig) = &gpu.mig else { continue };
        if let Some(why) = seen.get(&mig.parent).and_then(|parent| parent.silent.clone()) {
            seen.insert(gpu.index, silent(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mig;

    fn inventory() -> Inventory {
        let nvidia = |n: u32| Gpu { pci: Some(format!("0000:0{n}:00.0")), ..Gpu::new(n, Vendor::Nvidia, "H100".into()) };
        let amd = Gpu { nodes: vec!["/dev/dri/renderD128".into()], ..Gpu::new(2, Vendor::Amd, "MI300".into()) };
        let intel = Gpu { nodes: vec!["/dev/dri/renderD129".into()], ..Gpu::new(3, Vendor::Intel, "Max".into()) };
        let part = |index: u32, gpu_instance| Gpu {
            mig: Some(Mig { parent: 0, gpu_instance, compute_instance: 0, profile: None }),
            ..nvidia(index)
        };
        Inventory { gpus: vec![nvidia(0), nvidia(1), amd, intel, part(4, 1), part(5, 2)], ..Inventory::default() }
    }

    fn drivers(script: &str, deadline: u64) -> Drivers {
        Drivers::new(["sh", "-c", script, "helper"].map(OsString::from).to_vec(), Duration::from_secs(deadline))
    }

    const ANSWERS: &str = r#"case $2 in
        0000:00:00.0) echo '{"used":{"memory_used_bytes":9,"processes":[{"pid":7,"memory_bytes":4,"part":[1,0]},{"pid":8,"memory_bytes":null,"part":[2,0]}],"parts":[[1,0,5]]}}';;
        0000:01:00.0) echo '{"failed":"the GPU is lost"}';;
        128) echo '{"memory_used_bytes":3,"processes":[]}';;
        129) echo null;;
        esac"#;

    #[test]
    fn each_gpu_tells_for_itself_and_parts_get_their_own_share_of_what_the_parent_tells() {
        let seen = drivers(ANSWERS, 20).observe(&inventory());
        assert_eq!(
            seen[&0].processes.as_ref().map(|p| p.iter().map(|p| (p.pid, p.memory_bytes)).collect::<Vec<_>>()),
            Some(vec![(7, Some(4)), (8, None)])
        );
        assert_eq!((seen[&0].memory_used_bytes, seen[&4].memory_used_bytes, seen[&5].memory_used_bytes), (Some(9), Some(5), None));
        assert_eq!(seen[&5].processes.as_ref().map(|p| p[0].pid), Some(8));
        assert_eq!((seen[&1].silent.as_deref(), seen[&1].memory_used_bytes), (Some("the GPU is lost"), None));
        assert_eq!((seen[&2].memory_used_bytes, seen[&2].processes.as_deref()), (Some(3), Some(&[][..])));
        assert!(seen[&3].silent.as_ref().is_some_and(|why| why.contains("gone")), "{seen:?}");
    }

    #[test]
    fn a_gpu_that_hangs_is_silent_with_its_parts_and_no_other_is() {
        let mut drivers = drivers(r#"[ $2 = 0000:00:00.0 ] && exec sleep 60; echo '{"used":{"memory_used_bytes":1}}'"#, 3);
        let mut host = inventory();
        host.gpus.retain(|g| g.vendor == Vendor::Nvidia);
        let seen = drivers.observe(&host);
        let silent: Vec<u32> = seen.iter().filter(|(_, g)| g.silent.is_some()).map(|(n, _)| *n).collect();
        assert_eq!(
            (silent, seen[&1].memory_used_bytes, drivers.left_behind()),
            (vec![0, 4, 5], Some(1), 0),
            "a killed helper is not left behind"
        );
    }

    #[test]
    fn a_gpu_that_hangs_takes_its_deadline_from_the_others_once_and_is_heard_again_when_it_answers() {
        let healed = tempfile::NamedTempFile::new().unwrap();
        let path = healed.path().to_owned();
        healed.close().unwrap();
        // One of each maker hangs. The deadline is what both looks are measured by: starting some helpers takes its time, too.
        const DEADLINE: u64 = 8;
        let deadline = Duration::from_secs(DEADLINE);
        let hangs = format!("case $2 in 0000:00:00.0|128) [ -e {} ] || exec sleep 60;; esac", path.display());
        let mut drivers = drivers(&format!("{hangs}\n{ANSWERS}"), DEADLINE);
        let look = |drivers: &mut Drivers| {
            let began = Instant::now();
            let seen = drivers.observe(&inventory());
            let silent: Vec<u32> = seen.iter().filter(|(_, g)| g.silent.is_some()).map(|(n, _)| *n).collect();
            (silent, began.elapsed())
        };
        let (silent, first) = look(&mut drivers);
        assert_eq!(silent, [0, 1, 2, 3, 4, 5], "two hang, one is lost, one is gone, and so are the parts");
        assert!(first < 2 * deadline, "{first:?}: both makers are asked at once");
        let (silent, second) = look(&mut drivers);
        assert!(silent.contains(&0) && silent.contains(&2), "{silent:?}");
        assert!(second < deadline, "{second:?}: the others are waited for, and no more");
        std::fs::write(&path, "").unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while look(&mut drivers).0 != [1, 3] {
            assert!(Instant::now() < until, "they answer again and are not heard");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(drivers.aside.is_empty() && drivers.left_behind() == 0);
    }

    #[test]
    fn while_a_helper_hangs_in_the_kernel_its_gpu_is_silent_and_not_asked_again() {
        // One that nobody kills stands for one that can't be killed.
        let mut drivers = drivers("echo '{\"used\":{\"memory_used_bytes\":1}}'", 20);
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drivers.left.insert(0, (child, Instant::now()));
        let mut host = inventory();
        host.gpus.truncate(2);
        let seen = drivers.observe(&host);
        assert!(seen[&0].silent.as_ref().is_some_and(|why| why.contains("hangs in the kernel")) && seen[&1].silent.is_none(), "{seen:?}");
        assert_eq!(drivers.left_behind(), 1);
        let (child, _) = drivers.left.get_mut(&0).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = drivers.observe(&host);
        assert!(seen[&0].silent.is_none() && drivers.left_behind() == 0, "it answers again: {seen:?}");
    }
}
