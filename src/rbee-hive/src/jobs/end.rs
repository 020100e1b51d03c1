//! How a job ends, as the last line of its stream.

pub(crate) use rbee_hive_narration::JobEnd;

use crate::params::Refusal;

impl From<&Refusal> for JobEnd {
    fn from(refusal: &Refusal) -> Self {
        Self::Error { kind: refusal.kind(), message: refusal.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};

    #[test]
    fn ends_are_written_as_the_contract_says() {
        let refusal = Refusal::from(LifecycleError::new(ErrorKind::NoSuchDevice, "GPU-0 is not there"));
        assert_eq!(JobEnd::from(&refusal).to_string(), "[ERROR] no_such_device: GPU-0 is not there");
        assert_eq!(JobEnd::Done.to_string(), "[DONE]");
        assert_eq!(JobEnd::Cancelled.to_string(), "[CANCELLED]");
    }
}
