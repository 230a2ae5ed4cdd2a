"""The commands that use the store, as a shell calls them, on a store of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import typer
from click.testing import Result
from typer.testing import CliRunner

from gateway.commands import audit, calls, lists, organizations, policy, recordings, user
from gateway.store.store import Store
from tests.support.store_records import sqlite_url


class CommandLine:
    """``twoparty`` with a database in ``directory``. Call it with the words of a command."""

    def __init__(self, directory: Path) -> None:
        self.url = sqlite_url(directory / "store.db")
        root = str(directory / "recordings")
        environment = {"TWOPARTY_STORE__URL": self.url, "TWOPARTY_RECORDING__ROOT": root}
        self._runner = CliRunner(env=environment | {"COLUMNS": "250", "TWOPARTY_CONFIG": ""})
        self._root = typer.Typer()
        for command in (audit, calls, lists, organizations, policy, recordings, user):
            command.register(self._root)

    def __call__(self, *words: str, code: int = 0, stdin: str = "") -> Result:
        """What the command said; it must exit with ``code``, and never with a traceback."""
        result: Any = self._runner.invoke(self._root, words, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, f"{result.exit_code}: {result.output}"
        return result  # type: ignore[no-any-return]

    def json(self, *words: str) -> Any:
        """What the command answers with ``--json``."""
        return json.loads(self(*words, "--json").stdout)

    def error(self, *words: str, code: int = 2, stdin: str = "") -> str:
        """The one line of error that the command ends with."""
        result = self(*words, code=code, stdin=stdin)
        assert result.stderr.startswith("twoparty: ")
        assert result.stderr.count("\n") == 1
        return result.stderr[len("twoparty: ") : -1]

    def store(self, work: Callable[[Store], Awaitable[None]]) -> None:
        """Do ``work`` on the store that the commands use."""

        async def main() -> None:
            store = await Store.open(self.url)
            try:
                await work(store)
            finally:
                await store.close()

        asyncio.run(main())
