"""The tables of the case `train`, and the sentence about a fine-tuned encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.render.markdown import means, points, spread, table, where
from benchmarks.results import Parts


def table_of(parts: Parts) -> list[str]:
    """The tables of the case `train`."""
    said = []
    if "ablation" in parts:
        part = parts["ablation"]
        rows = [[label, means(each)] for label, each in part["arms"].items()]
        differences = [[f"{first} − {second}", *map(points, each)] for first, second, *each in part["differences"]]
        said += [
            f"**Ablation**: {part['train_questions']:,} questions of squad once, "
            f"judged on {part['questions']:,} others over {part['passages']:,} passages; "
            f"the first {part['layers']} layers of MiniLM, the last of them reset.",
            table(["", "top-1 / 5 / 20 / 100, %"], rows),
            table(["difference in points", "top-5", "top-20"], differences),
        ]
    if tuned := [part for name, part in parts.items() if name.startswith("fine-tune")]:
        rows = [[label, *(means(part["accuracy"][label]) for part in tuned)] for label in tuned[0]["accuracy"]]
        rows += [
            [f"{label}, top-5", *(points(part["differences"][label][1]) for part in tuned)]
            for label in tuned[0]["differences"]
        ]
        said += [
            f"**Fine-tuning** on {'; on '.join(map(fine_tuned, tuned))}.",
            table(["top-1 / 5 / 20 / 100, %", *(part["set"] for part in tuned)], rows),
        ]
    if "speed" in parts:
        part = parts["speed"]
        rows = [
            [name, spread(part["pairs_per_second"][name], 1), spread(part["pairs_per_cpu_second"][name], 1)]
            for name in part["pairs_per_second"]
        ]
        rows += [[f"{name} / sentence-transformers", *map(spread, each)] for name, each in part["ratios"].items()]
        said += [
            f"**Speed**: batches of {part['batch']} pairs of squad, {part['tokens']:.0f} tokens a passage.",
            table(["", "pairs/s", "pairs/CPU-s"], rows),
        ]
    if "memory" in parts:
        part = parts["memory"]
        peaks = ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in part["peak_mib"].items())
        said.append(f"**Memory** of one step with a batch of {part['batch']}, {part['layers']} layers: {peaks}.")
    return [*said, where(parts.values())]


def fine_tuned(part: Mapping[str, Any]) -> str:
    """What was trained on, and judged on."""
    return (
        f"{part['set']}: {part['train_questions']:,} train questions, {part['steps']} steps in "
        f"{part['seconds'] / 60:.0f} minutes of one core, {part['questions']:,} dev questions over "
        f"{part['passages']:,} passages"
    )
