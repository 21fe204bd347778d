"""`python -m benchmarks CASE`: measure, keep the raw result, regenerate the tables, print one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType

from benchmarks import cold_start, crash, data, encode, end_to_end, ingest, quality, results

CASES: dict[str, ModuleType] = {
    "quality": quality,
    "encode": encode,
    "cold-start": cold_start,
    "ingest": ingest,
    "crash": crash,
    "end-to-end": end_to_end,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one case, or each in its quick form when none is named; `tables` only regenerates the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="case", metavar="CASE")
    for name, case in CASES.items():
        case.add_options(commands.add_parser(name, help=(case.__doc__ or "").split("\n")[0], description=case.__doc__))
    commands.add_parser("tables", help="only regenerate benchmarks/README.md from the raw results")
    options = parser.parse_args(arguments)
    summary = {}
    try:
        for name, case in CASES.items():
            if options.case == name:
                summary[name] = case.run(options)
            elif options.case is None:
                summary[name] = case.run(parser.parse_args([name, *getattr(case, "QUICK", ())]))
    except data.MissingDataError as missing:
        print(f"benchmarks: {missing}", file=sys.stderr)
        return 1
    for name, case in CASES.items():
        if (name in summary or options.case == "tables") and (records := results.read(name)):
            results.put_in_readme(name, case.tables(records))
    print(json.dumps(summary, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
