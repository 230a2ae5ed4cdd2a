"""Pausing a call's capture and resuming it: by the API, by the agent's keys (telephone-event or SIP INFO), by an INFO
of the agent's with a ``Record`` header."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.b2bua.keys import Control, ControlKeys, KeyLine, control_of_header, key_of_info
from gateway.sip.message import Request
from media.engine import MediaSession, Side
from media.keys import PressedKey

log = structlog.get_logger("control")


class CaptureControl:
    """One call's. Only the agent's leg has a say in pauses; the prospect's keys go to ``on_prospect_key``: the key,
    when it was pressed, and how it came."""

    def __init__(
        self, call_id: str, media: MediaSession, keys: ControlKeys,
        on_prospect_key: Callable[[str, float, str], None] = lambda key, now, via: None,
    ) -> None:  # fmt: skip
        self._on_prospect_key = on_prospect_key
        self._call_id = call_id
        self._media = media
        self._line = KeyLine(keys)

    @property
    def paused(self) -> bool:
        return self._media.paused

    def take_info(self, side: Side, request: Request, now: float) -> bool:
        """An INFO within the call. True: it was for the gateway alone, and is not for the other leg."""
        if side is not Side.AGENT:
            if key := key_of_info(request.content_type, request.body):
                self.press(side, key, now, via="info")
            return False
        control = control_of_header(request.get("record"))
        if control is not None:
            self.apply(control, via="info", by="agent")
            return not request.body
        if key := key_of_info(request.content_type, request.body):
            self.press(side, key, now, via="info")
        return False

    def press(self, side: Side, key: str, now: float, *, via: str) -> None:
        """A key of a leg, however it came."""
        if side is Side.PROSPECT:
            self._on_prospect_key(key, now, via)
        elif (control := self._line.press(key, now, paused=self.paused)) is not None:
            self.apply(control, via=via, by="agent")

    def press_event(self, side: Side, pressed: PressedKey) -> None:
        """A key that came as telephone-event (RFC 4733)."""
        self.press(side, pressed.key, pressed.pressed_ns / 1e9, via="telephone-event")

    def apply(self, control: Control, *, via: str, by: str) -> None:
        """Pause or resume; what is so already stays so."""
        if self.paused is (control is Control.PAUSE):
            return
        if control is Control.PAUSE:
            self._media.pause(via=via, by=by)
        else:
            self._media.resume(via=via, by=by)
        log.info("capture paused" if control is Control.PAUSE else "capture resumed",
                 call_id=self._call_id, via=via, by=by)  # fmt: skip
