//! Faults of NVIDIA GPUs (XID) from lines of the kernel's log. Pure: the lines are given, as `/dev/kmsg` or `dmesg` writes them.
//!
//! ```text
//! 4,1234,5678901,-;NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
//! [  123.456789] NVRM: Xid (PCI:0000:01:00 GPU-I:05): 43, pid=4242, name=python, Ch 00000008
//! ```

use crate::Xid;

/// What comes before the address.
const MARK: &str = "NVRM: Xid (";
/// Longest id, bytes.
const MAX_ID: usize = 160;

/// A fault and the GPU that it was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedXid {
    /// PCI address without its function: `0000:01:00`.
    pub pci: String,
    /// The GPU instance, on a GPU that is cut up and where the driver tells.
    pub gpu_instance: Option<u32>,
    /// The fault.
    pub xid: Xid,
}

impl LoggedXid {
    /// Every fault in `text`, in its order; lines of anything else are left out.
    ///
    /// The id is the line's number (`/dev/kmsg`) or time (`dmesg`), so that one line that is given twice is one fault; of a line that has
    /// neither it is the line.
    pub fn parse(text: &str) -> Vec<Self> {
        text.lines().filter_map(line).collect()
    }

    /// Whether it was told of the GPU at this PCI address.
    pub(super) fn is_at(&self, pci: &str) -> bool {
        let own = pci.rsplit_once('.').map_or(pci, |(address, _)| address);
        own.eq_ignore_ascii_case(&self.pci)
    }
}

fn line(line: &str) -> Option<LoggedXid> {
    let (before, rest) = line.split_once(MARK)?;
    begins_here(before).then_some(())?;
    let (place, rest) = rest.split_once("):")?;
    let mut words = place.split_whitespace();
    let pci = address(words.next()?.trim_start_matches("PCI:"))?;
    let gpu_instance = words.find_map(|w| w.strip_prefix("GPU-I:")).and_then(|n| n.parse().ok());
    let mut fields = rest.split(',').map(str::trim);
    let code = fields.next()?.parse().ok()?;
    // A name may have a comma, but it comes after the number, which is digits in quotes or without, or `<unknown>`.
    let pid = fields.next().and_then(|f| f.strip_prefix("pid=")).and_then(|pid| pid.trim_matches(['\'', '"']).parse().ok());
    Some(LoggedXid { pci, gpu_instance, xid: Xid { code, pid: pid.filter(|pid| *pid > 0), id: id(before, line) } })
}

/// Whether the driver's own line begins here. Further in stand names that strangers choose, such as a mapped file's in the line on a segfault.
fn begins_here(before: &str) -> bool {
    match before.split_once(';') {
        // `/dev/kmsg`: facility 0 is the kernel's own.
        Some((head, text)) => text.is_empty() && head.split(',').next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >> 3 == 0),
        // `dmesg`: a time at most.
        None => before.is_empty() || (before.starts_with('[') && before.find(']') == Some(before.trim_end().len() - 1)),
    }
}

/// `0000:01:00`: hexadecimal numbers, the domain with four digits or more.
fn address(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(':').collect();
    let hex = |part: &&str| !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
    (parts.len() == 3 && parts.iter().all(hex)).then(|| text.to_ascii_lowercase())
}

/// What tells this line from all others.
fn id(before: &str, line: &str) -> String {
    let record = before.split_once(';').and_then(|(head, _)| head.split(',').nth(1)).filter(|n| n.parse::<u64>().is_ok());
    let time = before.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(time, _)| time.trim());
    let told = match (record, time) {
        (Some(number), _) => format!("kmsg:{number}"),
        (None, Some(time)) if !time.is_empty() => format!("dmesg:{time}:{}", line.split_once(MARK).map_or("", |(_, rest)| rest)),
        _ => line.trim().to_owned(),
    };
    told.chars()
        .filter(|c| !c.is_control())
        .scan(0, |length, c| {
            *length += c.len_utf8();
            (*length <= MAX_ID).then_some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_that_the_driver_has_had_is_understood() {
        let one = |text: &str| LoggedXid::parse(text).pop().unwrap();
        let kmsg = one("4,1234,5678901,-;NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.");
        assert_eq!(
            kmsg,
            LoggedXid { pci: "0000:01:00".into(), gpu_instance: None, xid: Xid { code: 79, pid: None, id: "kmsg:1234".into() } }
        );
        let part = one("[  123.456789] NVRM: Xid (PCI:0000:3B:00 GPU-I:05): 43, pid=4242, name=a,b, Ch 00000008");
        assert_eq!((part.pci.as_str(), part.gpu_instance, part.xid.code, part.xid.pid), ("0000:3b:00", Some(5), 43, Some(4242)));
        assert!(part.xid.id.starts_with("dmesg:123.456789:") && part.is_at("0000:3B:00.0") && !part.is_at("0000:3c:00.0"));
        let quoted = one("NVRM: Xid (PCI:0000:01:00): 31, pid=\"77\", Ch 1");
        assert_eq!((quoted.xid.pid, quoted.xid.id.starts_with("NVRM")), (Some(77), true));
        let old = one("NVRM: Xid (0000:03:00): 31, Ch 00000010, engmask 00000101");
        assert_eq!((old.pci.as_str(), old.xid.code, old.xid.pid), ("0000:03:00", 31, None));
    }

    #[test]
    fn a_line_that_is_given_twice_is_one_fault_and_two_lines_are_two() {
        let text = "4,1,5,-;NVRM: Xid (PCI:0000:01:00): 13, pid=1\n4,2,6,-;NVRM: Xid (PCI:0000:01:00): 13, pid=1\n";
        let ids: Vec<String> = LoggedXid::parse(&format!("{text}{text}")).into_iter().map(|x| x.xid.id).collect();
        assert_eq!(ids, ["kmsg:1", "kmsg:2", "kmsg:1", "kmsg:2"]);
    }

    #[test]
    fn what_is_no_fault_is_left_out() {
        for other in [
            "",
            "NVRM: loading NVIDIA UNIX",
            "NVRM: Xid (PCI:0000:01:00)",
            "NVRM: Xid (PCI:zz): 1",
            "NVRM: Xid (PCI:0000:01:00): x",
            "NVRM: Xid (PCI:0000:01:00): 99999999999",
            // Names that a stranger chose, in the kernel's own lines and in his.
            "6,9,5,-;w[9]: segfault at 0 ip 0 sp 0 error 4 in memfd:NVRM: Xid (PCI:0000:01:00): 79, x[7f00+1000]",
            "[  1.5] w[9]: segfault at 0 ip 0 sp 0 error 4 in memfd:NVRM: Xid (PCI:0000:01:00): 79, x[7f00+1000]",
            "12,9,5,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1",
            "w: NVRM: Xid (PCI:0000:01:00): 79, pid=1",
        ] {
            assert!(LoggedXid::parse(other).is_empty(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(NVRM: Xid \\(|PCI:|0000:01:00|GPU-I:|\\):|pid=|[0-9,;'\\[\\]]|\n|\\PC){0,30}") {
            prop_assert!(LoggedXid::parse(&text).iter().all(|x| x.xid.id.len() <= MAX_ID));
        }
    }
}
