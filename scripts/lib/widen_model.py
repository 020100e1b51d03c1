#!/usr/bin/env python3
"""widen_model.py QUANTIZED F16: writes a GGUF model once more with half-precision weights.

The pinned engine's quantized kernels need AVX-VNNI, which many processors lack (they end in SIGILL); its half-precision ones do not.
"""
import sys

import numpy
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize


def main(source: str, target: str) -> None:
    model = GGUFReader(source)
    writer = GGUFWriter(target, model.fields["general.architecture"].contents())
    for name, field in model.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # the writer's own
        if name == "general.file_type":
            writer.add_file_type(LlamaFileType.MOSTLY_F16)
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in model.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        # The engine wants its one-dimensional tensors (norms) in full precision.
        writer.add_tensor(tensor.name, weights.astype(numpy.float32 if weights.ndim == 1 else numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(sys.argv[1], sys.argv[2])
