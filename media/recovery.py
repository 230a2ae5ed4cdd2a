"""What a crash left is finished on the next start."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from media.codecs import SAMPLE_RATE
from media.engine import CaptureMode, Outcome, RecordingResult
from media.manifest import Chain, file_sha256, utc
from media.wav import repair

log = structlog.get_logger("recovery")
_DAY = "*/[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]"


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
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("recording could not be recovered", file=str(sidecar), error=str(error))
    return results


def _recover_one(root: Path, sidecar: Path) -> RecordingResult:
    identity = json.loads(sidecar.read_text(encoding="utf-8"))
    call_id = str(identity["call_id"])
    manifest_path = sidecar.with_name(f"{call_id}.json")
    part, final = sidecar.with_name(f"{call_id}.wav.part"), sidecar.with_name(f"{call_id}.wav")
    if manifest_path.exists():  # killed just before the sidecar was removed, or the chain told
        Chain(root, str(identity["organization"])).adopt(manifest_path)
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    else:
        manifest = _finish(root, identity, part if part.exists() else final, manifest_path)
        if part.exists() and manifest["audio"] is not None:
            part.replace(final)
    sidecar.unlink()
    audio = manifest.get("audio") or {}
    return RecordingResult(
        call_id, str(identity["organization"]), Outcome(manifest["outcome"]), CaptureMode(identity["mode"]),
        final if audio else None, manifest_path, int(audio.get("channels", 0)), int(audio.get("sample_rate", 0)),
        int(audio.get("samples", 0)), final.stat().st_size if audio else 0, audio.get("sha256"),
        tuple(manifest["problems"]),
    )  # fmt: skip


def _finish(root: Path, identity: dict[str, Any], file: Path, manifest_path: Path) -> dict[str, Any]:
    problems = ["the gateway stopped while this call was recorded: the end is missing"]
    audio: dict[str, Any] | None = None
    frames = 0
    try:
        channels, frames = repair(file)
        legs = ["agent", "prospect"][:channels]
        audio = {
            "file": f"{identity['call_id']}.wav", "format": "WAV PCM16", "sample_rate": SAMPLE_RATE,
            "channels": channels, "channel_legs": legs, "samples": frames, "sha256": file_sha256(file),
        }  # fmt: skip
    except (OSError, ValueError) as error:
        problems.append(f"no audio could be recovered: {error}")
    started = datetime.fromisoformat(identity["started"].replace("Z", "+00:00")).astimezone(UTC)
    manifest = {
        **identity,
        "outcome": str(Outcome.RECOVERED if audio is not None else Outcome.FAILED),
        "ended": utc(started + timedelta(seconds=frames / SAMPLE_RATE)),
        "termination": {"kind": "lost", "ended_by": "gateway", "detail": "the gateway stopped"},
        "audio": audio,
        "legs": {},
        "events": identity.get("events", []),
        "problems": problems,
    }
    Chain(root, str(identity["organization"])).append(manifest_path, manifest)
    return manifest
