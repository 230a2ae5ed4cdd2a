"""Audit a tree of recordings: is every file what its manifest says, and does it hold no more than the decision allowed?

Everything is recomputed from the files; nothing of the recorder is used. Exit code: 0 clean, 1 findings, 2 bad usage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

CHANNELS = {"both": 2, "agent_only": 1, "none": 0}
OUTCOMES = {"complete", "degraded", "failed", "blocked", "recovered"}
STALE_SECONDS = 60.0
"""A ``.part`` that has not grown for this long belongs to no call in progress."""
_KEYS: dict[str, type] = {
    "organization": str, "call_id": str, "mode": str, "decision": dict, "outcome": str, "started": str, "ended": str,
    "chain": dict, "problems": list, "events": list,
}  # fmt: skip
_AUDIO_KEYS: dict[str, type] = {"file": str, "channels": int, "samples": int, "sample_rate": int}
_AUDIO = {".aac", ".aif", ".aiff", ".au", ".flac", ".gsm", ".m4a", ".mp3", ".ogg", ".opus", ".pcm", ".raw", ".wav"}
MAX_MANIFEST = 16 * 1024 * 1024
FORMATS = {
    ".wav": ("WAV", "PCM_16", "WAV PCM16"), ".flac": ("FLAC", "PCM_16", "FLAC PCM16"),
    ".ogg": ("OGG", "OPUS", "Ogg Opus"),
}  # fmt: skip
"""By suffix: libsndfile's words for what is in the file, and the manifest's."""
ENCODED = ".rtpdump"
"""Payload that could not be decoded, kept as it came."""
LOSSY_MARGIN, LOSSY_PEAK = 0.06, 64
"""What a lossy format may leave of silence: nothing that is louder, but for seconds at the edges."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    file: str
    """Relative to the tree."""
    kind: str
    detail: str


@dataclass
class Report:
    """What an audit saw."""

    root: str
    manifests: int = 0
    audio_files: int = 0
    in_progress: int = 0
    by_mode: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def add(self, file: str, kind: str, detail: str) -> None:
        self.findings.append(Finding(file, kind, detail))


@dataclass(frozen=True, slots=True)
class _Manifest:
    path: Path
    name: str
    raw: bytes
    value: dict[str, Any]


def audit(root: Path, *, stale_seconds: float = STALE_SECONDS) -> Report:
    """Look at everything under ``root``. Raises OSError if it can't be read at all."""
    report = Report(str(root))
    heads = {path.parent.name: _head(path)[0] for path in root.glob("*/chain.json")}
    manifests: dict[str, list[_Manifest]] = {}
    claimed: set[Path] = set()
    seen: set[Path] = set()
    for path in _files(root, report):
        seen.add(path)
        if path.name.endswith(".part.json") or path.suffix in (".part", ".tmp"):
            _part(root, path, report, stale_seconds)
        elif path.suffix == ".json" and not _is_head(root, path):
            manifest = _load(root, path, report)
            if manifest is not None:
                manifests.setdefault(path.relative_to(root).parts[0], []).append(manifest)
                claimed |= _check(root, manifest, report)
    for path in _files(root, None):
        if path in claimed or path.suffix in (".json", ".part", ".tmp"):
            continue
        if path.suffix not in (*FORMATS, ENCODED):
            kind = "orphan audio" if path.suffix.lower() in _AUDIO else "orphan file"
            report.add(_name(root, path), kind, "not a recording, and no manifest speaks for it")
        elif _being_finished(path, seen, stale_seconds):
            report.in_progress += 1
        else:
            report.add(_name(root, path), "orphan audio", "no manifest speaks for this file")
    for organization in sorted({*manifests, *heads}):
        _check_chain(root, organization, manifests.get(organization, []), heads.get(organization), report)
    return report


def _is_head(root: Path, path: Path) -> bool:
    """Whether it is an organization's chain.json; a manifest that is named so stands deeper."""
    return path.name == "chain.json" and len(path.relative_to(root).parts) == 2


def _name(root: Path, path: Path) -> str:
    return str(path.relative_to(root))


def _files(root: Path, report: Report | None) -> Iterator[Path]:
    """Regular files, sorted; links and what can't be read are named, links never followed."""

    def unreadable(error: OSError) -> None:
        if report is not None and not isinstance(error, FileNotFoundError):
            report.add(_name(root, Path(error.filename)), "unreadable directory", str(error.strerror))

    found: list[Path] = []
    for directory, directories, files in os.walk(root, onerror=unreadable):
        found += [Path(directory, name) for name in (*files, *directories)]
    for path in sorted(found):
        if path.is_symlink():
            if report is not None:
                report.add(_name(root, path), "symbolic link", "not followed; recordings are files")
        elif path.is_file():
            yield path
        elif path.exists() and not path.is_dir() and report is not None:
            report.add(_name(root, path), "orphan file", "neither a file nor a directory")


