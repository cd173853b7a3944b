"""A GGUF in two shards, for tests of models that come in several files."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np


def split(path: Path, folder: Path) -> list[Path]:
    """A GGUF cut in two shards, as llama.cpp's gguf-split does."""
    reader = gguf.GGUFReader(path)
    shards = []
    for number in range(2):
        target = folder / f"m-{number + 1:05}-of-00002.gguf"
        writer = gguf.GGUFWriter(target, "llama", use_temp_file=False)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        if number == 0:
            for field in reader.fields.values():
                if field.name.startswith("GGUF.") or field.name == "general.architecture":
                    continue
                kind, *rest = field.types
                writer.add_key_value(field.name, field.contents(), kind, *rest)
        half = len(reader.tensors) // 2
        for tensor in reader.tensors[:half] if number == 0 else reader.tensors[half:]:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        shards.append(target)
    return shards
