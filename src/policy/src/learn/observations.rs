//! What was seen of a watched command. Bounded by who fills it in; read as untrusted by who proposes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most programs that one observation names.
const MAX_PROGRAMS: usize = 4;
/// A program's name is at most 15 bytes (prctl(2), PR_SET_NAME).
const MAX_NAME: usize = 15;
/// What an entry takes in JSON beside its words: field names, uses, quotes.
const ENTRY: usize = 160;

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observations {
    /// The program that was executed, by the path that it was found under.
    pub program: Option<PathBuf>,
    /// System calls by name (by number where they have none), and who made them.
    pub calls: BTreeMap<String, Programs>,
    /// What was used below the root, each by its path without links; the links on the way are entries of their own.
    pub files: BTreeMap<PathBuf, SeenFile>,
    /// Looked for, and not there in the sandbox.
    pub missing: BTreeSet<PathBuf>,
    /// There, and not to be opened in the way that was asked for.
    pub refused: BTreeSet<PathBuf>,
    /// Internet sockets.
    pub network: SeenNetwork,
    /// Most tasks at one time; `None` where no counter tells.
    pub tasks: Option<u64>,
    /// Size of the largest table of descriptors.
    pub descriptors: Option<u64>,
    /// What was not seen.
    pub gaps: BTreeSet<Gap>,
}

/// Names of programs; at most four are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Programs(BTreeSet<String>);

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    /// What it is.
    pub kind: Kind,
    /// What was done with it.
    pub uses: BTreeSet<Use>,
    /// By whom.
    pub by: Programs,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file, socket or pipe.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device node.
    Device,
}

/// What was done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Its attributes were asked for, or it lay on the way.
    Look,
    /// Opened for reading.
    Read,
    /// Opened for writing, made, changed or removed.
    Write,
    /// Executed, or the interpreter of what was.
    Execute,
    /// Its entries were listed.
    List,
}

/// Internet sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenNetwork {
    /// Ports that were bound, 0 for one that the kernel picks.
    pub ports: BTreeSet<u16>,
    /// Whether anything listened.
    pub listens: bool,
    /// Whether sockets for datagrams were made.
    pub datagrams: bool,
    /// Where it connected or sent to.
    pub targets: BTreeSet<Target>,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// To this port of a loopback address.
    Loopback(u16),
    /// Anywhere else.
    Elsewhere,
}

/// Something that was not seen, so that nothing can be left out for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// A path could not be read from the memory of the process.
    Words,
    /// It may have come to other files by ways that are not seen: a root or mounts of its own, or a ring of requests.
    Ways,
    /// There were more paths than are kept.
    Paths,
    /// An address could not be read, or there were more than are kept.
    Addresses,
}

impl Programs {
    /// Just this one.
    pub fn of(name: &str) -> Self {
        let mut programs = Self::default();
        programs.add(name);
        programs
    }

    /// Adds one; characters that steer a terminal or end a line are replaced.
    pub fn add(&mut self, name: &str) {
        if self.0.len() < MAX_PROGRAMS {
            self.0.insert(name.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect());
        }
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|name| self.add(name));
    }

    fn len(&self) -> usize {
        // A character of a name may take six in JSON.
        self.0.iter().map(|n| 6 * n.len() + 3).sum()
    }
}

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|n| n.chars().map(|c| if c.is_control() { '?' } else { c }).collect()).collect();
        match self.0.len() {
            0 => f.write_str("a program without a name"),
            MAX_PROGRAMS => write!(f, "{} and perhaps others", names.join(", ")),
            _ => f.write_str(&names.join(", ")),
        }
    }
}

impl Observations {
    /// In parts that are at most about `bytes` long each as JSON, in an order in which [`Self::absorb`] puts them together again.
    pub fn into_parts(mut self, bytes: usize) -> Vec<Self> {
        let (files, missing, refused) =
            (std::mem::take(&mut self.files), std::mem::take(&mut self.missing), std::mem::take(&mut self.refused));
        let mut parts = vec![self];
        // The first part has what is no path: the kernel's calls, a few hundred at most.
        let mut room = 0;
        let mut put = |length: usize, add: &mut dyn FnMut(&mut Self)| {
            if length > room {
                parts.push(Self::default());
                room = bytes;
            }
            room = room.saturating_sub(length);
            parts.last_mut().into_iter().for_each(add);
        };
        for (path, file) in files {
            let length = weight(&path) + file.by.len();
            put(length, &mut |part| drop(part.files.insert(path.clone(), file.clone())));
        }
        for path in missing {
            put(weight(&path), &mut |part| part.missing.extend([path.clone()]));
        }
        for path in refused {
            put(weight(&path), &mut |part| part.refused.extend([path.clone()]));
        }
        parts
    }

    /// Adds another part.
    pub fn absorb(&mut self, part: Self) {
        self.program = self.program.take().or(part.program);
        self.calls.extend(part.calls);
        self.files.extend(part.files);
        self.missing.extend(part.missing);
        self.refused.extend(part.refused);
        self.network.ports.extend(part.network.ports);
        self.network.targets.extend(part.network.targets);
        self.network.listens |= part.network.listens;
        self.network.datagrams |= part.network.datagrams;
        self.tasks = self.tasks.max(part.tasks);
        self.descriptors = self.descriptors.max(part.descriptors);
        self.gaps.extend(part.gaps);
    }
}

fn weight(path: &std::path::Path) -> usize {
    // A control character takes six in JSON; of others at most two.
    ENTRY + path.as_os_str().as_encoded_bytes().iter().map(|b| if b.is_ascii_control() { 6 } else { 2 }).sum::<usize>()
}
