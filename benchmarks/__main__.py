"""`python -m benchmarks CASE`: measure, keep the result, regenerate the tables, print one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
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
    reader,
    results,
    scale,
    search,
    train,
)
from benchmarks.render import headlines, markdown, tables

CASES: dict[str, ModuleType] = {
    "quality": quality,
    "calibration": calibration,
    "reader": reader,
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
    "reader": ["nq-gold", "speed", "--questions", "50", "--rounds", "5"],
    "encode": ["speed", "parity", "--rounds", "3", "--questions", "50"],
    "cold-start": ["--rounds", "1"],
    "ingest": ["disk", "encoder"],
    "end-to-end": ["--passages", "200", "--questions", "30", "--rounds", "1"],
    "scale": ["10000"],
    "ann": ["10000", "--only", "dpr_lance", "faiss-hnsw", "faiss-ivfpq"],
    "search": ["--passages", "1600"],
    "train": ["memory"],
}
"""Small sizes and few rounds, to see that all of it runs on a machine; the results are not tracked."""
RELEASE: dict[str, list[str]] = {
    "reader": ["squad", "speed", "answers"],
    "cold-start": [],
    "ingest": ["disk", "encoder"],
    "scale": ["10000", "100000"],
    "end-to-end": [],
}
"""What changes with most releases and takes less than half an hour."""
LONG: dict[str, list[str]] = {
    "quality": ["--all"],
    "calibration": ["nq-gold", "squad", "reqa-bioasq", "medquad", "nq-gold+wiki-ottqa"],
    "reader": [],
    "encode": ["speed", "one-thread", "parity", "dpr-pair"],
    "cold-start": [],
    "ingest": [],
    "end-to-end": [],
    "scale": ["10000", "100000", "1000000"],
    "ann": ["100000", "1000000"],
    "search": [],
    "train": [],
}
FORMS = {"quick": QUICK, "release": RELEASE, "long": LONG}


def main(arguments: list[str] | None = None) -> int:
    """Run one case, or several in one of their forms; `tables` only regenerates what is shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="case", metavar="CASE")
    for name, case in CASES.items():
        case.add_options(commands.add_parser(name, help=(case.__doc__ or "").split("\n")[0], description=case.__doc__))
    for name, cases in FORMS.items():
        form = commands.add_parser(
            name, help=f"these cases, else all of this form, as it has them ({', '.join(cases)})"
        )
        form.add_argument("cases", nargs="*", metavar="CASE")
    commands.add_parser("tables", help="only regenerate the tables from the results")
    options = parser.parse_args(arguments or ["quick"])
    chosen: dict[str, argparse.Namespace] = {}
    if options.case in FORMS:
        form_of = FORMS[options.case]
        if unknown := set(options.cases) - set(form_of):
            parser.error(f"unknown case {min(unknown)!r}; known: {', '.join(form_of)}")
        chosen = {name: parser.parse_args([name, *form_of[name]]) for name in options.cases or form_of}
    elif options.case in CASES:
        chosen = {options.case: options}
    with results.within(results.QUICK if options.case == "quick" else results.TRACKED):
        try:
            summary = measure(chosen)
        except (data.MissingDataError, results.UncommittedError) as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
        if options.case == "quick":
            print(*(f"## {name}\n\n{tables.section(name)}\n" for name in chosen), sep="\n", file=sys.stderr)
    if options.case != "quick":
        regenerate()
    print(json.dumps(summary, ensure_ascii=False))
    return 0


def measure(chosen: dict[str, argparse.Namespace]) -> dict[str, Any]:
    """Run the cases; what each found, in short. Nothing is begun whose result could not be kept."""
    if chosen:
        results.check_committed()
    return {name: CASES[name].run(options) for name, options in chosen.items()}


def regenerate() -> None:
    """Make all tables again from the tracked results."""
    markdown.put_between_marks("versions", tables.versions(), tables.PAGE)
    for name in CASES:
        markdown.put_between_marks(name, tables.section(name), tables.PAGE)
    headlines.put_in_pages()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
