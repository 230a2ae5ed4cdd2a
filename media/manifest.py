"""Manifests: what a recording is, beside it, each chained to the organization's previous one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = 1
CHAIN = "chain.json"
_COMPONENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\Z")
GENESIS = "0" * 64
"""What the first manifest of an organization names as its previous."""


def component(text: str) -> str:
    """``text`` if it can be a path component. Raises ValueError."""
    if _COMPONENT.match(text) is None:
        raise ValueError(f"{text!r} cannot be part of a path")
    return text


def directory_for(root: Path, organization: str, started: datetime) -> Path:
    """``root/organization/yyyy/mm/dd`` (UTC). Raises ValueError."""
    day = started.astimezone(UTC)
    return root / component(organization) / f"{day:%Y}" / f"{day:%m}" / f"{day:%d}"


def utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def file_sha256(path: Path) -> str:
    """Streamed. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """All of it or nothing, on the disk when this returns. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Chain:
    """The head of one organization's chain of manifests, in a small file; for one writer at a time."""

    def __init__(self, root: Path, organization: str) -> None:
        self._path = root / component(organization) / CHAIN

    def head(self) -> tuple[int, str]:
        """How many manifests there are, and the SHA-256 of the last. Raises OSError, ValueError."""
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0, GENESIS
        try:
            return int(state["count"]), str(state["head"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._path.name} is damaged: {error!r}") from None

    def append(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Write ``manifest`` to ``path`` as the next of the chain. Raises OSError, ValueError."""
        count, head = self.head()
        full = {**manifest, "chain": {"index": count + 1, "previous": head}}
        data = (json.dumps(full, indent=2, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace")
        write_atomically(path, data)
        self._advance(count + 1, data, path)

    def _advance(self, count: int, data: bytes, path: Path) -> None:
        state = {"count": count, "head": hashlib.sha256(data).hexdigest(), "last": path.name}
        write_atomically(self._path, (json.dumps(state) + "\n").encode())

    def adopt(self, path: Path) -> None:
        """Take in a manifest that was written just before a crash, if it is the next of the chain.

        Raises OSError, ValueError, KeyError.
        """
        count, head = self.head()
        data = path.read_bytes()
        link = json.loads(data)["chain"]
        if (link["index"], link["previous"]) == (count + 1, head):
            self._advance(count + 1, data, path)
