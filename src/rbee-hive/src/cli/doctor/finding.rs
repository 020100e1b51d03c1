//! One line of the doctor's report.

use serde::Serialize;

/// Whether a feature is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// There.
    Ok,
    /// Not there.
    Missing,
    /// Can't be told from here.
    Unknown,
}

impl State {
    /// As the table has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// A feature, its state, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Name; that of a limit where it is one.
    pub(super) feature: String,
    /// Whether it is there.
    pub(super) state: State,
    /// One clause: what there is, or why not.
    pub(super) detail: String,
    /// What to do, where something can be done.
    pub(super) remedy: Option<String>,
    /// Whether it is about this process and not about the host.
    #[serde(skip)]
    pub(super) about_caller: bool,
}

impl Finding {
    /// A finding about the host without a remedy.
    pub(super) fn new(feature: &str, state: State, detail: impl Into<String>) -> Self {
        Self { feature: feature.to_owned(), state, detail: detail.into(), remedy: None, about_caller: false }
    }

    /// The same with a remedy.
    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// The same about this process.
    pub(super) fn about_caller(self) -> Self {
        Self { about_caller: true, ..self }
    }
}
