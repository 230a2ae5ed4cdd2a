"""A PostgreSQL server for tests and benchmarks: Debian's package, on a free loopback port, in a temporary directory."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import psycopg

_CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 100
log_min_messages = error
"""
_numbers = itertools.count(1)


def binaries() -> Path:
    """Where initdb and pg_ctl are: Debian keeps them out of PATH. Raises RuntimeError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise RuntimeError("PostgreSQL is not installed; scripts/install_peers.sh does it")
    return Path(on_path).parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A running server; a context manager."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="twoparty-pg-"))
        self._bin = binaries()
        self.port = _free_port()

    def __enter__(self) -> Postgres:
        user = pwd.getpwuid(os.getuid()).pw_name
        if user == "root":  # the server refuses to run as root
            user = "postgres"
            shutil.chown(self._directory, user)
            self._directory.chmod(0o700)
        data = self._directory / "data"
        self._run("initdb", "-D", str(data), "-U", "twoparty", "-A", "trust", "-E", "UTF8", "--no-sync", user=user)
        conf = data / "postgresql.conf"
        conf.write_text(conf.read_text() + _CONF.format(port=self.port))
        self._user = user
        log = str(self._directory / "log")
        self._run("pg_ctl", "-D", str(data), "-l", log, "-w", "-t", "60", "start", user=user)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data = str(self._directory / "data")
        self._run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", user=self._user, check=False)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, program: str, *arguments: str, user: str, check: bool = True) -> None:
        command = [str(self._bin / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", user, "--", *command]
        done = subprocess.run(
            command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=120, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')[-2000:]}")

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection that can make and drop databases."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user="twoparty", dbname="postgres", autocommit=True)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{next(_numbers)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return f"postgresql://twoparty@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database that ``new_database`` made."""
        with self.admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")
