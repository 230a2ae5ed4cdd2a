"""The coverage-guided fuzzer (atheris) on one target, from the kept corpus on.

    python -m tests.fuzz.run TARGET [--seconds N] [--runs N] [--found DIRECTORY] [--keep]

Exit code 77 and the input in a file when something is found. ``--keep`` makes the kept corpus anew: a small set
that reaches all the code that the old one and the run reached.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

CORPUS = Path(__file__).parent / "corpus"
NAMES = ("message", "sdp", "stream", "digest", "agent", "proof")


def fuzz(target: str, arguments: list[str]) -> None:
    """Run in this process, with libFuzzer's ``arguments``; does not come back."""
    import atheris

    with atheris.instrument_imports(include=["gateway", "tests.fuzz.targets"]):
        from tests.fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[target]())
    atheris.Fuzz()


def child(target: str, *arguments: str) -> int:
    """``fuzz`` in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz.run", target, "--child", *arguments]
    return subprocess.run(command, check=False).returncode


def corpus(target: str) -> list[str]:
    """The directory of what is kept for a target, if there is one."""
    return [str(CORPUS / target)] if (CORPUS / target).is_dir() else []


def search(options: argparse.Namespace, working: Path) -> int:
    """Look for inputs that fail; new ones go to ``working``."""
    limits = ["-max_len=8192", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={options.found}/"]
    for name, value in (("max_total_time", options.seconds), ("runs", options.runs), ("seed", options.seed)):
        if value:
            limits.append(f"-{name}={value}")
    return child(options.target, *limits, str(working), *corpus(options.target))


def arcs(target: str, data: bytes) -> set[tuple[str, int, int]]:
    """Which steps from line to line of the gateway's code an input takes."""
    from tests.fuzz.targets import TARGETS

    run, found = TARGETS[target](), set()

    def enter(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        if "/gateway/" not in frame.f_code.co_filename:
            return None
        last = 0

        def step(frame: FrameType, event: str, _: object) -> Callable[..., object]:
            nonlocal last
            found.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        run(data)
    finally:
        sys.settrace(None)
    return found


def keep(target: str, working: Path) -> None:
    """Make the kept corpus anew: of all inputs, the shortest first, those that take a step that none before took."""
    kept, reached = CORPUS / target, set[tuple[str, int, int]]()
    inputs = {path.read_bytes() for where in (working, kept) if where.is_dir() for path in where.iterdir()}
    chosen = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        if new := arcs(target, data) - reached:
            reached |= new
            chosen.append(data)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for data in chosen:
        (kept / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
    print(f"{target}: {len(chosen)} of {len(inputs)} inputs kept, {len(reached)} steps")


def main() -> int:
    """Entry point."""
    if sys.argv[2:3] == ["--child"]:
        fuzz(sys.argv[1], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--found", default=".", help="where an input that fails is written")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        code = search(options, Path(name))
        if options.keep and not code:
            keep(options.target, Path(name))
        return code


if __name__ == "__main__":
    sys.exit(main())
