//! An answer in chunks, as tokens come.
//!
//! Owns: `/stream`. Must never know: sockets.

use std::io::{self, Write};

use crate::clock;
use crate::http::{Chunked, Query};

/// Sends `chunks` chunks with `delay_ms` before each.
pub(crate) fn send(query: &Query, out: &mut impl Write) -> io::Result<()> {
    let mut answer = Chunked::begin(out)?;
    for number in 0..query.number("chunks", 10) {
        clock::be_slow(query.number("delay_ms", 0));
        answer.send(&format!("data: {number}\n\n"))?;
    }
    answer.end()
}
