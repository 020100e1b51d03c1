//! From blocks of bytes to CRI lines.

/// Longest text of one log line, bytes; a longer one goes on in further lines, all but the last marked `P`.
const LINE_MAX: usize = 16 * 1024;

/// Cuts one stream into lines.
pub(super) struct Lines {
    stream: &'static str,
    unfinished: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: &'static str) -> Self {
        Self { stream, unfinished: Vec::with_capacity(LINE_MAX) }
    }

    /// The CRI lines that `block` completes.
    pub(super) fn push(&mut self, block: &[u8], time: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() * 2 + 128);
        let mut rest = block;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.take(&rest[..end], time, &mut out);
            self.emit("F", time, &mut out);
            rest = &rest[end + 1..];
        }
        self.take(rest, time, &mut out);
        out
    }

    /// What is left when the stream ends without a newline.
    pub(super) fn finish(&mut self, time: &str) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.unfinished.is_empty() {
            self.emit("F", time, &mut out);
        }
        out
    }

    fn take(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while self.unfinished.len() + bytes.len() > LINE_MAX {
            let (now, later) = bytes.split_at(LINE_MAX - self.unfinished.len());
            self.unfinished.extend_from_slice(now);
            self.emit("P", time, out);
            bytes = later;
        }
        self.unfinished.extend_from_slice(bytes);
    }

    fn emit(&mut self, tag: &str, time: &str, out: &mut Vec<u8>) {
        for part in [time, " ", self.stream, " ", tag, " "] {
            out.extend_from_slice(part.as_bytes());
        }
        out.append(&mut self.unfinished);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_joined_across_blocks() {
        let mut lines = Lines::new("stdout");
        assert_eq!(text(lines.push(b"one\ntw", "T")), "T stdout F one\n");
        assert_eq!(text(lines.push(b"o\n\n", "T")), "T stdout F two\nT stdout F \n");
        assert_eq!(text(lines.push(b"end", "T")), "");
        assert_eq!(text(lines.finish("T")), "T stdout F end\n");
        assert_eq!(text(lines.finish("T")), "");
    }

    #[test]
    fn a_line_without_end_is_cut_and_marked_partial() {
        let mut lines = Lines::new("stderr");
        let out = lines.push(&vec![b'x'; 3 * LINE_MAX + 1], "T");
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 3);
        assert!(text(out).lines().all(|l| l.starts_with("T stderr P x")));
        assert_eq!(text(lines.push(b"\n", "T")), "T stderr F x\n");
    }
}
