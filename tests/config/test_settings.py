"""Settings: what lies over what, and that a mistake names its file and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.settings import SettingsError, load


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TWOPARTY_")]:
        monkeypatch.delenv(name)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_file_over_defaults_and_environment_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "t.toml", '[sip]\nrealm = "file"\nmax_calls = 7\n')
    monkeypatch.setenv("TWOPARTY_SIP__REALM", "environment")
    settings = load(file)
    assert (settings.sip.realm, settings.sip.max_calls, settings.sip.no_answer_seconds) == ("environment", 7, 60.0)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[sip]\nrealmm = 'x'\n", "sip.realmm"),
        ("[sip]\nlisten = ['udp:gateway.test:5060']\n", "sip.listen.0"),
        ("[sip]\nlisten = ['udp:0.0.0.0:5060']\n", "sip.advertise"),
        ("[sip]\nheaders_passed = ['X-Campaign', 'x-prospect-STATE']\n", "sip.headers_passed"),
        ("[sip]\nheaders_passed = ['Via']\n", "sip.headers_passed"),
        ("[sip]\nheaders_passed = ['i']\n", "sip.headers_passed"),
        ("[sip]\nheaders_passed = ['X-A: b']\n", "sip.headers_passed"),
        ("[media]\nport_min = 20000\nport_max = 20002\n", "port_max"),
        ("[web]\ncertificate = 'a.pem'\n", "certificate and key"),
        ("[[trunks]]\nname = 'a'\nhost = 'carrier.test'\n", "trunks.0.host"),
        ("nonsense", "t.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, key: str) -> None:
    file = written(tmp_path / "t.toml", text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert key in str(caught.value)


def test_other_headers_may_be_passed(tmp_path: Path) -> None:
    file = written(tmp_path / "t.toml", '[sip]\nheaders_passed = ["X-Campaign", "P-Asserted-Identity"]\n')
    assert load(file).sip.headers_passed == ("X-Campaign", "P-Asserted-Identity")