def _part(root: Path, path: Path, report: Report, stale_seconds: float) -> None:
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its call has ended since the tree was listed
        return
    working = path.name.endswith((".wav.part", f"{ENCODED}.part"))
    if path.suffix == ".part" and not working:
        report.add(_name(root, path), "orphan file", "not a recording, and no manifest speaks for it")
    elif working:
        if age < stale_seconds:
            report.in_progress += 1
        else:
            report.add(
                _name(root, path), "unfinished", f"not written to for {age:.0f} s; start the gateway to recover it"
            )
    elif path.suffix == ".tmp" and age >= stale_seconds:
        report.add(_name(root, path), "leftover", "a write that was never finished")
    elif path.name.endswith(".part.json") and age >= stale_seconds:
        audio = path.with_name(path.name.removesuffix(".part.json") + ".wav.part")
        if not audio.exists():
            report.add(_name(root, path), "unfinished", "a call that was being recorded, and has no audio")


def _being_finished(audio: Path, seen: set[Path], stale_seconds: float) -> bool:
    """A call that ends while the audit runs: the file has its name, its manifest comes next (or came since)."""
    base = audio.with_suffix("").with_suffix("") if audio.suffix == ENCODED else audio.with_suffix("")
    try:
        return time.time() - base.with_name(f"{base.name}.part.json").stat().st_mtime < stale_seconds
    except FileNotFoundError:
        manifest = base.with_name(f"{base.name}.json")
        return manifest not in seen and manifest.is_file()


def _load(root: Path, path: Path, report: Report) -> _Manifest | None:
    name = _name(root, path)
    report.manifests += 1
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ValueError("too large")
        raw = path.read_bytes()
        value = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        report.add(name, "unreadable manifest", str(error))
        return None
    problem = _schema_problem(value)
    if problem:
        report.add(name, "bad manifest", problem)
        return None
    return _Manifest(path, name, raw, value)


def _schema_problem(value: Any) -> str:
    """What a manifest lacks, "" when it can be checked."""
    if not isinstance(value, dict):
        return "not an object"
    for key, kind in _KEYS.items():
        if not isinstance(value.get(key), kind):
            return f"{key}: missing or of the wrong type"
    if value["mode"] not in CHANNELS:
        return f"mode: {value['mode']!r}"
    if value["outcome"] not in OUTCOMES:
        return f"outcome: {value['outcome']!r}"
    audio = value.get("audio")
    if audio is not None:
        if not isinstance(audio, dict):
            return "audio: of the wrong type"
        for key, kind in _AUDIO_KEYS.items():
            if not isinstance(audio.get(key), kind):
                return f"audio.{key}: missing or of the wrong type"
    return ""


def _check(root: Path, manifest: _Manifest, report: Report) -> set[Path]:
    """Manifest against decision, and file against manifest; gives the audio files it speaks for."""
    value, name = manifest.value, manifest.name
    mode = value["mode"]
    report.by_mode[mode] = report.by_mode.get(mode, 0) + 1
    _check_identity(root, manifest, report)
    decided = value["decision"].get("mode")
    if decided not in CHANNELS:
        report.add(name, "no decision", f"the manifest's decision has mode {decided!r}")
    elif CHANNELS[mode] > CHANNELS[decided]:
        report.add(name, "wider than decided", f"captured as {mode}, decided {decided}")
    claimed = _check_encoded(root, manifest, report)
    audio = value.get("audio")
    possible = {f"{value['call_id']}{suffix}": manifest.path.with_suffix(suffix) for suffix in FORMATS}
    if audio is None:
        if mode != "none" and value["outcome"] not in ("failed",):
            report.add(name, "missing audio", f"mode {mode}, outcome {value['outcome']}, but the manifest has no audio")
        found = {path for path in possible.values() if mode == "none" and path.exists()}
        for path in found:
            report.add(_name(root, path), "forbidden audio", "the decision was none: there may be no audio")
        return claimed | found
    if mode == "none":
        report.add(name, "forbidden audio", "the decision was none, but the manifest has audio")
    beside = possible.get(audio["file"])
    if beside is None:
        names = ", ".join(possible)
        report.add(name, "bad manifest", f"audio.file: {audio['file']!r} is none of {names}, beside it")
        return claimed
    if not beside.is_file() or beside.is_symlink():
        report.add(name, "missing file", f"{audio['file']} is not there")
        return claimed
    report.audio_files += 1
    _check_audio(manifest, beside, report)
    return claimed | {beside}


