"""``make bench``: every benchmark beside its peer, one after the other; ratios and medians, nothing asserted."""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("bench_decide", "bench_recorder", "bench_calls", "bench_media", "bench_web")


def main() -> int:
    """Run the benchmarks named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], default=[], help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short run each")
    arguments = parser.parse_args()
    worst = 0
    for name in arguments.names or NAMES:
        code = importlib.import_module(f"scripts.{name}").main(["--quick"] if arguments.quick else [])
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
