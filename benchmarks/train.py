"""Case `train`: the paper's ablation on squad, a fine-tuned encoder, speed and memory next to a peer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import ablation, fine_tune, train_speed

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ablation": ablation.run,
    "fine-tune": fine_tune.run,
    "speed": train_speed.run_speed,
    "memory": train_speed.run_memory,
}


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
    """Measure the chosen parts. Returns what each found."""
    summary: dict[str, Any] = {}
    for part in options.parts or PARTS:
        if part not in PARTS:
            raise SystemExit(f"train: no part {part!r}; there are {', '.join(PARTS)}")
        summary[part] = PARTS[part](options)
    return summary
