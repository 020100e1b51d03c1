//! How open a policy leaves its workers: 0.0 (tight) to 10.0 (open), each part of it with the setting that adds or saves it.
//!
//! ```text
//!  score = 10 · Σ weight · openness / Σ weight      over the table in `points`; openness is 0 (closed) to 1 (open)
//! ```
//! It compares policies; it proves nothing. Owns the table and its weights. Must never know how a setting is enforced.

mod confinement;
mod gap;
mod points;
mod reach;
mod resources;

use serde::{Deserialize, Serialize};

pub use gap::{Extent, Gap, Remains};

use crate::Policy;

/// Weight of what is not in force and stands in no point of the table.
const OTHER_GAP: u32 = 2;
/// The most open.
const MAX: f64 = 10.0;

/// What one setting adds to the score, of what it could.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The setting's key in the policy, or the name of what is not in force.
    pub setting: String,
    /// What the policy has there.
    pub value: String,
    /// Share in the whole, relative to the other points.
    pub weight: u32,
    /// What it adds to the score, 0.0 where it is as tight as can be.
    pub adds: f64,
    /// What it saves: `adds` and `saves` together are what the setting could add at most.
    pub saves: f64,
    /// Why it counts as open although the policy says otherwise: this host does not enforce it.
    pub not_in_force: Option<String>,
    /// What would lower it; `null` where nothing is to be gained.
    pub remedy: Option<String>,
}

/// In words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// At most 2.0.
    Tight,
    /// At most 4.0.
    Guarded,
    /// At most 6.5.
    Exposed,
    /// Above.
    Open,
}

/// A policy's score.
///
/// In JSON `{"score": 0.9, "rating": "tight", "points": [{"setting", "value", "weight", "adds", "saves", "not_in_force", "remedy"}]}`, the
/// points in the table's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// 0.0 to 10.0, one decimal.
    pub score: f64,
    /// The same in a word.
    pub rating: Rating,
    /// What it is made of.
    pub points: Vec<Point>,
}

impl Rating {
    /// As the JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tight => "tight",
            Self::Guarded => "guarded",
            Self::Exposed => "exposed",
            Self::Open => "open",
        }
    }

    fn of(score: f64) -> Self {
        match score {
            s if s <= 2.0 => Self::Tight,
            s if s <= 4.0 => Self::Guarded,
            s if s <= 6.5 => Self::Exposed,
            _ => Self::Open,
        }
    }
}

/// What a point finds in a policy.
struct Measured {
    value: String,
    /// 0 (closed) to 1 (open).
    openness: f64,
    remedy: &'static str,
}

/// The score of a policy where `gaps` are not in force; without gaps that of the policy as it is written.
pub fn exposure(policy: &Policy, gaps: &[Gap]) -> Exposure {
    points::decided(policy);
    let total: u32 = points::POINTS.iter().map(|p| p.weight).sum();
    let share = |weight: u32, openness: f64| MAX * f64::from(weight) * openness / f64::from(total);
    let mut points = Vec::new();
    let mut sum = 0.0;
    for row in points::POINTS {
        let Measured { value, openness, remedy } = (row.measure)(policy);
        let gap =
            gaps.iter().filter(|gap| gap.is_exposure() && gap.is_about(row.setting)).max_by(|a, b| a.openness().total_cmp(&b.openness()));
        let openness = gap.map_or(openness, |gap| openness.max(gap.openness())).clamp(0.0, 1.0);
        let (adds, most) = (share(row.weight, openness), share(row.weight, 1.0));
        sum += adds;
        points.push(Point {
            setting: row.setting.to_owned(),
            value,
            weight: row.weight,
            adds: hundredths(adds),
            saves: hundredths(most - adds),
            not_in_force: gap.map(|gap| gap.why.clone()),
            remedy: match gap {
                Some(_) => Some("let `rbee-hive doctor` say what this host lacks for it".to_owned()),
                None => (openness > 0.0).then(|| remedy.to_owned()),
            },
        });
    }
    for gap in gaps.iter().filter(|gap| gap.is_exposure() && !points::POINTS.iter().any(|row| gap.is_about(row.setting))) {
        let adds = share(OTHER_GAP, gap.openness());
        sum += adds;
        points.push(Point {
            setting: gap.setting.clone(),
            value: "not in force".to_owned(),
            weight: OTHER_GAP,
            adds: hundredths(adds),
            saves: 0.0,
            not_in_force: Some(gap.why.clone()),
            remedy: Some("let `rbee-hive doctor` say what this host lacks for it".to_owned()),
        });
    }
    let score = (sum.min(MAX) * 10.0).round() / 10.0;
    Exposure { score, rating: Rating::of(score), points }
}

fn hundredths(number: f64) -> f64 {
    // Plus 0.0: an empty sum is -0.0, which nobody wants to read.
    (number * 100.0).round() / 100.0 + 0.0
}

#[cfg(test)]
mod tests;
