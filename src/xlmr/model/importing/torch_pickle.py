"""Reads `pytorch_model.bin` without torch and without running what is pickled in it.

Since torch 1.6 the file is an uncompressed zip: `NAME/data.pkl` describes the arrays, the bytes
of storage K lie in `NAME/data/K`. A pickle is a program, so two lists bound what this one may do:
the opcodes it may use, and the five kinds of names it may refer to, each of which becomes an inert
object of this module. Anything else is refused before it is run.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import WeightsError
from xlmr.model.importing.writing import StoredArray

# torch's storage class → safetensors' name of the number format, numpy type of the same width.
_STORAGES = {
    "FloatStorage": ("F32", "<f4"),
    "HalfStorage": ("F16", "<f2"),
    "BFloat16Storage": ("BF16", "<u2"),
    "DoubleStorage": ("F64", "<f8"),
    "LongStorage": ("I64", "<i8"),
    "IntStorage": ("I32", "<i4"),
    "ByteStorage": ("U8", "|u1"),
    "BoolStorage": ("BOOL", "|u1"),
}
_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP"),
        *("MARK", "POP", "POP_MARK"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    )
)
# First bytes of what torch wrote before 1.6: a pickled magic number.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# A description of 10,000 arrays takes about 2 MB.
_MOST_DESCRIPTION_BYTES = 64 * 1024 * 1024


# Named tuples: a pickle could give a slotted dataclass another state after it was checked.
class _Storage(NamedTuple):
    key: str
    dtype: str
    numpy_dtype: str
    elements: int


class _Tensor(NamedTuple):
    storage: _Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """A stand-in for a name in the pickle; it keeps no state and refuses to be given any."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("state for something that has none")


class _RebuildTensor(_Inert):
    __slots__ = ()

    def __call__(self, storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        numbers = (first, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without a storage")
        if not all(isinstance(number, int) and 0 <= number < 1 << 48 for number in numbers):
            raise pickle.UnpicklingError("a tensor of impossible shape")
        return _Tensor(storage, first, tuple(shape), tuple(strides))


class _RebuildParameter(_Inert):
    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _OrderedDict(_Inert):
    __slots__ = ()

    def __call__(self, *_: Any) -> dict[Any, Any]:
        return _StateDict()


class _StateDict(dict[Any, Any]):
    """torch gives its ordered dict a `_metadata` attribute, which says nothing about the arrays."""

    def __setstate__(self, state: object) -> None:
        return


class _StorageKind(_Inert):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Description(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _RebuildParameter()
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict()
        if module == "torch" and name in _STORAGES:
            return _StorageKind(name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageKind() as kind, str() as key, _, int() as elements):
                if elements < 0 or not key.isalnum():
                    raise pickle.UnpicklingError("a storage of impossible size or name")
                return _Storage(key, *_STORAGES[kind.name], elements)
        raise pickle.UnpicklingError("a reference that is not to a storage")


class TorchFile:
    """The arrays of one `pytorch_model*.bin`; bytes are read when an array's turn comes.

    Raises:
        WeightsError: the file is damaged, of the format before torch 1.6, not a flat mapping of
            names to arrays, or a pickle that does more than describe arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = self._data_members(archive)
                program = archive.read(self._description_of(archive))
        except _ZIP_FAULTS as fault:
            raise self._unreadable(fault) from fault
        try:
            described = _describe(program)
        except _PICKLE_FAULTS as fault:
            raise WeightsError(
                f"{path}: refused, its pickle is not a plain description of arrays ({fault})",
                hint="use a checkpoint with model.safetensors",
            ) from fault
        self._tensors = self._flat(described)

    def arrays(self) -> list[StoredArray]:
        """Every array, in the file's order."""
        return [
            StoredArray(name, tensor.storage.dtype, tensor.shape, partial(self._chunks, name))
            for name, tensor in self._tensors.items()
        ]

    def _chunks(self, name: str) -> Iterator[NDArray[Any]]:
        tensor = self._tensors[name]
        storage = tensor.storage
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(self._members[storage.key])  # checks the CRC
        except _ZIP_FAULTS as fault:
            raise WeightsError(f"{self.path}: {name} cannot be read ({fault})") from fault
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        width = np.dtype(storage.numpy_dtype).itemsize
        stored = len(content) // width
        # A stride of 0 may repeat elements: a file of a few bytes must not become terabytes.
        within = math.prod(tensor.shape) <= stored and tensor.first + last < stored
        if 0 not in tensor.shape and not within:
            raise WeightsError(
                f"{self.path}: {name} reaches beyond its storage of {stored} elements",
                hint="copy or download the model again",
            )
        flat = np.frombuffer(content, storage.numpy_dtype)[tensor.first :]
        steps = [step * width for step in tensor.strides]
        yield np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)

    def _data_members(self, archive: zipfile.ZipFile) -> Mapping[str, str]:
        members: dict[str, str] = {}
        for info in archive.infolist():
            # A compressed member could unpack to any size; torch never writes one.
            if info.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(f"{info.filename} is compressed")
            folder, _, key = info.filename.rpartition("/")
            if folder.rpartition("/")[2] == "data":
                members[key] = info.filename
            if key == "byteorder" and archive.read(info).strip() != b"little":
                raise zipfile.BadZipFile("its numbers are big endian")
        return members

    def _description_of(self, archive: zipfile.ZipFile) -> str:
        found = [i for i in archive.infolist() if i.filename.rpartition("/")[2] == "data.pkl"]
        if len(found) != 1 or found[0].file_size > _MOST_DESCRIPTION_BYTES:
            raise zipfile.BadZipFile("no data.pkl of a sensible size")
        return found[0].filename

    def _flat(self, described: Any) -> dict[str, _Tensor]:
        if not isinstance(described, dict) or not described:
            raise WeightsError(f"{self.path}: not a mapping of names to arrays")
        for name, tensor in described.items():
            if not isinstance(name, str) or not isinstance(tensor, _Tensor):
                raise WeightsError(
                    f"{self.path}: {name!r} is not an array",
                    hint="a training checkpoint? save the model with save_pretrained first",
                )
        return described

    def _unreadable(self, fault: Exception) -> WeightsError:
        if self.path.is_file():
            with self.path.open("rb") as file:
                start = file.read(len(_LEGACY_START))
            if start == _LEGACY_START:
                return WeightsError(
                    f"{self.path}: written in the format before torch 1.6, which is not read",
                    hint="load it with torch (weights_only=True) and save it again as safetensors",
                )
        return WeightsError(
            f"{self.path}: not a complete torch file ({fault})",
            hint="copy or download the model again",
        )


# What a zip that is cut off, wrong or encrypted raises.
_ZIP_FAULTS = (zipfile.BadZipFile, OSError, EOFError, LookupError, RuntimeError, ValueError)
# What a pickle that is cut off, wrong or hostile raises, besides being refused.
_PICKLE_FAULTS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
)


def _describe(program: bytes) -> Any:
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it uses {opcode.name}")
        # The unpickler allocates its memo up to the largest index.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > len(program):
            raise pickle.UnpicklingError("it uses a memo index beyond its length")
    return _Description(io.BytesIO(program)).load()
