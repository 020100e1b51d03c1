//! A worker's last minutes as small plots, one line a figure.

use jiff::Timestamp;
use rbee_hive_api::WorkerHistory;

use super::part;
use crate::cli::output::{Align, bytes, clean, table};

/// Points in a plot.
pub(crate) const PLOT_WIDTH: usize = 60;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const COLUMNS: [(&str, Align); 4] = [("", Align::Left), ("oldest to newest", Align::Left), ("last", Align::Right), ("most", Align::Right)];
const GAPS: [(&str, Align); 2] = [("column", Align::Left), ("why not", Align::Left)];

/// All columns that have a value, and why the others have none.
pub(crate) fn history(history: &WorkerHistory) -> String {
    let (Some(first), Some(last)) = (history.times.first(), history.times.last()) else {
        return format!("{}\n", clean(&format!("{}: nothing was sampled", history.worker_id)));
    };
    let head = format!("{}: {first} to {last}, {} points", history.worker_id, history.times.len());
    let limit = history.columns.get("memory_limit_bytes").and_then(|limits| limits.iter().flatten().last()).copied();
    let axis = Axis::of(history);
    let rows = history.columns.iter().filter_map(|(name, values)| {
        // Memory is plotted against its limit, everything else against its own largest value.
        let top = limit.filter(|_| name == "memory_bytes");
        row((name, values), top, &axis)
    });
    let gaps = history.unmeasured.iter().map(|u| vec![clean(&u.figure), clean(&u.why)]).collect();
    format!("{}\n{}{}", clean(&head), table(&COLUMNS, rows.collect(), 2), part("Not measured", &table(&GAPS, gaps, 2)))
}

/// Where in a plot each point stands: by its time, so that a gap is a gap.
struct Axis {
    places: Vec<usize>,
    width: usize,
}

impl Axis {
    fn of(history: &WorkerHistory) -> Self {
        let times: Vec<i64> = history.times.iter().filter_map(|t| t.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond).collect();
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else { return Self::even(history.times.len()) };
        let span = last.saturating_sub(first);
        // A time that is none, or that goes back, is no axis.
        if times.len() < history.times.len() || times.windows(2).any(|pair| pair[1] < pair[0]) {
            return Self::even(history.times.len());
        }
        let interval = i64::try_from(history.interval_ms).unwrap_or(i64::MAX).max(1);
        let width = usize::try_from(span / interval).unwrap_or(usize::MAX).saturating_add(1).min(PLOT_WIDTH);
        let place = |time: i64| (((time - first) as f64 / span.max(1) as f64) * (width - 1) as f64).round() as usize;
        Self { places: times.into_iter().map(place).collect(), width }
    }

    fn even(points: usize) -> Self {
        let each = points.div_ceil(PLOT_WIDTH).max(1);
        Self { places: (0..points).map(|point| point / each).collect(), width: points.div_ceil(each) }
    }

    /// A bar a place, a blank where there is no value. Where several fall on one place it is the largest.
    fn plot(&self, values: &[Option<f64>], top: f64) -> String {
        let mut largest: Vec<Option<f64>> = vec![None; self.width];
        for (value, place) in values.iter().zip(&self.places) {
            if let (Some(value), Some(at)) = (value, largest.get_mut(*place)) {
                *at = Some(at.map_or(*value, |before| before.max(*value)));
            }
        }
        let bar = |value: Option<f64>| match value {
            None => ' ',
            // `as` keeps within the bounds, whatever a hive has said.
            Some(value) if top > 0.0 => BARS[((value / top * 7.0).round() as usize).min(7)],
            Some(_) => BARS[0],
        };
        largest.into_iter().map(bar).collect()
    }
}

fn row((name, values): (&str, &[Option<f64>]), top: Option<f64>, axis: &Axis) -> Option<Vec<String>> {
    let last = values.iter().rev().find_map(|v| *v)?;
    let most = values.iter().flatten().copied().fold(f64::MIN, f64::max);
    let shown = |value| figure(name, value);
    Some(vec![clean(name), axis.plot(values, top.unwrap_or(most)), shown(last), shown(most)])
}

fn figure(name: &str, value: f64) -> String {
    match name {
        _ if name.ends_with("_bytes") => bytes(value as u64),
        _ if name.ends_with("_bytes_per_s") => format!("{}/s", bytes(value as u64)),
        _ if name.ends_with("_percent") => format!("{value:.1} %"),
        "cpus" => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(seconds: &[u32]) -> WorkerHistory {
        let times = seconds.iter().map(|s| format!("2026-01-01T00:{:02}:{:02}.000Z", s / 60, s % 60)).collect();
        WorkerHistory { interval_ms: 1000, times, ..WorkerHistory::default() }
    }

    #[test]
    fn a_plot_keeps_its_peak_and_its_gaps_and_fits() {
        let axis = Axis::of(&over(&[0, 1, 2, 5]));
        assert_eq!(axis.plot(&[Some(0.0), None, Some(8.0), Some(4.0)], 8.0), "▁ █  ▅", "nothing was sampled in 3 and 4");
        assert_eq!(Axis::of(&over(&[7])).plot(&[Some(0.0)], 0.0), "▁");
        let many = over(&(0..600).collect::<Vec<_>>());
        let mut values = vec![Some(1.0); 600];
        values[333] = Some(9.0);
        let text = Axis::of(&many).plot(&values, 9.0);
        assert!(text.chars().count() == PLOT_WIDTH && text.matches('█').count() == 1, "{text}");
        assert_eq!(Axis::of(&over(&[0, 1])).plot(&[Some(f64::MAX), Some(-1.0)], 1.0), "█▁");
    }

    #[test]
    fn times_that_are_none_or_turn_back_are_plotted_in_their_order() {
        let mut odd = over(&[5, 3, 9]);
        assert_eq!(Axis::of(&odd).plot(&[Some(1.0), Some(2.0), Some(1.0)], 2.0), "▅█▅");
        odd.times[1] = "yesterday".into();
        assert_eq!(Axis::of(&odd).width, 3);
        let long = WorkerHistory { times: vec!["x".into(); 601], ..WorkerHistory::default() };
        assert!(Axis::of(&long).width <= PLOT_WIDTH);
    }
}
