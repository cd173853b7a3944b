"""The header reader of safetensors: what it reads, and that nothing in a file is believed."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.errors import InvalidModel
from ollamapy.formats.safetensors import read_model, read_tensors
from tests.formats.folders import write_safetensors


def file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> Any:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_where_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float32)}
    arrays["empty"] = np.ones((0, 3), np.float32)
    write_safetensors(path, arrays)
    found = read_tensors(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        tensor = found[name]
        data = path.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]
        assert tensor.dtype == "F32" and tensor.shape == array.shape and data == array.tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
        (file({}, length=2**63), "claims 9,223,372,036,854,775,808 bytes"),
        (file({}, length=3), "claims 3 bytes"),
        (file(b""), "not understood"),
        (file(b"[" * 100_000), "not understood"),
        (file([1, 2]), "not understood"),
        (file({"a": 3}), "not understood"),
        (file({"a": {"dtype": "F32"}}), "not understood"),
        (file({"a": entry(0, 8) | {"shape": ["2"]}}, bytes(8)), "not understood"),
        (file({"a": entry(0, 8) | {"shape": [2**80]}}, bytes(8)), "not understood|impossible"),
        (file({"a": entry(0, 8, [-2, -1])}, bytes(8)), "impossible shape"),
        (file({"a": entry(0, 8, [1] * 9)}, bytes(8)), "impossible shape"),
        (file({"a": entry(0, 8, dtype="Q4")}, bytes(8)), "unknown type 'Q4'"),
        (file({"a": entry(0, 8, [3])}, bytes(8)), "claims 8 bytes"),
        (file({"a": entry(8, 0, [0])}, bytes(8)), "begins at 8"),
        (file({"a": entry(-4, 4, [2])}, bytes(8)), "begins at -4"),
        (file({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "begins at 4 instead of 8"),
        (file({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "begins at 8 instead of 4"),
        (file({"a": entry(0, 2**40)}, bytes(8)), "ends after the file"),
        (file({"a": entry(0, 8)}, bytes(7)), "ends after the file"),
        (file({"a": entry(0, 8)}, bytes(9)), "1 bytes at its end"),
        (file({"a": entry(0, 2**63, [2**31, 2**30])}, bytes(8)), "ends after|claims"),
    ],
)
def test_a_lying_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match=message) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), framed=st.booleans())
def test_random_bytes_are_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, framed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(file(data) if framed else data)
    try:
        assert read_tensors(path) == {}, "only an empty header is right"
    except InvalidModel as error:
        assert "\n" not in str(error)


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["F32", "I8"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(header=st.dictionaries(st.text(max_size=5), _JSON, max_size=4))
def test_random_headers_are_an_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    path.write_bytes(file(header, bytes(16)))
    with pytest.raises(InvalidModel):  # 16 bytes that no such header accounts for
        read_tensors(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(InvalidModel):
            read_tensors(path)


def one(path: Path, *names: str) -> Path:
    write_safetensors(path, {name: np.ones(2, np.float32) for name in names})
    return path


def test_the_index_says_which_files_are_the_model(tmp_path: Path) -> None:
    files = {
        "model-1.safetensors": one(tmp_path / "1", "a", "b"),
        "model-2.safetensors": one(tmp_path / "2", "c"),
        "consolidated.safetensors": one(tmp_path / "3", "other"),
        "model.safetensors.index.json": tmp_path / "index",
    }

    def index(**where: str) -> None:
        (tmp_path / "index").write_text(json.dumps({"weight_map": where}))

    index(a="model-1.safetensors", b="model-1.safetensors", c="model-2.safetensors")
    assert read_model(files).keys() == {"a", "b", "c"}
    index(a="model-1.safetensors", c="model-3.safetensors")
    with pytest.raises(InvalidModel, match=r"'model-3.safetensors' is missing, 1 of 2"):
        read_model(files)
    index(a="../../etc/passwd")
    with pytest.raises(InvalidModel, match="is missing"):
        read_model(files)
    index(a="model-1.safetensors", z="model-1.safetensors")
    with pytest.raises(InvalidModel, match="no tensor 'z'"):
        read_model(files)


def test_without_an_index_all_files_are_the_model(tmp_path: Path) -> None:
    files = {"x.safetensors": one(tmp_path / "1", "a"), "y.safetensors": one(tmp_path / "2", "b")}
    assert read_model(files).keys() == {"a", "b"}
    assert read_model(files | {"model.safetensors": one(tmp_path / "3", "c")}).keys() == {"c"}
    with pytest.raises(InvalidModel, match="in two files"):
        read_model(files | {"z.safetensors": one(tmp_path / "4", "a")})
    with pytest.raises(InvalidModel, match="no .safetensors file"):
        read_model({})
