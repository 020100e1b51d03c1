//! Sizes, times and CPU lists as people write them.

mod duration;
mod list;
mod size;

pub use duration::{InvalidDuration, parse_duration_ms};
pub use list::{InvalidList, NumberList};
pub use size::{InvalidSize, parse_size};
