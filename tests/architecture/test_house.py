"""The house keeps its shape: floors, sizes, free imports, one place for the environment."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "xlmr"
MODULES = sorted(SOURCE.rglob("*.py"))

MOST_MODULE_LINES = 400
MOST_FUNCTION_LINES = 60
# What may be larger, and why. Empty is the aim.
LARGER: dict[str, str] = {}

WALL_CLOCK = frozenset(
    ("time.time", "time.time_ns", "time.ctime", "datetime.now", "datetime.utcnow", "date.today")
)
ON_A_REQUESTS_PATH = frozenset(("serving", "telemetry", "text", "model"))
# Who may read the wall clock there, and what for.
TELLS_THE_TIME_OF_DAY = {
    "serving/follow/counting.py": "harm is counted by the minutes of the day",
    "serving/keys.py": "keys expire on a date",
    "serving/observing/desk.py": "nobody has spoken tomorrow",
    "serving/observing/observer.py": "records say when",
    "serving/observing/sights.py": "drift is counted by the hours of the day",
    "serving/observing/watching.py": "and weighed when an hour is over",
    "serving/web_tokens.py": "tokens expire on a date",
    "telemetry/logs.py": "lines of the log say when",
    "telemetry/traces.py": "spans say when; their lengths are measured",
}


def functions(module: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its body, its docstring not counted."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            yield node.name, (node.end_lineno or node.lineno) - first.lineno + 1


def test_floors_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_and_functions_stay_small(module: Path) -> None:
    name = str(module.relative_to(SOURCE))
    lines = len(module.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_MODULE_LINES or name in LARGER, f"{name}: {lines} lines"
    long = {f: n for f, n in functions(module) if n > MOST_FUNCTION_LINES}
    assert not {f for f in long if f"{name}:{f}" not in LARGER}, f"{name}: {long}"


def test_importing_costs_the_standard_library_only() -> None:
    """No package outside the standard library, and not even the expensive parts of that."""
    code = "import sys, json, xlmr; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    foreign = loaded - set(sys.stdlib_module_names) - {"xlmr", "__main__", "__mp_main__"}
    assert not foreign
    assert not loaded & {"asyncio", "logging", "typing_extensions", "multiprocessing", "ssl"}


def test_serving_never_imports_torch_or_sklearn() -> None:
    code = (
        "import sys, xlmr.cli.serve, xlmr.model.predictor, xlmr.model.runtimes.native;"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_the_environment_is_read_in_one_module() -> None:
    readers = {
        str(module.relative_to(SOURCE))
        for module in MODULES
        if re.search(r"os\.environ|os\.getenv|from os import .*environ", module.read_text("utf-8"))
    }
    assert readers == {"settings.py"}


def wall_clock_readings(module: Path) -> Iterator[str]:
    """Calls that tell the time of day, and names imported to do so."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if f"{node.value.id}.{node.attr}" in WALL_CLOCK:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (n.name for n in node.names if f"time.{n.name}" in WALL_CLOCK)


def test_no_duration_hangs_on_the_wall_clock() -> None:
    """It jumps; whatever stands on a request's path measures with a clock that does not."""
    readers = {
        str(module.relative_to(SOURCE))
        for module in MODULES
        if module.relative_to(SOURCE).parts[0] in ON_A_REQUESTS_PATH
        and list(wall_clock_readings(module))
    }
    assert readers == set(TELLS_THE_TIME_OF_DAY)


def test_every_module_opens_with_a_docstring() -> None:
    silent = [
        str(m.relative_to(SOURCE))
        for m in MODULES
        if not ast.get_docstring(ast.parse(m.read_text("utf-8")))
    ]
    assert not silent


def test_the_map_names_what_is_there() -> None:
    """ARCHITECTURE.md lists every module and package, and nothing that is not there."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.split("```")[1]
    listed: set[str] = set()
    rooms: list[str] = []
    for line in tree.splitlines()[1:]:
        if not line.startswith("  ") or not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        rooms = [*rooms[: depth - 1], name.rstrip("/")]
        listed.add("/".join(rooms) + ("/" if name.endswith("/") else ""))
    packages = {f"{p.parent.relative_to(SOURCE)}/" for p in MODULES if p.name == "__init__.py"}
    modules = {
        str(p.relative_to(SOURCE)) for p in MODULES if p.name not in ("__init__.py", "__main__.py")
    }
    actual = (packages | modules) - {"./"}
    assert listed - {"__init__.py", "__main__.py"} == actual
