"""Recordings: found, played (with Range), drawn, and proved. Agents have their own calls'."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from gateway.store.history import RecordingRow
from gateway.web.auth import WebDep, need
from gateway.web.context import Web
from gateway.web.peaks import peaks
from gateway.web.problems import Problem, responses
from gateway.web.ranges import Unsatisfiable, satisfiable
from gateway.web.roles import Principal, Scope
from gateway.web.routes.calls import Mode, call_filter
from gateway.web.types import CallIdPath, Cursor, Limit, NumberQuery, TextQuery, Time
from media.formats import FileFormat, format_of_file

router = APIRouter(tags=["recordings"])

Reader = Annotated[Principal, Depends(need(Scope.RECORDINGS_READ))]


class RecordingView(BaseModel):
    """A recording, or the proof that there is none (outcome ``blocked``)."""

    call_id: str
    username: str | None
    prospect_number: str
    outcome: str
    mode: str
    reason: str | None
    channels: int = Field(description="2: agent left, prospect right; 1: the agent alone; 0: no audio")
    sample_rate: int
    samples: int
    seconds: float
    size_bytes: int
    sha256: str | None
    problems: list[str]
    started_at: datetime = Field(description="Of the call")
    finished_at: datetime
    audio: bool = Field(description="There is a file to play")


class RecordingPage(BaseModel):
    """Recordings, the newest first."""

    items: list[RecordingView]
    next: str | None = Field(description="``cursor`` of the page that follows; null: there is none")


class ChannelPeaks(BaseModel):
    """One channel's least and greatest samples, each -128 … 127."""

    min: list[int]
    max: list[int]


class Peaks(BaseModel):
    """A waveform to draw; channel 0 is the agent, channel 1 the prospect."""

    channels: int
    sample_rate: int
    samples: int
    samples_per_point: int
    peaks: list[ChannelPeaks]


def recording_view(row: RecordingRow) -> RecordingView:
    """A stored recording for the API."""
    names = set(RecordingView.model_fields) - {"seconds", "audio", "problems"}
    return RecordingView(
        **{name: getattr(row, name) for name in names}, problems=list(row.problems),
        seconds=row.samples / row.sample_rate if row.sample_rate else 0.0,
        audio=row.path is not None and row.channels > 0,
    )  # fmt: skip


@router.get("/recordings", responses=responses(), operation_id="list_recordings")
async def list_recordings(
    web: WebDep, principal: Reader, user: TextQuery = None, number: NumberQuery = None, mode: Mode = None,
    reason: TextQuery = None,
    outcome: Annotated[Literal["complete", "degraded", "failed", "blocked", "recovered"] | None, Query()] = None,
    since: Time = None, until: Time = None, limit: Limit = 50, cursor: Cursor = None,
) -> RecordingPage:  # fmt: skip
    """Recordings, the newest first, a page at a time; times are those at which the calls began."""
    wanted = call_filter(principal, user, number, mode, reason, since, until)
    page = await web.store.history.recordings(wanted, outcome=outcome, limit=limit, cursor=cursor)
    return RecordingPage(items=[recording_view(row) for row in page.rows], next=page.next)


@router.get("/recordings/{call_id}", responses=responses(404), operation_id="read_recording")
async def read_recording(web: WebDep, principal: Reader, call_id: CallIdPath) -> RecordingView:
    """The recording of a call."""
    return recording_view(await web.store.history.recording(principal.organization, call_id, principal.own_only))


