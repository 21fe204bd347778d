"""What the trainer's parts buy: the paper's ablation on squad, a fine-tuned encoder, speed and memory beside a peer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import ablation, fine_tune, train_speed

PARTS: dict[str, tuple[Callable[[argparse.Namespace], dict[str, Any]], Callable[[dict[str, Any]], str]]] = {
    "ablation": (ablation.run, ablation.table),
    "fine-tune": (fine_tune.run, fine_tune.table),
    "speed": (train_speed.run_speed, train_speed.speed_table),
    "memory": (train_speed.run_memory, train_speed.memory_table),
}
"""How each part is measured, and shown."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks train`."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--arms", nargs="*", default=list(ablation.ARMS), help="of the ablation: only these")
    parser.add_argument("--steps", type=int, default=80, help="of an arm of the ablation")
    parser.add_argument("--set", default="medquad", help="of the fine-tuning: medquad or reqa-bioasq")
    parser.add_argument("--passages", type=int, help="of the fine-tuning's table (default: all)")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the fine-tuning")
    parser.add_argument("--learning-rate", type=float, help="of the fine-tuning (default: the recipe's)")
    parser.add_argument("--tokens", type=int, default=64, help="of a passage while fine-tuning")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure parts and store their raw results."""
    summary: dict[str, Any] = {}
    for part in options.parts or PARTS:
        if part not in PARTS:
            raise SystemExit(f"train: no part {part!r}; there are {', '.join(PARTS)}")
        summary[part] = PARTS[part][0](options)
    return summary


def tables(records: list[dict[str, Any]]) -> str:
    """The tables of all parts that have been measured; of the fine-tuning one for each set."""
    shown = [show(record) for part, (_, show) in PARTS.items() for record in records if record["part"].startswith(part)]
    return "\n\n".join(shown)


def summary(records: list[dict[str, Any]]) -> str:
    """What the main README says of fine-tuned encoders; "" where none has been measured."""
    return "\n".join(fine_tune.summary(record) for record in records if record["part"].startswith("fine-tune"))
