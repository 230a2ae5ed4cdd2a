"""A test softphone on PJSIP (pjsua2-pybind11): register, place or answer a call, hold, send DTMF, hang up.

It shares no line with the gateway's own SIP core, so it is a second opinion on it. The wheel has no player: what
arrives is echoed, so the far end hears itself. ``twoparty call`` is this module with the gateway's defaults.

    python -m scripts.softphone +12125550123 --user demo --password demo --dtmf 42 --hold 1
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

SETTLE_SECONDS = 0.8
"""PJSIP aborts or refuses when a re-INVITE or BYE follows DTMF sooner than this."""

HINT = "the softphone needs pjsua2-pybind11: pip install 'twoparty[softphone]'"


class SoftphoneError(Exception):
    """Something that the softphone was asked for did not come about; the text says what, for a person."""


class SoftphoneMissing(SoftphoneError):
    """pjsua2-pybind11 is not installed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that PJSIP told: ``kind`` is registration, incoming, state, media or dtmf."""

    kind: str
    text: str
    code: int = 0
    call: Any = None


@dataclass
class SoftphoneCall:
    """One call of the softphone; ``states`` holds every state so far, in order (CALLING, EARLY, CONFIRMED...)."""

    uri: str
    call: Any
    code: int = 0
    reason: str = ""
    states: list[str] = field(default_factory=list)
    digits: str = ""


class Softphone:
    """One account on one UDP or TCP transport. A context manager; one at a time in a process (PJSIP is global).

    ``gateway`` is ``host:port``; ``bind`` the local address, a loopback or interface address. What happens is
    passed to ``tell`` as :class:`Event`, from the calling thread. Raises :class:`SoftphoneMissing` without PJSIP.
    """

    def __init__(
        self,
        gateway: str,
        user: str = "softphone",
        password: str = "",
        *,
        bind: str = "127.0.0.1",
        transport: str = "udp",
        log_level: int = 0,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._gateway, self._user, self._transport, self._tell = gateway, user, transport, tell
        self._events: queue.Queue[Event] = queue.Queue()
        self._calls: list[SoftphoneCall] = []
        self._pj = _load()
        self._endpoint = self._pj.Endpoint()
        try:
            with _quiet(log_level == 0):  # PJSIP logs to stdout until it has read its configuration
                self._endpoint.libCreate()
                self._start(bind, log_level)
            self._account = self._open_account(password)
        except BaseException:
            self._endpoint.libDestroy()
            raise

    def _start(self, bind: str, log_level: int) -> None:
        pj = self._pj
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = log_level
        config.uaConfig.maxCalls = 8
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        self._endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.port = 0
        transport.boundAddress = bind
        transport.publicAddress = bind
        self._endpoint.transportCreate(getattr(pj.TransportType, self._transport.upper()), transport)
        self._endpoint.libStart()
        self._endpoint.audDevManager.setNullDev()

    def _open_account(self, password: str) -> Any:
        pj, events, calls = self._pj, self._events, self._calls
        make_call = self._call_class()

        class Account(pj.Account):  # type: ignore[name-defined,misc]
            def onRegState(self, prm: Any) -> None:
                events.put(Event("registration", prm.reason, int(prm.code)))

            def onIncomingCall(self, prm: Any) -> None:
                call = make_call(self, prm.callId)
                calls.append(SoftphoneCall(call.info.remoteUri, call))
                events.put(Event("incoming", calls[-1].uri, call=calls[-1]))

        config = pj.AccountConfig()
        config.idUri = f"sip:{self._user}@{self._gateway}"
        config.regConfig.registrarUri = self._uri("")
        config.regConfig.registerOnAdd = False
        if password:
            credential = pj.AuthCredInfo()
            credential.scheme, credential.realm, credential.username = "digest", "*", self._user
            credential.dataType, credential.data = 0, password
            config.sipConfig.authCreds.append(credential)
        account = Account()
        account.create(config)
        return account

    def _call_class(self) -> Any:
        pj, events, softphone = self._pj, self._events, self

        class Call(pj.Call):  # type: ignore[name-defined,misc]
            def onCallState(self, prm: Any) -> None:
                info = self.info
                events.put(Event("state", info.state.name, int(info.lastStatusCode), softphone._of(self)))

            def onCallMediaState(self, prm: Any) -> None:
                for media in self.info.media:
                    if media.type == pj.MediaType.AUDIO and media.status == pj.CallMediaStatus.ACTIVE:
                        audio = self.getAudioMedia(media.index)
                        audio.startTransmit(audio)
                events.put(Event("media", "echo", call=softphone._of(self)))

            def onDtmfDigit(self, prm: Any) -> None:
                events.put(Event("dtmf", prm.digit, call=softphone._of(self)))

        return Call

    def _of(self, call: Any) -> SoftphoneCall | None:
        return next((known for known in self._calls if known.call is call), None)

    def _uri(self, user: str) -> str:
        return f"sip:{user + '@' if user else ''}{self._gateway};transport={self._transport}"

    def register(self, seconds: float = 10.0) -> None:
        """Register with the gateway, and wait for its answer. Raises :class:`SoftphoneError` with the status."""
        self._account.setRegistration(True)
        event = self._wait(lambda event: event.kind == "registration", seconds, "no answer to REGISTER")
        if event.code != 200:
            raise SoftphoneError(f"registration refused: {event.code} {event.text}")

    def unregister(self, seconds: float = 5.0) -> None:
        """Take the registration back, and wait for the answer."""
        self._account.setRegistration(False)
        self._wait(lambda event: event.kind == "registration", seconds, "no answer to REGISTER")

    def call(self, target: str, headers: Mapping[str, str] | None = None, seconds: float = 60.0) -> SoftphoneCall:
        """Call a number or a SIP URI and wait for the answer. Raises :class:`SoftphoneError` with the status."""
        pj = self._pj
        uri = target if target.startswith(("sip:", "sips:")) else self._uri(target)
        made = SoftphoneCall(uri, self._call_class()(self._account))
        self._calls.append(made)
        parameters = self._parameters()
        for name, value in (headers or {}).items():
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            parameters.txOption.headers.append(header)
        made.call.makeCall(uri, parameters)
        self._wait_state(made, "CONFIRMED", seconds)
        return made

    def answer(self, seconds: float = 60.0) -> SoftphoneCall:
        """Wait for a call and answer it. Raises :class:`SoftphoneError` when none comes."""
        event = self._wait(lambda event: event.kind == "incoming", seconds, "no call came in")
        made: SoftphoneCall = event.call
        self._do(lambda: made.call.answer(self._parameters(200)))
        self._wait_state(made, "CONFIRMED", 10)
        return made

    def talk(self, call: SoftphoneCall, seconds: float) -> bool:
        """Echo for a time; False when the far end hung up before it was over."""
        deadline = time.monotonic() + seconds
        while "DISCONNECTED" not in call.states and (left := deadline - time.monotonic()) > 0:
            self._next(left)
        return "DISCONNECTED" not in call.states

    def dtmf(self, call: SoftphoneCall, digits: str) -> None:
        """Send digits as telephone-events (RFC 4733), and let them go out."""
        self._do(lambda: call.call.dialDtmf(digits))
        self.talk(call, SETTLE_SECONDS + 0.25 * len(digits))

    def hold(self, call: SoftphoneCall, seconds: float) -> None:
        """Put the call on hold (sendonly re-INVITE), wait, take it back."""
        self._do(lambda: call.call.setHold(self._parameters()))
        self._wait(lambda event: event.kind == "media" and event.call is call, 10, "no answer to hold")
        self.talk(call, seconds)
        parameters = self._parameters()
        parameters.opt.flag = 1  # PJSUA_CALL_UNHOLD
        self._do(lambda: call.call.reinvite(parameters))
        self._wait(lambda event: event.kind == "media" and event.call is call, 10, "no answer to unhold")

    def hang_up(self, call: SoftphoneCall, seconds: float = 10.0) -> None:
        """Send BYE (or CANCEL) and wait until the call is over."""
        if "DISCONNECTED" not in call.states:
            self._do(lambda: call.call.hangup(self._parameters()))
            self._wait_state(call, "DISCONNECTED", seconds)

    def wait_end(self, call: SoftphoneCall, seconds: float) -> None:
        """Wait until the far end hangs up. Raises :class:`SoftphoneError` when it does not."""
        self._wait_state(call, "DISCONNECTED", seconds)

    @staticmethod
    def _do(action: Callable[[], None]) -> None:
        """Act on a call. PJSIP's thread may hold the call's lock while it waits for Python's, which we hold: it gives
        up after a while (PJ_ETIMEDOUT), so let it finish first, and try again."""
        for attempts_left in (2, 1, 0):
            time.sleep(0.1)
            try:
                action()
                return
            except RuntimeError as error:
                if "PJ_ETIMEDOUT" not in str(error) or not attempts_left:
                    raise

    def _parameters(self, status: int = 0) -> Any:
        parameters = self._pj.CallOpParam()
        parameters.opt.audioCount, parameters.opt.videoCount = 1, 0
        if status:
            parameters.statusCode = self._pj.StatusCode(status)
        return parameters

    def _wait_state(self, call: SoftphoneCall, state: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while state not in call.states:
            if "DISCONNECTED" in call.states:
                raise SoftphoneError(f"call failed: {call.code} {call.reason}".rstrip())
            if (left := deadline - time.monotonic()) <= 0:
                raise SoftphoneError(f"the call did not become {state} within {seconds:g} s")
            self._next(left)

    def _wait(self, wanted: Callable[[Event], bool], seconds: float, otherwise: str) -> Event:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            event = self._next(left)
            if event is not None and wanted(event):
                return event
        raise SoftphoneError(f"{otherwise} within {seconds:g} s")

    def _next(self, seconds: float) -> Event | None:
        try:
            event = self._events.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        call = event.call
        if isinstance(call, SoftphoneCall):
            if event.kind == "state":
                call.states.append(event.text)
                call.code, call.reason = event.code, _reason(call.call)
            elif event.kind == "dtmf":
                call.digits += event.text
        self._tell(event)
        return event

    def close(self) -> None:
        """Hang up what is left, and take PJSIP down; every Call must be gone before, or it aborts."""
        self._endpoint.hangupAllCalls()
        for call in self._calls:
            try:
                self._wait_state(call, "DISCONNECTED", 2)
            except SoftphoneError:
                continue
        for call in self._calls:
            call.call = None
        self._calls.clear()
        while not self._events.empty():
            self._events.get_nowait()
        gc.collect()
        self._account.shutdown()
        self._account = None
        gc.collect()
        self._endpoint.libDestroy()

    def __enter__(self) -> Softphone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load() -> Any:
    """The pjsua2 module; imported late, as nothing else of the gateway needs it."""
    try:
        return importlib.import_module("pjsua2")
    except ImportError as error:
        raise SoftphoneMissing(HINT) from error


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Send what native code writes to stdout nowhere."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _reason(call: Any) -> str:
    try:
        return str(call.info.lastReason)
    except RuntimeError:  # PJSIP has let go of it
        return ""


def tell(event: Event) -> None:
    """Print one event as a line."""
    code = f" {event.code}" if event.code else ""
    print(f"{event.kind:<13}{event.text}{code}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; 0 when the call was answered and ended as asked, 1 when not, 2 when PJSIP is missing."""
    parser = argparse.ArgumentParser(prog="softphone", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("target", nargs="?", help="number or SIP URI to call; without one, wait for a call and answer")
    parser.add_argument("--gateway", default="127.0.0.1:5060", metavar="HOST:PORT")
    parser.add_argument("--user", default="demo")
    parser.add_argument("--password", default=os.environ.get("TWOPARTY_PASSWORD", ""), help="or $TWOPARTY_PASSWORD")
    parser.add_argument("--bind", default="127.0.0.1", help="local address")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--register", action="store_true", help="register first (always done to answer)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to talk")
    parser.add_argument("--dtmf", default="", help="digits to send, by RFC 4733")
    parser.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="hold the call for a while")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="for the INVITE")
    parser.add_argument("--wait", type=float, default=60.0, help="how long to wait for an answer or a call")
    parser.add_argument("--log-level", type=int, default=0, help="PJSIP's own log, 0 to 6")
    options = parser.parse_args(argv)
    try:
        with Softphone(
            options.gateway, options.user, options.password,
            bind=options.bind, transport=options.transport, log_level=options.log_level, tell=tell,
        ) as phone:  # fmt: skip
            run(phone, options)
    except (SoftphoneError, RuntimeError) as error:  # RuntimeError: what pjsua2 raises of its own
        print(f"softphone: {error}", file=sys.stderr)
        return 2 if isinstance(error, SoftphoneMissing) else 1
    return 0


def run(phone: Softphone, options: argparse.Namespace) -> None:
    """One call as ``options`` ask."""
    if options.register or options.target is None:
        phone.register()
    if options.target is None:
        call = phone.answer(options.wait)
    else:
        headers = dict(header.split(":", 1) for header in options.header if ":" in header)
        call = phone.call(options.target, {name: value.strip() for name, value in headers.items()}, options.wait)
    if options.dtmf:
        phone.dtmf(call, options.dtmf)
    if options.hold:
        phone.hold(call, options.hold)
    phone.talk(call, options.seconds)
    phone.hang_up(call)
    if options.register or options.target is None:
        phone.unregister()


if __name__ == "__main__":
    sys.exit(main())
