"""What the native engine does when weights, the system or somebody else go wrong under it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.tiny import tiny_model

from xlmr.errors import NonFiniteError, WeightsError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.runtimes import _native
from xlmr.model.runtimes.native import NativeRuntime
from xlmr.types import Batch

SETS = _native.instruction_sets()
PRECISIONS = ("int8", "bf16", "fp32")


def open_native(bundle: Bundle, precision: str = "int8", isa: str = "auto") -> NativeRuntime:
    return NativeRuntime.open(bundle, precision=precision, threads=2, isa=isa, batch_tokens=512)


def some_batch(tokens: int = 40) -> Batch:
    ids_T = np.random.default_rng(0).integers(5, 40, tokens).astype(np.int32)
    return Batch(ids_T=ids_T, starts=np.array([0, tokens], np.int32))


def changed(directory: Path, name: str, value: float) -> Bundle:
    """The tiny model with every number of one array, whose name ends so, replaced."""
    tiny_model(directory, kind="embed")
    path = directory / "embed" / "model.safetensors"
    arrays = safetensors.torch.load_file(path)
    (found,) = [full for full in arrays if full.endswith(name)]
    arrays[found] = torch.full_like(arrays[found], value)
    safetensors.torch.save_file(arrays, path, metadata={"format": "pt"})
    return open_bundle(directory / "embed")


def run_elsewhere(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what is tested would end this one if it failed."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name",
    ["layer.0.attention.self.key.bias", "layer.1.output.dense.weight", "word_embeddings.weight"],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, precision: str, name: str, value: float
) -> None:
    bundle = changed(tmp_path, name, value)
    with pytest.raises(WeightsError, match=r"holds a NaN or an infinity\n.*damaged, or overflowed"):
        open_native(bundle, precision)
    assert not list(bundle.directory.glob("*xlmr-native*"))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_overflow_is_an_error_that_names_the_layer(
    tmp_path: Path, precision: str, isa: str, layer: int
) -> None:
    """Numbers that a layer norm's squares cannot hold: it would answer with its bias."""
    bundle = changed(tmp_path, f"layer.{layer}.output.dense.bias", 0.0)
    path = bundle.directory / "model.safetensors"
    arrays = safetensors.torch.load_file(path)
    (name,) = [name for name in arrays if name.endswith(f"layer.{layer}.output.dense.bias")]
    arrays[name][::2] = 1e30
    safetensors.torch.save_file(arrays, path, metadata={"format": "pt"})
    runtime = open_native(open_bundle(bundle.directory), precision, isa)
    for rows in ("all", "first"):
        with pytest.raises(NonFiniteError, match=f"not finite numbers, noticed in layer {layer}\n"):
            runtime.run(some_batch(), rows=rows)


_TOO_MANY_THREADS = """
import resource, sys
from pathlib import Path
from xlmr.errors import EngineError
from xlmr.model.bundle import open_bundle
from xlmr.model.runtimes.native import NativeRuntime

bundle = open_bundle(Path(sys.argv[1]))
def opened(threads):
    return NativeRuntime.open(
        bundle, precision="int8", threads=threads, isa="auto", batch_tokens=512
    )
opened(2).close()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
# Room for some stacks of threads, not for a thousand.
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
import os, time
before = len(os.listdir("/proc/self/task"))
try:
    opened(2000)
except EngineError as fault:
    deadline = time.monotonic() + 10  # a thread that was joined may still be listed
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    print(len(os.listdir("/proc/self/task")) - before, fault.code, fault)
opened(2).warm()
print("sound")
"""


def test_threads_the_system_does_not_give_are_an_error(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, kind="embed")
    done = run_elsewhere(_TOO_MANY_THREADS, directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 engine_error the system gave ")
    assert "of 2000 threads" in done.stdout
    assert "lower XLMR_THREADS" in done.stdout
    assert done.stdout.endswith("sound\n")


_CUT_IN_USE = """
import os, sys
from pathlib import Path
import numpy as np
from xlmr.errors import EngineError
from xlmr.model.bundle import open_bundle
from xlmr.model.runtimes.native import NativeRuntime
from xlmr.types import Batch

bundle = open_bundle(Path(sys.argv[1]))
runtime = NativeRuntime.open(bundle, precision="fp32", threads=1, isa="auto", batch_tokens=512)
batch = Batch(ids_T=np.arange(5, 25, dtype=np.int32), starts=np.array([0, 20], np.int32))
runtime.run(batch)
prepared = bundle.directory / "xlmr-native-fp32.weights"
prepared.chmod(0o644)
os.truncate(prepared, 4096)
try:
    runtime.run(batch)
except EngineError as fault:
    print(fault.code, fault)
again = NativeRuntime.open(bundle, precision="fp32", threads=1, isa="auto", batch_tokens=512)
again.run(batch)
print("sound")
"""


def test_weights_cut_while_in_use_are_an_error_and_no_crash(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, kind="embed")
    done = run_elsewhere(_CUT_IN_USE, directory)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    assert done.stdout.startswith("engine_error ")
    assert "written to while in use" in done.stdout
    assert done.stdout.endswith("sound\n")


def test_prepared_weights_are_read_only_and_still_replaced(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_model(tmp_path, kind="embed"))
    runtime = open_native(bundle)
    expected = runtime.run(some_batch()).hidden_TD
    prepared = bundle.directory / "xlmr-native-int8.weights"
    assert stat.S_IMODE(prepared.stat().st_mode) == 0o444
    # Damaged: the next one to open prepares it anew, and who had the old one keeps it.
    content = bytearray(prepared.read_bytes())
    content[len(content) // 2] ^= 1
    prepared.unlink()
    prepared.write_bytes(content)
    prepared.chmod(0o444)
    np.testing.assert_array_equal(open_native(bundle).run(some_batch()).hidden_TD, expected)
    np.testing.assert_array_equal(runtime.run(some_batch()).hidden_TD, expected)
    assert stat.S_IMODE(prepared.stat().st_mode) == 0o444


@pytest.mark.parametrize("tokens", [1, 4000])
def test_an_answer_outlives_its_engine(tmp_path: Path, tokens: int) -> None:
    """Small and large answers lie in different memory."""
    directory = tiny_model(tmp_path, kind="embed", positions=4100)
    runtime = NativeRuntime.open(
        open_bundle(directory), precision="int8", threads=1, isa="auto", batch_tokens=4096
    )
    answer = runtime.run(some_batch(tokens)).hidden_TD
    expected = answer.copy()
    again = runtime.run(some_batch(tokens)).hidden_TD
    again[:] = 0
    runtime.close()
    del runtime, again
    np.testing.assert_array_equal(answer, expected)
