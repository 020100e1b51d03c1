//! Bytes in words.

/// `2 GiB`, `1.9 GiB`, `300 MiB`, `12 B`
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((name, unit)) = UNITS.into_iter().find(|(_, unit)| bytes >= *unit) else { return format!("{bytes} B") };
    let text = format!("{:.1}", bytes as f64 / unit as f64);
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!(
            [size(2 << 30), size(2_040_109_465), size(300 << 20), size(12), size(0)],
            ["2 GiB", "1.9 GiB", "300 MiB", "12 B", "0 B"]
        );
    }
}
