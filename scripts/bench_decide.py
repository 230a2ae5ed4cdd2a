"""Decisions per second on one core, from parsed facts: ``python -m scripts.bench_decide``.

The facts are a dialing list of 20,000 different numbers over every area code, agents of four states, list states on
half of the rows. Three figures: numbers seen before (the engine remembers where a number is), numbers never seen, and
with the answer turned into JSON as ``twoparty decide`` writes it. Medians of several runs taken in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib import resources

from rich.console import Console
from rich.table import Table

from gateway.b2bua.gate import load_data
from gateway.consent.engine import ConsentData, decide
from gateway.consent.facts import Facts
from gateway.consent.places import REGIONS
from gateway.consent.policy import Policy

CALLS = 20_000
TARGET = 50_000
ON = date(2026, 11, 24)


def reference_data() -> ConsentData:
    """The data that the project ships."""
    texts = (resources.files("config").joinpath(name).read_text("utf-8") for name in FILES)
    return load_data(*texts)


FILES = ("area_codes.csv", "jurisdictions.toml")


def dialing_list(data: ConsentData, count: int, seed: int) -> list[Facts]:
    """Facts of ``count`` calls, all numbers different."""
    draw = random.Random(seed)
    codes = sorted(data.area_codes.codes)
    states = sorted(REGIONS)
    lines = draw.sample(range(2_000_000, 9_999_999), count)
    return [
        Facts(
            "outbound",
            f"+1{draw.choice(codes)}{line}",
            draw.choice(states) if draw.random() < 0.5 else None,
            "US",
            draw.choice(("US-TX", "US-NY", "US-CA", "US-OH")),
        )
        for line in lines
    ]


POLICY = Policy.from_mapping(
    {
        "two_party_rule": "either",
        "location_basis": "state",
        "location_conflict": "stricter",
        "never_record": {"enabled": True, "states": ["US-NH", "US-VT"]},
        "international": {"enabled": True, "countries": ["CA", "GB"]},
    }
)


def seconds(work: Callable[[Facts], object], calls: list[Facts]) -> float:
    """CPU seconds for all of ``calls``."""
    began = time.process_time()
    for facts in calls:
        work(facts)
    return time.process_time() - began


def main(argv: list[str] | None = None) -> int:
    """Entry point; always 0, as a figure is no test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--json", action="store_true", help="the medians as one JSON object")
    options = parser.parse_args(argv)
    runs = 1 if options.quick else options.runs
    data = reference_data()
    rates: dict[str, list[float]] = {"numbers seen before": [], "numbers never seen": [], "answer as JSON": []}
    for run in range(runs):
        calls = dialing_list(data, CALLS, run)
        work: dict[str, Callable[[Facts], object]] = {
            "numbers never seen": lambda facts: decide(POLICY, facts, data, ON),
            "numbers seen before": lambda facts: decide(POLICY, facts, data, ON),
            "answer as JSON": lambda facts: json.dumps(decide(POLICY, facts, data, ON).as_dict()),
        }
        for name, one in work.items():
            rates[name].append(CALLS / seconds(one, calls))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    if options.json:
        print(json.dumps({name: round(rate) for name, rate in medians.items()}))
        return 0
    table = Table(title=f"Consent decisions on one core, medians of {runs} runs of {CALLS:,} calls")
    for heading in ("facts", "decisions/s", "µs each", f"of {TARGET:,}/s"):
        table.add_column(heading, justify="left" if heading == "facts" else "right")
    for name, rate in medians.items():
        table.add_row(name, f"{rate:,.0f}", f"{1e6 / rate:.1f}", f"{rate / TARGET:.2f}x")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
