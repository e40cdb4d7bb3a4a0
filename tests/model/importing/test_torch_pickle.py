from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlmr.errors import WeightsError
from xlmr.model.importing.torch_pickle import TorchFile


def read(path: Path) -> dict[str, np.ndarray]:
    return {
        array.name: np.concatenate(list(array.chunks()))
        if array.shape
        else next(iter(array.chunks()))
        for array in TorchFile(path).arrays()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "F32"),
        (torch.float16, "F16"),
        (torch.bfloat16, "BF16"),
        (torch.int64, "I64"),
    ],
)
def test_number_formats(path, dtype, name):
    tensor = torch.arange(-6, 6).reshape(3, 4).to(dtype)
    torch.save({"x": tensor}, path)
    (array,) = TorchFile(path).arrays()
    assert (array.name, array.dtype, array.shape) == ("x", name, (3, 4))
    bits = tensor.view(torch.int16).numpy().view("<u2") if name == "BF16" else tensor.numpy()
    np.testing.assert_array_equal(next(iter(array.chunks())), bits)


def test_views_shared_storages_and_parameters(path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "turned": base.T,
        "part": base[1:3, 2:5],
        "tied": base,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(tensors, path)
    found = read(path)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy(), err_msg=name)


def test_a_state_dict_with_metadata(path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    torch.save(model.state_dict(), path)
    assert list(read(path)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive_of(path: Path, program: bytes, storages: dict[str, bytes] | None = None, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("function", [os.system, eval, exec, os.mkdir])
def test_hostile_pickles_are_refused_before_they_run(path, function, protocol):
    witness = path.with_name("witness")
    argument = {
        os.system: f"touch {witness}",
        os.mkdir: str(witness),
    }.get(function, f"__import__('os').mkdir({str(witness)!r})")
    program = pickle.dumps({"x": Runs(function, argument)}, protocol=protocol)
    archive_of(path, program)
    with pytest.raises(WeightsError, match="not a plain description"):
        TorchFile(path)
    assert not witness.exists()
    pickle.loads(program)  # the trap works: it would have gone off
    assert witness.exists()


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\x04tQ"


def tensor_program(first: int, shape: bytes, strides: bytes, after: bytes = b"") -> bytes:
    number = b"J" + first.to_bytes(4, "little", signed=True)
    call = (
        TENSOR + b"(" + STORAGE + number + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\2}X\1\0\0\0x" + call + after + b"s."


def test_the_hand_made_program_is_a_good_one(path):
    archive_of(
        path, tensor_program(1, b"K\2\x85", b"K\1\x85"), {"0": np.arange(4, dtype="<f4").tobytes()}
    )
    np.testing.assert_array_equal(read(path)["x"], [1, 2])


@pytest.mark.parametrize(
    "program",
    [
        tensor_program(3, b"K\2\x85", b"K\1\x85"),  # beyond the end
        tensor_program(-1, b"K\2\x85", b"K\1\x85"),  # before the start
        tensor_program(0, b"K\2\x85", b"J\xff\xff\xff\xff\x85"),  # backwards
        tensor_program(0, b"J\xff\xff\xff\x7f\x85", b"K\0\x85"),  # one element, two billion times
        tensor_program(0, b"K\2\x85", b")"),  # no strides
        tensor_program(0, b"K\2\x85", b"K\1\x85", b"K\1b"),  # another state afterwards
        tensor_program(0, b"K\2\x85", b"K\1\x85", b"N}X\5\0\0\0firstJ\0\0\0\x7fs\x86b"),
        b"\x80\2" + TENSOR + b"}X\1\0\0\0aK\1sb.",  # state for a name
        b"\x80\2ccollections\nOrderedDict\nX\1\0\0\0aK\1\x86b.",
        b"\x80\2}r\xff\xff\xff\x7f.",  # a memo of gigabytes
        b"\x80\2]K\1a.",  # a list
        b"\x80\2}K\1K\2s.",  # no names
        b"\x80\2}X\1\0\0\0xK\2s.",  # no arrays
        b"\x80\2}.",
        b"\x80\2(X\7\0\0\0storagectorch\nQuantStorage\nX\1\0\0\0000X\3\0\0\0cpuK\4tQ.",
    ],
)
def test_programs_that_do_more_or_less_than_describe_arrays(path, program):
    archive_of(path, program, {"0": bytes(16)})
    with pytest.raises(WeightsError):
        read(path)


def test_the_old_format_is_refused_with_a_hint(path):
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"before torch 1\.6") as refused:
        TorchFile(path)
    assert "safetensors" in refused.value.hint


def test_compressed_and_foreign_archives(path):
    archive_of(path, tensor_program(0, b"K\2\x85", b"K\1\x85"), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        TorchFile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(WeightsError, match=r"data\.pkl"):
        TorchFile(path)
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError):
        TorchFile(path)


def good_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a.weight": torch.arange(64, dtype=torch.float32), "b": torch.ones(2, 2)}, buffer)
    return buffer.getvalue()


GOOD = good_file()
_ON_ONE_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@_ON_ONE_PATH
@given(st.integers(0, len(GOOD) - 1))
def test_refuses_every_truncation(path, length):
    path.write_bytes(GOOD[:length])
    with pytest.raises(WeightsError):
        read(path)


@_ON_ONE_PATH
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_harmless(path, position, value):
    path.write_bytes(GOOD[:position] + bytes([value]) + GOOD[position + 1 :])
    try:
        found = read(path)
    except WeightsError:
        return
    # Arrays carry a CRC: what is read is what was written, unless names or shapes changed.
    assert all(set(np.unique(array)) <= set(range(64)) for array in found.values())


@_ON_ONE_PATH
@given(st.binary(max_size=200))
def test_any_program_is_refused_or_harmless(path, program):
    archive_of(path, b"\x80\2" + program, {"0": bytes(16)})
    with pytest.raises(WeightsError):
        read(path)
