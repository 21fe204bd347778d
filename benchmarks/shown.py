"""What is shown of the raw results: tables and plots of benchmarks/README.md and README.md, the quick form's page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

from benchmarks import headlines, machine, results

DURATION = "duration"
"""The case under which the seconds of a form are kept, a part for each case."""


def records(case: str) -> list[dict[str, Any]]:
    """The raw results of a case; those of the quick form where there are no others."""
    if found := results.read(case):
        return found
    with results.within(results.QUICK):
        return results.read(case)


def regenerate(cases: Mapping[str, ModuleType], names: Collection[str]) -> None:
    """Make the tables and plots of the named cases anew in benchmarks/README.md, and README.md."""
    for name in names:
        if not (found := records(name)):
            continue
        if hasattr(cases[name], "plot"):
            cases[name].plot(found)
        results.put_in_readme(name, cases[name].tables(found))
    headlines.put_in_readme(records)


def quick_page(cases: Mapping[str, ModuleType]) -> None:
    """Write the tables and plots of the quick form alone to a page of their own, with the time of each case."""
    with results.within(results.QUICK):
        for name, case in cases.items():
            if hasattr(case, "plot") and (found := results.read(name)):
                case.plot(found)
    results.QUICK.readme.write_text(quick_text(cases), encoding="utf-8")


def quick_text(cases: Mapping[str, ModuleType]) -> str:
    """That page, without the plots."""
    with results.within(results.QUICK):
        found = {name: results.read(name) for name in cases}
        blocks = [f"## {name}\n\n{cases[name].tables(records)}" for name, records in found.items() if records]
        return "\n\n".join(["# The quick form", _durations(list(cases)), *blocks]) + "\n"


def _durations(names: list[str]) -> str:
    """The quick form's seconds by case."""
    taken = sorted(results.read(DURATION), key=lambda record: names.index(record["part"]))
    rows = [[each["part"], f"`{' '.join(each['options'])}`", f"{each['seconds']:.0f}"] for each in taken]
    total = sum(each["seconds"] for each in taken)
    load = ", ".join(f"{each['machine']['load_average'][0]}" for each in taken)
    return "\n\n".join(
        [
            "Written by `make bench`: small sizes and few rounds, to see that all of it runs on a machine and how fast "
            "that is. The numbers to quote are those of [larger runs](../README.md).",
            f"{total / 60:.1f} minutes on {machine.sentence(taken[-1]['machine'])}; load average {load}.",
            results.table(["case", "options", "seconds"], rows),
        ]
    )
