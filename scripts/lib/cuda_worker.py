"""A CUDA process without CUDA's toolkit: the driver's own library, by its C calls. For scripts/test-gpu.

`hold MIB` allocates that much and stays; `try` only tries. Either prints one line of JSON about what it could do.
"""
import ctypes
import glob
import json
import os
import sys
import time


def opened(path):
    """0, or the errno of an open for reading and writing."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return 0
    except OSError as e:
        return e.errno


def made(minor):
    """0, or the errno of making and opening a node of one's own for an NVIDIA GPU."""
    path = "/tmp/own-%d" % minor
    try:
        os.mknod(path, 0o20600, os.makedev(195, minor))
        return opened(path)
    except OSError as e:
        return e.errno


def cuda():
    try:
        return ctypes.CDLL("libcuda.so.1"), None
    except OSError as e:
        return None, str(e)


def uuid_of(lib, device):
    """The device's UUID, and whether it is a MIG part's own where it is one: the first call tells that (CUDA 11.4), the second the GPU's."""
    raw = (ctypes.c_ubyte * 16)()
    for name in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid"):
        if hasattr(lib, name) and getattr(lib, name)(raw, device) == 0:
            text = bytes(raw).hex()
            return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])), name.endswith("_v2")
    return None, False


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else "try"
    nodes = sorted(glob.glob("/dev/nvidia*"))
    told = {
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "nodes": nodes,
        "open": {n: opened(n) for n in nodes if not os.path.isdir(n)},
        "others": {str(m): opened("/dev/nvidia%d" % m) for m in range(16) if "/dev/nvidia%d" % m not in nodes},
        "mknod": {str(m): made(m) for m in range(2)},
    }
    lib, why = cuda()
    told["library"] = why
    if lib is not None:
        told["cuInit"] = lib.cuInit(0)
        count, device = ctypes.c_int(), ctypes.c_int()
        if told["cuInit"] == 0:
            lib.cuDeviceGetCount(ctypes.byref(count))
            told["count"] = count.value
            lib.cuDeviceGet(ctypes.byref(device), 0)
            told["uuid"], told["uuid_of_part"] = uuid_of(lib, device)
            if mode == "hold":
                context, memory = ctypes.c_void_p(), ctypes.c_uint64()
                told["context"] = lib.cuCtxCreate_v2(ctypes.byref(context), 0, device)
                size = int(sys.argv[2]) << 20
                told["allocate"] = lib.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(size))
                if told["allocate"] == 0:
                    told["written"] = lib.cuMemsetD8_v2(memory, 1, ctypes.c_size_t(size))
                    lib.cuCtxSynchronize()
                told["bytes"] = size
    print(json.dumps(told), flush=True)
    while True:
        time.sleep(3600)


main()
