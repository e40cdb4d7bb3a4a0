"""A PostgreSQL server that a test starts for itself, on a free port, and stops again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services import free_port

# It refuses to run as root; Debian's package brings this user.
_USER = "postgres"


class PostgresServer:
    """A cluster of its own below a temporary directory; nothing it holds outlives it."""

    def __init__(self, directory: Path) -> None:
        found = [shutil.which(name) or _debians(name) for name in ("initdb", "postgres")]
        if None in found:
            pytest.skip("postgres is not installed: run `make services` as root")
        self._initdb, self._postgres = (str(path) for path in found)
        self._directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = None
        if os.geteuid() == 0:
            try:
                self._user = pwd.getpwnam(_USER).pw_uid
            except KeyError:
                pytest.skip(f"postgres does not run as root, and there is no user {_USER}")
            os.chown(directory, self._user, -1)
        self._run([self._initdb, "-D", str(directory / "data"), "-U", "xlmr", "-A", "trust", "-N"])

    @property
    def url(self) -> str:
        return f"postgresql://xlmr@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Starts it, and waits until it lets somebody in."""
        command = [self._postgres, "-D", str(self._directory / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self._directory), "-c", "fsync=off"]
        with (self._directory / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, user=self._user, cwd=self._directory
            )
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url):
                return
            assert self._process.poll() is None, (self._directory / "postgres.log").read_text()
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, without waiting for who is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, user=self._user, cwd=self._directory, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One that runs."""
    # Below pytest's own directory no other user may look.
    with tempfile.TemporaryDirectory(prefix="xlmr-postgres-", ignore_cleanup_errors=True) as place:
        os.chmod(place, 0o755)
        server = PostgresServer(Path(place))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _debians(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else None
