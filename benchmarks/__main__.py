"""`python -m benchmarks CASE`: measure, keep the raw result, regenerate the tables, print one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from types import ModuleType
from typing import Any

from benchmarks import (
    ann,
    calibration,
    cold_start,
    data,
    encode,
    end_to_end,
    ingest,
    quality,
    results,
    scale,
    search,
    shown,
    train,
)

CASES: dict[str, ModuleType] = {
    "quality": quality,
    "calibration": calibration,
    "encode": encode,
    "cold-start": cold_start,
    "ingest": ingest,
    "end-to-end": end_to_end,
    "scale": scale,
    "ann": ann,
    "search": search,
    "train": train,
}
QUICK: dict[str, list[str]] = {
    "quality": ["xquad-en"],
    "calibration": ["nq-gold"],
    "encode": ["speed", "parity", "--rounds", "3", "--questions", "50"],
    "cold-start": ["--rounds", "1", "--no-install"],
    "ingest": ["disk", "encoder"],
    "end-to-end": ["--passages", "200", "--questions", "30", "--rounds", "1"],
    "scale": ["10000"],
    "ann": ["10000", "--without", "hnswlib", "faiss-ivfpq", "lancedb"],
    "search": ["--passages", "1600"],
    "train": ["memory"],
}
"""What each case is given in the quick form, which keeps its results in benchmarks/quick/."""
LONG: dict[str, list[str]] = {
    "quality": ["--all"],
    "calibration": ["nq-gold", "squad", "reqa-bioasq", "medquad", "nq-gold+wiki-ottqa"],
    "encode": ["hardware", "speed", "one-thread", "parity", "memory", "dpr-pair"],
    "end-to-end": ["--passages", "20000", "--questions", "300"],
    "scale": ["10000", "100000", "1000000"],
    "ann": ["100000", "1000000"],
}
"""The same in the long form; a case that is not here runs with its defaults."""
FORMS = {"quick": QUICK, "long": LONG}


def main(arguments: list[str] | None = None) -> int:
    """Run one case, or several in their quick or long form; `tables` only regenerates what is shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="case", metavar="CASE")
    for name, case in CASES.items():
        case.add_options(commands.add_parser(name, help=(case.__doc__ or "").split("\n")[0], description=case.__doc__))
    for name in FORMS:
        form = commands.add_parser(name, help=f"these cases, else all, in their {name} form (default: all, quick)")
        form.add_argument("cases", nargs="*", metavar="CASE")
    commands.add_parser("tables", help="only regenerate tables and plots from the raw results")
    options = parser.parse_args(arguments or ["quick"])
    summary: dict[str, Any] = {}
    try:
        if options.case in FORMS:
            if unknown := set(options.cases) - set(CASES):
                parser.error(f"unknown case {min(unknown)!r}; known: {', '.join(CASES)}")
            chosen = {name: FORMS[options.case].get(name, []) for name in options.cases or CASES}
            with results.within(results.QUICK if options.case == "quick" else results.MAIN):
                for name, given in chosen.items():
                    started = time.monotonic()
                    if options.case == "quick":
                        results.discard(name)  # of parts that the form had before
                    summary[name] = CASES[name].run(parser.parse_args([name, *given]))
                    seconds = round(time.monotonic() - started, 1)
                    results.write(shown.DURATION, name, {"form": options.case, "options": given, "seconds": seconds})
        elif options.case in CASES:
            summary[options.case] = CASES[options.case].run(options)
    except data.MissingDataError as missing:
        print(f"benchmarks: {missing}", file=sys.stderr)
        return 1
    if options.case == "quick":
        shown.quick_page(CASES)
    shown.regenerate(CASES, [options.case] if options.case in CASES else CASES)
    print(json.dumps(summary, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