@router.head("/recordings/{call_id}/audio", include_in_schema=False)
@router.get(
    "/recordings/{call_id}/audio", operation_id="read_audio", response_class=FileResponse,
    responses={
        200: {"content": {kind.media_type: {"schema": {"type": "string", "format": "binary"}} for kind in FileFormat}},
        206: {
            "description": "The Range that was asked for", "content": {kind.media_type: {} for kind in FileFormat},
        },
        **responses(404, 416),
    },
)  # fmt: skip
async def read_audio(
    request: Request, web: WebDep, principal: Reader, call_id: CallIdPath,
    download: Annotated[bool, Query(description="As a file to be saved")] = False,
) -> FileResponse:  # fmt: skip
    """The audio file; ``Range`` is honoured (RFC 9110), so that players can seek."""
    path = await audio_path(web, principal, call_id)
    try:
        _honour_range(request, (await asyncio.to_thread(path.stat)).st_size)
    except OSError:
        raise Problem(404, "the audio file is gone") from None
    return FileResponse(
        path, media_type=format_of_file(path).media_type, filename=path.name,
        content_disposition_type="attachment" if download else "inline", headers={"cache-control": "private, no-store"},
    )  # fmt: skip


def _honour_range(request: Request, size: int) -> None:
    """Leave of the request's Range what FileResponse can serve. Raises Problem 416."""
    others = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    ranges = None
    if request.method == "GET":  # for no other method has Range a meaning (RFC 9110 §14.2)
        try:
            ranges = satisfiable(request.headers.get("range"), size)
        except Unsatisfiable:
            if "if-range" in request.headers:  # it may be of another file: that goes first
                return
            headers = {"content-range": f"bytes */{size}"}
            raise Problem(416, f"there are {size:,} bytes", headers=headers) from None
    request.scope["headers"] = [*others, (b"range", ranges.encode())] if ranges is not None else others


@router.get("/recordings/{call_id}/peaks", responses=responses(404), operation_id="read_peaks")
async def read_peaks(
    web: WebDep, principal: Reader, call_id: CallIdPath, points: Annotated[int, Query(ge=10, le=4000)] = 800
) -> Peaks:
    """The waveform, for drawing."""
    return Peaks(**await peaks_of(web, principal, call_id, points))


async def peaks_of(web: Web, principal: Principal, call_id: str, points: int) -> dict[str, Any]:
    """See ``read_peaks``; for API and page alike."""
    path = await audio_path(web, principal, call_id)
    try:
        return await asyncio.to_thread(peaks, path, points)
    except OSError as error:
        raise Problem(404, f"the audio can't be read: {error}") from None


@router.get("/recordings/{call_id}/manifest", responses=responses(404), operation_id="read_manifest")
async def read_manifest(web: WebDep, principal: Reader, call_id: CallIdPath) -> dict[str, Any]:
    """The manifest: decision, legs, losses, gaps, events, hash, place in the chain."""
    return await manifest_of(web, principal, call_id)


async def manifest_of(web: Web, principal: Principal, call_id: str) -> dict[str, Any]:
    """See ``read_manifest``; for API and page alike."""
    row = await web.store.history.recording(principal.organization, call_id, principal.own_only)
    path = _inside(web, row.manifest_path)
    try:
        found: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_text, "utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise Problem(404, f"the manifest can't be read: {getattr(error, 'strerror', None) or error}") from None


async def audio_path(web: Web, principal: Principal, call_id: str) -> Path:
    """Where the audio of a call is. Raises Problem 404: none was allowed, or the file is gone."""
    row = await web.store.history.recording(principal.organization, call_id, principal.own_only)
    if row.path is None or row.channels == 0:
        raise Problem(404, f"there is no audio of this call ({row.reason or row.outcome})")
    path = _inside(web, row.path)
    if path.suffix not in [kind.suffix for kind in FileFormat] or not await asyncio.to_thread(path.is_file):
        raise Problem(404, "the audio file is gone")
    return path


def _inside(web: Web, stored: str | None) -> Path:
    """A stored path, if it lies under the root of recordings."""
    if stored is None:
        raise Problem(404, "nothing could be written of this call")
    root = web.recordings_root.resolve()
    path = Path(stored).resolve()
    if not path.is_relative_to(root):
        raise Problem(404, "the file is not where recordings are")
    return path
