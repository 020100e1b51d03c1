//! Two calls of NVIDIA's management library that `nvml-wrapper` lacks.

use nvml_wrapper::Device;

/// `NVML_SUCCESS`.
const SUCCESS: u32 = 0;

/// GPU instance and compute instance of a MIG device (`nvmlDeviceGetGpuInstanceId`, `nvmlDeviceGetComputeInstanceId`); `None` for any
/// other device, and where the library is too old to tell. May hang as every call of this library: for a disposable process only.
pub fn mig_ids(device: &Device<'_>) -> Option<(u32, u32)> {
    let library = device.nvml().lib();
    let (gpu, compute) = (library.nvmlDeviceGetGpuInstanceId.as_ref().ok()?, library.nvmlDeviceGetComputeInstanceId.as_ref().ok()?);
    // SAFETY: the handle is only passed back to the library that gave it, which `device` keeps loaded and initialised.
    let handle = unsafe { device.handle() };
    let (mut gi, mut ci) = (0, 0);
    // SAFETY: the handle is valid as above, and `gi` is a number that the call may write to.
    let told_gpu = unsafe { gpu(handle, &raw mut gi) };
    // SAFETY: the handle is valid as above, and `ci` is a number that the call may write to.
    let told_compute = unsafe { compute(handle, &raw mut ci) };
    (told_gpu == SUCCESS && told_compute == SUCCESS).then_some((gi, ci))
}
