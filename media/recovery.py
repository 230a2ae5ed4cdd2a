"""What a crash left is finished on the next start."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from media import encoded
from media.codecs import SAMPLE_RATE
from media.engine import CaptureMode, Outcome, RecordingResult
from media.formats import FileFormat, convert
from media.manifest import Chain, file_sha256, utc
from media.wav import repair

log = structlog.get_logger("recovery")
_DAY = "*/[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]"
_OWN = ("file_format", "closing")
"""What a sidecar says to recovery alone; the rest of it goes into the manifest."""


def recover(root: Path) -> list[RecordingResult]:
    """Finish every recording under ``root`` that has a sidecar: header repaired, manifest written, file renamed.

    For the one process that writes there, before it starts to. Never raises for what it finds.
    """
    results = []
    for unfinished in (*root.glob(f"{_DAY}/*.tmp"), *root.glob("*/chain.json.tmp")):
        unfinished.unlink(missing_ok=True)  # cut short before it had its name: what it was to replace still stands
    for sidecar in sorted(root.glob(f"{_DAY}/*.part.json")):
        try:
            results.append(_recover_one(root, sidecar))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("recording could not be recovered", file=str(sidecar), error=str(error))
    return results


def _recover_one(root: Path, sidecar: Path) -> RecordingResult:
    identity = json.loads(sidecar.read_text(encoding="utf-8"))
    call_id, organization = str(identity["call_id"]), str(identity["organization"])
    manifest_path, part = sidecar.with_name(f"{call_id}.json"), sidecar.with_name(f"{call_id}.wav.part")
    if manifest_path.exists():  # killed just before the sidecar was removed, or the chain told
        Chain(root, organization).adopt(manifest_path)
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    else:
        manifest = _manifest(identity, part)
        Chain(root, organization).append(manifest_path, manifest)
    audio = manifest.get("audio") or {}
    final = sidecar.with_name(str(audio["file"])) if audio else None
    if final is not None and part.exists():
        if final.name == part.with_suffix("").name:
            part.replace(final)
        else:
            part.unlink()
    sidecar.unlink()
    return RecordingResult(
        call_id, organization, Outcome(manifest["outcome"]), CaptureMode(identity["mode"]), final, manifest_path,
        int(audio.get("channels", 0)), int(audio.get("sample_rate", 0)), int(audio.get("samples", 0)),
        final.stat().st_size if final is not None else 0, audio.get("sha256"), tuple(manifest["problems"]),
    )  # fmt: skip


def _manifest(identity: dict[str, Any], part: Path) -> dict[str, Any]:
    """The manifest that the call would have had, as far as it can be told. The audio is in place then, or ``part`` is
    to get its name."""
    format_ = FileFormat(identity.get("file_format") or "wav")
    closing = identity.get("closing")
    about = {key: value for key, value in identity.items() if key not in _OWN}
    problems = ["the gateway stopped while this call was recorded: the end is missing"] if not closing else []
    audio = _audio(about, part, format_, problems)
    if closing:  # the call had ended; all that was missing was the file in its format
        problems = [*closing["problems"], *problems]
        outcome = closing["outcome"] if len(problems) == len(closing["problems"]) else Outcome.DEGRADED
        return {**closing, "audio": audio, "outcome": str(outcome if audio else Outcome.FAILED), "problems": problems}
    seconds = audio["samples"] / audio["sample_rate"] if audio is not None else 0.0
    started = datetime.fromisoformat(identity["started"].replace("Z", "+00:00")).astimezone(UTC)
    samples = audio["samples"] if audio is not None else 0
    return {
        **about,
        "outcome": str(Outcome.RECOVERED if audio is not None else Outcome.FAILED),
        "ended": utc(started + timedelta(seconds=seconds)),
        "termination": {"kind": "lost", "ended_by": "gateway", "detail": "the gateway stopped"},
        "audio": audio,
        "legs": _encoded(part, str(identity["call_id"]), problems),
        "events": identity.get("events", []),
        "pauses": [[begin, samples if end is None else end] for begin, end in identity.get("pauses", [])],
        "problems": problems,
    }


def _audio(identity: dict[str, Any], part: Path, format_: FileFormat, problems: list[str]) -> dict[str, Any] | None:
    """What the manifest says of the audio, its file repaired and converted; None, and a problem, without any."""
    call_id = str(identity["call_id"])
    wav = part if part.exists() else part.with_suffix("")
    try:
        channels, frames, rate = repair(wav)
        name, label, file = f"{call_id}.wav", FileFormat.WAV.label, wav
        if format_ is not FileFormat.WAV:
            target = part.with_name(f"{call_id}{format_.suffix}")
            try:
                convert(wav, target, format_)
                name, label, file = target.name, format_.label, target
            except OSError as error:
                problems.append(f"it is kept as WAV: it could not be made {format_.label}: {error}")
        return {
            "file": name, "format": label, "sample_rate": rate or SAMPLE_RATE, "channels": channels,
            "channel_legs": ["agent", "prospect"][:channels], "samples": frames, "sha256": file_sha256(file),
        }  # fmt: skip
    except (OSError, ValueError) as error:
        problems.append(f"no audio could be recovered: {error}")
        return None


def _encoded(part: Path, call_id: str, problems: list[str]) -> dict[str, Any]:
    """Payload that was kept undecoded, leg by leg."""
    legs: dict[str, Any] = {}
    for leg in ("agent", "prospect"):
        file = part.with_name(encoded.name_for(call_id, leg) + ".part")
        if not file.exists():
            continue
        try:
            packets = encoded.repair(file)
            final = file.replace(file.with_suffix(""))
            about = {"file": final.name, "format": "rtpdump", "packets": packets, "sha256": file_sha256(final)}
            legs[leg] = {"captured_leg": True, "encoded": about}
        except (OSError, ValueError) as error:
            problems.append(f"{leg}: encoded payload could not be recovered: {error}")
    return legs
