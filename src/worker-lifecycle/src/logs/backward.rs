//! A file's lines from its end, without reading what comes before them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Read at once, bytes.
const CHUNK: u64 = 64 * 1024;
/// Longest line that is followed, bytes. The init cuts lines long before.
const LINE_MAX: usize = 1024 * 1024;

/// Lines of a file, the last one first.
pub(super) struct Backward {
    file: File,
    /// Where what was not read yet ends.
    at: u64,
    unread: Vec<u8>,
}

impl Backward {
    /// Starts after the last newline: what follows it is still being written.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let at = file.metadata()?.len();
        let mut lines = Self { file, at, unread: Vec::new() };
        lines.line()?;
        Ok(lines)
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(newline) = self.unread.iter().rposition(|b| *b == b'\n') {
                let line = self.unread.split_off(newline + 1);
                self.unread.pop();
                return Ok(Some(line));
            }
            if self.at == 0 || self.unread.len() > LINE_MAX {
                self.at = 0;
                return Ok((!self.unread.is_empty()).then(|| std::mem::take(&mut self.unread)));
            }
            let len = self.at.min(CHUNK);
            self.at -= len;
            let mut earlier = vec![0; usize::try_from(len).unwrap_or(0)];
            self.file.read_exact_at(&mut earlier, self.at)?;
            earlier.append(&mut self.unread);
            self.unread = earlier;
        }
    }
}

impl Iterator for Backward {
    type Item = Vec<u8>;

    /// A file that can't be read any further ends here.
    fn next(&mut self) -> Option<Vec<u8>> {
        self.line().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn backward(text: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Backward::new(file).unwrap().collect()
    }

    #[test]
    fn an_unfinished_line_is_left_out() {
        assert_eq!(backward(b"one\ntwo\nthr"), [b"two".to_vec(), b"one".to_vec()]);
        assert!(backward(b"").is_empty() && backward(b"unfinished").is_empty());
    }

    #[test]
    fn a_line_that_spans_chunks_comes_whole() {
        let long = vec![b'x'; 3 * CHUNK as usize + 5];
        let text = [b"first\n".as_slice(), &long, b"\nlast\n"].concat();
        assert_eq!(backward(&text), [b"last".to_vec(), long, b"first".to_vec()]);
    }

    proptest! {
        #[test]
        fn backward_is_forward_turned_round(lengths in proptest::collection::vec(1usize..100_000, 0..8)) {
            let lines: Vec<String> = lengths.iter().zip('a'..).map(|(len, letter)| letter.to_string().repeat(*len)).collect();
            let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
            let mut expected: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
            expected.reverse();
            prop_assert_eq!(backward(text.as_bytes()), expected);
        }
    }
}