def _check_encoded(root: Path, manifest: _Manifest, report: Report) -> set[Path]:
    """Undecoded payload, leg by leg: only of legs that were allowed, and what its hash says."""
    claimed: set[Path] = set()
    legs = manifest.value.get("legs")
    for index, leg in enumerate(("agent", "prospect")):
        about = legs.get(leg) if isinstance(legs, dict) else None
        encoded = about.get("encoded") if isinstance(about, dict) else None
        path = manifest.path.with_suffix(f".{leg}{ENCODED}")
        if path.is_file() and CHANNELS[manifest.value["mode"]] <= index:
            report.add(_name(root, path), "forbidden audio", f"the {leg}'s leg may not be captured")
            claimed.add(path)
        if not encoded:
            continue
        if not isinstance(encoded, dict) or encoded.get("file") != path.name:
            report.add(manifest.name, "bad manifest", f"legs.{leg}.encoded does not name {path.name}, beside it")
        elif not path.is_file() or path.is_symlink():
            report.add(manifest.name, "missing file", f"{path.name} is not there")
        else:
            claimed.add(path)
            if (digest := _sha256(path)) != encoded.get("sha256"):
                detail = f"SHA-256 of {path.name} is {digest}, the manifest says {encoded.get('sha256')}"
                report.add(manifest.name, "changed audio", detail)
    return claimed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_identity(root: Path, manifest: _Manifest, report: Report) -> None:
    parts = manifest.path.relative_to(root).parts
    value = manifest.value
    expected = (value["organization"], *value["started"][:10].split("-"), f"{value['call_id']}.json")
    if parts != expected:
        report.add(manifest.name, "misplaced", f"belongs at {'/'.join(expected)}")


def _check_audio(manifest: _Manifest, path: Path, report: Report) -> None:
    value, name = manifest.value, manifest.name
    audio, mode = value["audio"], value["mode"]
    try:
        digest = _sha256(path)
        about = soundfile.info(str(path))
    except (OSError, RuntimeError) as error:
        report.add(name, "unreadable audio", str(error))
        return
    if digest != audio.get("sha256"):
        report.add(name, "changed audio", f"SHA-256 is {digest}, the manifest says {audio.get('sha256')}")
    if about.channels != CHANNELS[mode]:
        report.add(name, "wrong channels", f"{about.channels} channels, {mode} has {CHANNELS[mode]}")
    for what, found, said in (
        ("channels", about.channels, audio["channels"]),
        ("samples", about.frames, audio["samples"]),
        ("sample rate", about.samplerate, audio["sample_rate"]),
    ):
        if found != said:
            report.add(name, f"wrong {what}", f"the file has {found}, the manifest says {said}")
    if (about.format, about.subtype, audio.get("format", FORMATS[path.suffix][2])) != FORMATS[path.suffix]:
        report.add(name, "wrong format", f"{about.format} {about.subtype}, the manifest says {audio.get('format')}")
    report.seconds += about.frames / max(1, about.samplerate)
    try:
        _check_narrowed(manifest, path, about.channels, report)
        _check_widened(manifest, path, about.channels, report)
        _check_pauses(manifest, path, about.channels, report)
    except (OSError, RuntimeError) as error:
        report.add(name, "unreadable audio", str(error))


def _check_narrowed(manifest: _Manifest, path: Path, channels: int, report: Report) -> None:
    """After a narrowing, the legs it took away are silence."""
    for event in manifest.value["events"]:
        if not isinstance(event, dict) or event.get("event") != "narrow" or not isinstance(event.get("sample"), int):
            continue
        left, sample = CHANNELS.get(str(event.get("mode")), 0), int(event["sample"])
        for channel in range(left, channels):
            heard = _first_sound(path, channel, sample, None)
            if heard is not None:
                detail = f"channel {channel} has sound at sample {heard}, {left} channels are allowed from {sample} on"
                report.add(manifest.name, "captured after narrowing", detail)


def _check_widened(manifest: _Manifest, path: Path, channels: int, report: Report) -> None:
    """Before the prospect consented their leg is silence, and the decision in force says that they did."""
    for event in manifest.value["events"]:
        if not isinstance(event, dict) or event.get("event") != "widen" or not isinstance(event.get("sample"), int):
            continue
        reason = manifest.value["decision"].get("reason")
        if reason != "prospect_consented" or not manifest.value["decision"].get("consent"):
            report.add(manifest.name, "widened without consent", f"the decision's reason is {reason!r}")
        heard = _first_sound(path, 1, 0, event["sample"]) if channels > 1 else None
        if heard is not None:
            detail = f"channel 1 has sound at sample {heard}, consent was given at {event['sample']}"
            report.add(manifest.name, "captured before consent", detail)


