//! Sets in which every pair fits: a search in depth that leaves a branch as soon as too few are left.
//!
//! Where all pairs of many GPUs fit, or none, it ends at once; between, finding out can take as many steps as there are sets, and it gives
//! up after a bound.

use super::Shape;
use crate::Gpu;
use crate::lease::score::{linked, on_one_node};

/// Most GPUs that are put into a set by way of trial.
const MAX_STEPS: u32 = 20_000;

/// Whether there is a set; also where that was not found out in so many steps.
pub(super) fn any(gpus: &[&Gpu], shape: Shape) -> bool {
    let mut found = false;
    let ended = walk(gpus, shape, &mut |_| {
        found = true;
        false
    });
    found || !ended
}

/// Calls `each` with sets, by their places in `gpus`, ascending, until it wants no more. Whether these were all.
pub(super) fn walk(gpus: &[&Gpu], shape: Shape, each: &mut dyn FnMut(&[usize]) -> bool) -> bool {
    let fits = |a: usize, b: usize| (!shape.linked || linked(gpus[a], gpus[b])) && (!shape.same_numa || on_one_node(&[gpus[a], gpus[b]]));
    let mut walk = Walk { count: shape.count, fits: &fits, steps: MAX_STEPS, chosen: Vec::new(), each };
    walk.extend(&(0..gpus.len()).collect::<Vec<_>>())
}

struct Walk<'a> {
    count: usize,
    fits: &'a dyn Fn(usize, usize) -> bool,
    steps: u32,
    chosen: Vec<usize>,
    each: &'a mut dyn FnMut(&[usize]) -> bool,
}

impl Walk<'_> {
    /// `rest`: what fits to all that are chosen. Whether it went to the end.
    fn extend(&mut self, rest: &[usize]) -> bool {
        if self.chosen.len() == self.count {
            return (self.each)(&self.chosen);
        }
        for (at, next) in rest.iter().enumerate() {
            if rest.len() - at < self.count - self.chosen.len() {
                return true;
            }
            let Some(left) = self.steps.checked_sub(1) else { return false };
            self.steps = left;
            let fitting: Vec<usize> = rest[at + 1..].iter().copied().filter(|other| (self.fits)(*next, *other)).collect();
            self.chosen.push(*next);
            let go_on = self.extend(&fitting);
            self.chosen.pop();
            if !go_on {
                return false;
            }
        }
        true
    }
}
