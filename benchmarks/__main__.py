"""`python -m benchmarks CASE`: measure, keep the raw result, regenerate the tables, print one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType

from benchmarks import (
    calibration,
    cold_start,
    crash,
    data,
    encode,
    end_to_end,
    ingest,
    paper,
    quality,
    results,
    scale,
    train,
)

CASES: dict[str, ModuleType] = {
    "quality": quality,
    "calibration": calibration,
    "encode": encode,
    "cold-start": cold_start,
    "ingest": ingest,
    "crash": crash,
    "end-to-end": end_to_end,
    "scale": scale,
    "train": train,
}
QUICK: dict[str, list[str]] = {
    "quality": ["xquad-en"],
    "calibration": ["nq-gold"],
    "encode": ["speed", "parity", "--rounds", "3", "--questions", "50"],
    "cold-start": ["--rounds", "2", "--no-install"],
    "ingest": ["disk", "encoder"],
    "crash": ["kills", "--kills", "3"],
    "end-to-end": ["--passages", "300", "--questions", "45", "--rounds", "1"],
    "scale": ["10000"],
    "train": ["memory"],
}
"""What each case is given when none is named: by estimate 12 minutes on 2 idle cores. Other parts keep theirs."""
LONG: dict[str, list[str]] = {
    "quality": ["--all"],
    "calibration": ["nq-gold", "squad", "reqa-bioasq", "medquad"],
    "encode": ["hardware", "speed", "one-thread", "parity", "memory", "dpr-pair"],
    "end-to-end": ["--passages", "20000", "--questions", "300"],
    "scale": ["10000", "100000", "1000000"],
}
"""The same with --long; a case that is not here runs in its default form."""


def main(arguments: list[str] | None = None) -> int:
    """Run one case, or each in its quick or long form when none is named; `tables` only regenerates what is shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--long", action="store_true", help="with no CASE: every case in its long form")
    commands = parser.add_subparsers(dest="case", metavar="CASE")
    for name, case in CASES.items():
        case.add_options(commands.add_parser(name, help=(case.__doc__ or "").split("\n")[0], description=case.__doc__))
    commands.add_parser("tables", help="only regenerate tables and plots from the raw results")
    options = parser.parse_args(arguments)
    summary = {}
    try:
        for name, case in CASES.items():
            if options.case == name:
                summary[name] = case.run(options)
            elif options.case is None:
                chosen = LONG if options.long else QUICK
                summary[name] = case.run(parser.parse_args([name, *chosen.get(name, [])]))
    except data.MissingDataError as missing:
        print(f"benchmarks: {missing}", file=sys.stderr)
        return 1
    for name, case in CASES.items():
        if (name in summary or options.case == "tables") and (records := results.read(name)):
            if hasattr(case, "plot"):
                case.plot(records)
            results.put_in_readme(name, case.tables(records))
            if name == "quality":
                paper.put_in_readme(records)
            if name == "end-to-end":
                results.put_in_readme(name, end_to_end.summary(records), readme=paper.README)
    print(json.dumps(summary, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