def _check_pauses(manifest: _Manifest, path: Path, channels: int, report: Report) -> None:
    """While capture was paused every leg is silence."""
    pauses = manifest.value.get("pauses", [])
    for pause in pauses if isinstance(pauses, list) else []:
        if not (isinstance(pause, list) and len(pause) == 2 and all(isinstance(edge, int) for edge in pause)):
            report.add(manifest.name, "bad manifest", f"pauses: {pause!r} is no range of samples")
            continue
        for channel in range(channels):
            heard = _first_sound(path, channel, pause[0], pause[1])
            if heard is not None:
                detail = f"channel {channel} has sound at sample {heard}, paused from {pause[0]} to {pause[1]}"
                report.add(manifest.name, "captured while paused", detail)


def _first_sound(path: Path, channel: int, start: int, stop: int | None) -> int | None:
    """The first sample that is not silence from ``start`` on, up to ``stop``."""
    with soundfile.SoundFile(str(path)) as file:
        lossy = file.subtype == "OPUS"
        margin, peak = (round(LOSSY_MARGIN * file.samplerate), LOSSY_PEAK) if lossy else (0, 0)
        at = max(0, start + margin)
        left = (file.frames if stop is None else min(stop - margin, file.frames)) - at
        if left <= 0:
            return None
        file.seek(at)
        for block in file.blocks(blocksize=65536, frames=left, dtype="int16", always_2d=True):
            loud = np.flatnonzero(np.abs(block[:, channel].astype(np.int32)) > peak)
            if len(loud):
                return at + int(loud[0])
            at += len(block)
    return None


def _check_chain(
    root: Path, organization: str, manifests: list[_Manifest], before: _Head | None, report: Report
) -> None:
    """Each manifest names the SHA-256 of the one before; the head is in chain.json.

    ``before`` is the head as it was before the manifests were read: calls that end meanwhile add to the chain.
    """
    by_index: dict[int, _Manifest] = {}
    for manifest in manifests:
        index = manifest.value["chain"].get("index")
        if not isinstance(index, int) or index in by_index:
            report.add(manifest.name, "broken chain", f"index {index!r} is none or stands there twice")
        else:
            by_index[index] = manifest
    previous, expected = "0" * 64, 1
    hashes = {0: previous}
    for index, manifest in sorted(by_index.items()):
        if index != expected:
            report.add(manifest.name, "broken chain", f"{index - expected} manifests before this one are missing")
        elif manifest.value["chain"].get("previous") != previous:
            report.add(manifest.name, "broken chain", "the manifest before this one was changed or replaced")
        previous, expected = hashlib.sha256(manifest.raw).hexdigest(), index + 1
        hashes[index] = previous
    path, name, count = root / organization / "chain.json", f"{organization}/chain.json", expected - 1
    after, problem = _head(path)
    for _ in range(10):  # a manifest is written just before the head that names it, an organization's first before any
        if after is not None and count <= after[0]:
            break
        time.sleep(0.05)
        after, problem = _head(path)
    before = before or (0, hashes[0])  # the first call ended since
    if after is None:
        report.add(name, "broken chain", f"the chain's head can't be read: {problem}")
    elif before[0] > count:
        report.add(name, "broken chain", f"{before[0] - count} manifests at the end are missing")
    elif count > after[0] or any(hashes.get(i, head) != head for i, head in (before, after)):
        report.add(name, "broken chain", "the last manifest was changed, or is not the one that was written last")


_Head = tuple[int, str]


def _head(path: Path) -> tuple[_Head | None, str]:
    """How many manifests there are and the SHA-256 of the last, or why that can't be told."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return (int(state["count"]), str(state["head"])), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, str(error)


def show(report: Report, console: Console) -> None:
    """Findings first, then what was looked at."""
    if report.findings:
        table = Table(title=f"{len(report.findings)} findings")
        for column in ("file", "finding", "detail"):
            table.add_column(column, overflow="fold")
        for finding in report.findings:
            table.add_row(finding.file, finding.kind, finding.detail)
        console.print(table)
    modes = ", ".join(f"{count} {mode}" for mode, count in sorted(report.by_mode.items())) or "none"
    console.print(
        f"{report.root}: {report.manifests} manifests ({modes}), {report.audio_files} audio files, "
        f"{report.seconds:.1f} s of audio, {report.in_progress} in progress",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print("[red]Not clean.[/]" if report.findings else "[green]Clean:[/] every file is what its manifest says.")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path("var/recordings"), help="default: var/recordings")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--stale", type=float, default=STALE_SECONDS, metavar="SECONDS",
                        help="a .part not written to for this long is a finding (default: %(default)s)")  # fmt: skip
    given = parser.parse_args(arguments)
    if not given.root.is_dir():
        print(f"audit: {given.root} is not a directory", file=sys.stderr)
        return 2
    report = audit(given.root, stale_seconds=given.stale)
    if given.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        show(report, Console())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
