"""``twoparty decide``: what would be recorded, and why, for a list of calls; no call is made."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.commands.common import fail
from gateway.consent.engine import ConsentData, decide
from gateway.consent.facts import Facts, FactsError
from gateway.consent.jurisdictions import Jurisdictions
from gateway.consent.places import AreaCodes, DataError
from gateway.consent.policy import Policy, PolicyError

HELP = """Decide for a list of calls whether and how each would be recorded, without making a call.

One JSON object a line comes in (--facts; "-" is standard input), one goes out, in the same order: mode, reason, rule,
trace, resolved locations, versions. Empty lines are skipped. A bad line is named with file, line and key; the exit code
is then 2, and nothing is written at all.

Facts: direction (outbound, inbound), prospect_number, and optionally prospect_state, user_country, user_state.

\b
Example:
  echo '{"recording_enabled": true}' > policy.json
  echo '{"direction": "outbound", "prospect_number": "+14155550123", "user_country": "US", "user_state": "TX"}' \\
    | twoparty decide --policy policy.json --facts - --summary
"""


def register(root: typer.Typer) -> None:
    """Add ``decide`` to the root command."""
    root.command("decide", help=HELP)(decide_command)


class _BadInput(Exception):
    """What is said to who gave the input."""


def decide_command(
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="Settings as JSON; absent ones default.")],
    facts: Annotated[Path, typer.Option("--facts", metavar="FILE", help="One JSON object a line; - is stdin.")],
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="DATE", help="Law as of this day (today).")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here (stdout).")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="A table of how many calls, by mode and reason.")] = False,
) -> None:
    try:
        counts = _run(policy, facts, _day(as_of), output)
    except _BadInput as error:
        fail(str(error))
    except BrokenPipeError:
        # whoever read us has had enough; Python must not complain of it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if summary:
        Console(stderr=output is None).print(_table(counts))


def _run(policy_file: Path, facts_file: Path, on: date, output: Path | None) -> Counter[tuple[str, str]]:
    policy, data = _policy(policy_file), _data()
    counts: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        source = stack.enter_context(_opened(facts_file))
        spool = stack.enter_context(_spool(output))
        for fact in _facts(source, str(facts_file), stack):
            answer = decide(policy, fact, data, on)
            counts[str(answer.mode), str(answer.reason)] += 1
            spool.write(json.dumps(answer.as_dict(), ensure_ascii=False) + "\n")
        _deliver(spool, output)
    return counts


def _opened(path: Path) -> IO[bytes]:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb")
    except OSError as error:
        raise _BadInput(f"{path}: {error.strerror}") from None


def _spool(output: Path | None) -> IO[str]:
    """Where answers wait until the last line has proved good; beside ``output``, to be renamed."""
    directory = str(output.parent) if output is not None and _is_plain(output) else None
    try:
        # half a surrogate pair, which JSON may hold, is written as the escape that it was read from
        return tempfile.NamedTemporaryFile(
            "w+", dir=directory, prefix=".decide-", encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise _BadInput(f"{output or tempfile.gettempdir()}: {error.strerror}") from None


def _is_plain(output: Path) -> bool:
    """A file, there or to be; a device or pipe must not be replaced by one."""
    return output.is_file() or not output.exists()


def _deliver(spool: IO[str], output: Path | None) -> None:
    spool.flush()
    if output is not None and not _is_plain(output):
        spool.seek(0)
        try:
            with output.open("w", encoding="utf-8") as device:
                shutil.copyfileobj(spool, device)
        except OSError as error:
            raise _BadInput(f"{output}: {error.strerror}") from None
        return
    if output is not None:
        try:
            copy = output.with_name(f".{output.name}.{os.getpid()}")
            os.link(spool.name, copy)
            copy.chmod(0o644)
            copy.replace(output)
        except OSError as error:
            raise _BadInput(f"{output}: {error.strerror}") from None
        return
    spool.seek(0)
    shutil.copyfileobj(spool, sys.stdout)
    sys.stdout.flush()


def _facts(source: IO[bytes], name: str, stack: ExitStack) -> Iterator[Facts]:
    advance = _progress(source, name, stack)
    for number, line in enumerate(source, start=1):
        advance(number, len(line))
        if not line.strip():
            continue
        try:
            yield Facts.from_mapping(_object(line))
        except FactsError as error:
            raise _BadInput(f"{name}:{number}: {error.key}: {error.reason}") from None
        except ValueError as error:
            raise _BadInput(f"{name}:{number}: {error}") from None


def _progress(source: IO[bytes], name: str, stack: ExitStack) -> Any:
    """A bar on stderr where that is a terminal; gives what is called for each line."""
    if not sys.stderr.isatty():
        return lambda number, size: None
    bar = stack.enter_context(
        Progress(*Progress.get_default_columns(), TextColumn("{task.fields[calls]} calls"), TimeElapsedColumn(),
                 console=Console(stderr=True), transient=True)
    )  # fmt: skip
    total = os.fstat(source.fileno()).st_size if name != "-" else None
    task = bar.add_task("deciding", total=total or None, calls=0)
    pending = [0]

    def advance(number: int, size: int) -> None:
        pending[0] += size
        if number % 1000 == 0:
            bar.update(task, advance=pending[0], calls=number)
            pending[0] = 0

    return advance


def _object(line: bytes) -> dict[str, Any]:
    """Raises ValueError (what is wrong), FactsError (a key that stands there twice)."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise FactsError(key, "given twice")
            found[key] = value
        return found

    try:
        value = json.loads(line.decode("utf-8-sig"), object_pairs_hook=pairs)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _policy(path: Path) -> Policy:
    try:
        text = path.read_text(encoding="utf-8")
        return Policy.from_mapping(_object(text.encode()))
    except OSError as error:
        raise _BadInput(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _BadInput(f"{path}: not UTF-8") from None
    except (PolicyError, FactsError) as error:
        raise _BadInput(f"{path}:{_line_of(text, error.key)}: {error.key}: {error.reason}") from None
    except ValueError as error:
        raise _BadInput(f"{path}: {error}") from None


def _line_of(text: str, key: str) -> int:
    """The line where a setting stands, as well as can be told."""
    name = key.rpartition(".")[2]
    at = max(text.find(f'"{key}"'), text.find(f'"{name}"'))
    return text.count("\n", 0, max(at, 0)) + 1


def _data() -> ConsentData:
    config = files("config")
    try:
        return ConsentData(
            AreaCodes.from_csv(config.joinpath("area_codes.csv").read_text(encoding="utf-8")),
            Jurisdictions.from_toml(config.joinpath("jurisdictions.toml").read_text(encoding="utf-8")),
        )
    except (DataError, OSError) as error:
        raise _BadInput(f"reference data: {error}") from None


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _BadInput(f"--as-of: {text!r} is not a date like 2026-01-31") from None


def _table(counts: Counter[tuple[str, str]]) -> Table:
    table = Table(title=f"{counts.total():,} calls")
    table.add_column("mode")
    table.add_column("reason")
    table.add_column("calls", justify="right")
    table.add_column("share", justify="right")
    order = {"both": 0, "agent_only": 1, "none": 2}
    for (mode, reason), count in sorted(counts.items(), key=lambda item: (order.get(item[0][0], 3), -item[1])):
        table.add_row(mode, reason, f"{count:,}", f"{count / counts.total():.1%}")
    return table
