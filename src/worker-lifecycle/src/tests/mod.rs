//! The whole crate against a launcher and inits that are threads of the test, at the other ends of real channels.

mod fake_init;
mod fake_launcher;
pub(crate) mod forks;
pub(crate) mod hive;

mod admission;
mod ending;
mod explaining;
mod figures;
mod freezing;
mod idling;
mod leasing;
mod reaching;
mod starting;
mod telling;
mod updating;
