//! The body of the helper process: loads NVML, asks, prints.
//!
//! Must never be called in the hive or the launcher: any of these calls may not return.

use std::io;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{Answer, Told};
use crate::chain::chain;

/// Why the helper could not print an answer.
#[derive(Debug, thiserror::Error)]
pub enum NvmlHelperError {
    /// It can't be written as JSON, or its reader is gone.
    #[error("print what NVML tells")]
    Print(#[source] serde_json::Error),
}

/// Prints what NVML knows as JSON. That the library is not there, or a GPU does not answer, is part of the answer.
///
/// Errors: `out` takes no more.
pub fn nvml_helper_main(out: &mut dyn io::Write) -> Result<(), NvmlHelperError> {
    let answer = Nvml::init().and_then(|nvml| everything(&nvml));
    let answer = answer.unwrap_or_else(|e| Answer { gpus: vec![], failed: vec![chain(&e)] });
    serde_json::to_writer(out, &answer).map_err(NvmlHelperError::Print)
}

fn everything(nvml: &Nvml) -> Result<Answer, NvmlError> {
    let mut answer = Answer::default();
    for index in 0..nvml.device_count()? {
        match one(nvml, index) {
            Ok(told) => answer.gpus.push(told),
            // One that fell off the bus must not hide the others.
            Err(e) => answer.failed.push(format!("GPU {index} does not answer: {}", chain(&e))),
        }
    }
    Ok(answer)
}

fn one(nvml: &Nvml, index: u32) -> Result<Told, NvmlError> {
    let device = nvml.device_by_index(index)?;
    Ok(Told {
        minor: device.minor_number()?,
        uuid: device.uuid().ok(),
        name: device.name().ok(),
        // A GPU that shares the CPU's memory has none of its own to tell.
        memory_bytes: device.memory_info().ok().map(|m| m.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_the_answer_says_so_and_is_still_an_answer() {
        let mut out = Vec::new();
        nvml_helper_main(&mut out).unwrap();
        let answer: Answer = serde_json::from_slice(&out).unwrap();
        assert!(!answer.gpus.is_empty() || !answer.failed.is_empty(), "{answer:?}");
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        struct Gone;
        impl io::Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(nvml_helper_main(&mut Gone), Err(NvmlHelperError::Print(_))));
    }
}
