//! What NVIDIA's Xid numbers mean: whose fault it is, and a clause for a person.
//!
//! After NVIDIA's document "XID Errors" (docs.nvidia.com/deploy/xid-errors), in words of our own. It has more numbers than stand here: those
//! are `unknown`, and are told all the same. Must never know who had the GPU.

use serde::{Deserialize, Serialize};

/// Whose fault it is, as far as the number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XidClass {
    /// A program's: the GPU goes on.
    Application,
    /// The GPU's, its link's or its driver's: nobody gets it until it answers again.
    Hardware,
    /// No entry of the table.
    Unknown,
}

type Row = (u32, XidClass, &'static str);

const TABLE: &[Row] = &[
    (13, XidClass::Application, "a program's kernel raised an exception, such as an access out of bounds"),
    (31, XidClass::Application, "a program read or wrote an address of the GPU that it had not mapped"),
    (43, XidClass::Application, "a program's work failed and its channel was stopped"),
    (45, XidClass::Application, "a program's work was cleaned up after its end or an earlier fault"),
    (48, XidClass::Hardware, "memory of the GPU had an error of two bits, which can't be corrected"),
    (61, XidClass::Hardware, "the GPU's own controller came to a breakpoint"),
    (62, XidClass::Hardware, "the GPU's own controller stopped"),
    (63, XidClass::Hardware, "a failing part of the GPU's memory was retired or is to be replaced by a spare row"),
    (64, XidClass::Hardware, "a failing part of the GPU's memory could not be retired or replaced"),
    (68, XidClass::Application, "the video decoder raised an exception at a program's work"),
    (69, XidClass::Application, "the graphics engine refused a program's command"),
    (74, XidClass::Hardware, "an NVLink connection failed"),
    (79, XidClass::Hardware, "the GPU can't be reached on its bus any more"),
    (92, XidClass::Hardware, "the GPU's memory has many errors of one bit"),
    (94, XidClass::Application, "an error of the GPU's memory was contained in one program; others go on"),
    (95, XidClass::Hardware, "an error of the GPU's memory could not be contained in one program"),
    (119, XidClass::Hardware, "the GPU's system processor did not answer the driver in time"),
    (120, XidClass::Hardware, "the GPU's system processor failed"),
    (140, XidClass::Hardware, "an error of the GPU's memory was not recovered from"),
];

/// Faults after which a GPU may answer as if nothing had been, and is not to be trusted before it was reset.
const NEED_A_RESET: &[u32] = &[48, 64, 79, 95, 140];

/// Whether only a reset mends what the number tells of.
pub(crate) fn needs_a_reset(code: u32) -> bool {
    NEED_A_RESET.contains(&code)
}

/// Class and meaning of a number.
pub fn xid(code: u32) -> (XidClass, &'static str) {
    let known = TABLE.iter().find(|(known, _, _)| *known == code);
    known.map_or((XidClass::Unknown, "NVIDIA's document \"XID Errors\" tells of it"), |(_, class, meaning)| (*class, *meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_fault_is_told_from_the_gpus() {
        for code in [13, 31, 43, 45, 68, 94] {
            assert_eq!(xid(code).0, XidClass::Application, "{code}");
        }
        for code in [48, 63, 64, 74, 79, 92, 95, 119, 120] {
            assert_eq!(xid(code).0, XidClass::Hardware, "{code}");
        }
        assert_eq!((xid(0).0, xid(u32::MAX).0), (XidClass::Unknown, XidClass::Unknown));
    }

    #[test]
    fn every_number_stands_once_with_one_clause() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0), "by number");
        assert!(NEED_A_RESET.iter().all(|code| xid(*code).0 == XidClass::Hardware));
        assert!(TABLE.iter().all(|(_, class, text)| !text.is_empty() && !text.ends_with('.') && *class != XidClass::Unknown));
    }
}
