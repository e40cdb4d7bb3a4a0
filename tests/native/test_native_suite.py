"""The engine's own tests: under sanitizers here, and for 64-bit Arm under an emulator.

They are built in `build/native-tests`, once; later runs compile what has changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "native"
BUILDS = REPOSITORY / "build" / "native-tests"
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def tool(name: str, install: str) -> str:
    found = shutil.which(name, path=TOOLS)
    if found is None:
        pytest.skip(f"{name} is missing: {install}")
    return found


def called(command: list[str | Path]) -> None:
    """Runs a command; its output is the failure's explanation."""
    environment = {**os.environ, "CTEST_OUTPUT_ON_FAILURE": "1", "PATH": TOOLS}
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail("\n".join(done.stdout.splitlines()[-100:]), pytrace=False)


def steady_addresses() -> list[str]:
    """GCC's thread sanitizer gives up where the system spreads addresses over more than 28 bits."""
    bits = Path("/proc/sys/vm/mmap_rnd_bits")
    try:
        spread = int(bits.read_text(encoding="ascii"))
    except OSError:
        return []
    setarch = shutil.which("setarch", path=TOOLS)
    return [setarch, platform.machine(), "-R"] if spread > 28 and setarch else []


def build_and_test(name: str, *options: str) -> None:
    cmake = tool("cmake", "apt-get install cmake, or pip install cmake")
    ctest = tool("ctest", "apt-get install cmake, or pip install cmake")
    directory = BUILDS / name
    cache = directory / "CMakeCache.txt"
    # A build directory remembers where it was made, and fails when the repository has been moved.
    if cache.exists() and str(SOURCE) not in cache.read_text(encoding="utf-8"):
        shutil.rmtree(directory)
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=TOOLS) else []
    jobs = str(len(os.sched_getaffinity(0)))
    called(
        [cmake, "-S", SOURCE, "-B", directory, *generator, "-DXLMR_NATIVE_TESTS=ON", *options],
    )
    called([cmake, "--build", directory, "--parallel", jobs])
    called([*steady_addresses(), ctest, "--test-dir", directory, "--parallel", jobs])


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_engine_is_clean_under_sanitizers(sanitizers: str) -> None:
    build_and_test(sanitizers.replace(",", "-"), f"-DXLMR_SANITIZE={sanitizers}")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() == "aarch64", reason="this is an Arm machine already")
def test_the_engine_is_right_on_arm() -> None:
    """With the dot product, and on a processor without it."""
    install = "apt-get install g++-aarch64-linux-gnu qemu-user"
    tool("aarch64-linux-gnu-g++", install)
    tool("qemu-aarch64", install)
    toolchain = SOURCE / "toolchains" / "aarch64-linux-gnu.cmake"
    build_and_test("aarch64", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")


def installed_engines() -> list[Path]:
    return sorted((REPOSITORY / "build").glob("cp*/libxlmr_engine.a"))


@pytest.mark.skipif(not installed_engines(), reason="the package was not built in this directory")
def test_kernels_share_no_code_with_other_processors() -> None:
    """A function that the linker may merge would carry AVX-512 to a processor without it."""
    nm = tool("nm", "apt-get install binutils")
    listing = subprocess.run(
        [nm, "--defined-only", installed_engines()[-1]], capture_output=True, text=True, check=True
    ).stdout
    kernels = False
    shared = []
    for line in listing.splitlines():
        if line.endswith(".o:"):
            kernels = line.startswith("kernels_")
        elif kernels and line.split()[1:2] in (["W"], ["V"], ["u"]):
            shared.append(line.split()[2])
    assert "kernels_portable.cpp.o:" in listing
    assert not shared
