"""What the prospect's own key may change: one widening, for one kind of reason, and a narrowing from anywhere."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.consent.asked import CONSENTED, OPTED_OUT, consented, may_widen, opted_out
from gateway.consent.engine import Mode, Reason

LOCATION = {"prospect_two_party", "prospect_location_unknown", "prospect_state_missing"}
WIDTHS = {"none": 0, "agent_only": 1, "both": 2}


def answer(mode: str, reason: str) -> dict[str, object]:
    return {"mode": mode, "reason": reason, "rule": 12, "time": "then", "trace": [{"rule": 12}], "policy_version": 3}


@pytest.mark.parametrize(("mode", "reason"), product(Mode, [*Reason, CONSENTED, OPTED_OUT, "anything"]))
def test_which_decisions_may_be_widened(mode: str, reason: str) -> None:
    allowed = mode == "agent_only" and reason in LOCATION
    assert may_widen(mode, reason) is allowed
    if allowed:
        made = consented(answer(mode, reason), {"key": "1"}, "now")
        assert (made["mode"], made["reason"], made["rule"], made["time"]) == ("both", "prospect_consented", 13, "now")
        assert made["before"] == {"mode": mode, "reason": reason, "time": "then"}
        assert (made["consent"], made["policy_version"], len(made["trace"])) == ({"key": "1"}, 3, 2)
    else:
        with pytest.raises(ValueError, match="can't be widened"):
            consented(answer(mode, reason), {}, "now")


@pytest.mark.parametrize(("mode", "wanted"), product(Mode, ["agent_only", "none"]))
def test_a_no_never_widens(mode: str, wanted: str) -> None:
    made = opted_out(answer(mode, "one_party"), wanted, "9", "now")
    assert WIDTHS[made["mode"]] == min(WIDTHS[mode], WIDTHS[wanted])
    assert (made["reason"], made["opt_out"]) == ("prospect_opted_out", {"key": "9"})
    assert not may_widen(made["mode"], made["reason"])
