"""Every setting of a run and its default: how it learns (`Recipe`), mines (`Mining`), and with which data (`Run`)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.reports import OnError
from dpr_lance.table.address import DEFAULT_TABLE

from .settings import above_0, at_least, check_types, composed, defaults_of, read_toml, share

LossName = Literal["nll", "triplet", "margin-mse", "kl"]
Similarity = Literal["dot", "cosine", "l2"]
Metric = Literal["mrr", "top-1", "top-5", "top-20", "top-100"]
Compute = Literal["auto", "fp32", "bf16"]
Source = Literal["bm25", "dense", "hybrid"]
"""The search of a table that finds negatives."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How any model learns; `metric`, one of what validation returns, decides which checkpoint is best."""

    metric: str
    seed: int = 12345
    epochs: float = 3.0
    """Passes over the questions; the paper's 40 are for training from BERT on 59,000 of them."""
    steps: int | None = None
    """Number of batches; it replaces `epochs`."""
    batch_size: int = 32
    """Questions per batch, over all processes."""
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup: float = 0.07
    """Share of the steps."""
    max_gradient_norm: float = 2.0
    title_dropout: float = 0.0
    """Share of the passages whose title a step leaves out, so that the model does not depend on titles."""
    compute: Compute = "auto"
    """bf16 where the processor multiplies it in hardware; weights, loss and optimizer are always fp32."""
    chunk_tokens: int = 2048
    """Padded tokens that are computed together on a CPU; 16 times as many on a GPU."""
    evaluate_every: int | None = None
    """Steps between evaluations (and checkpoints); None: a tenth of the run, at least 20."""
    patience: int = 4
    """Stop after this many evaluations without a better one."""

    def __post_init__(self) -> None:
        check_types(self)
        at_least(1, self, "batch_size", "chunk_tokens", "patience")
        above_0(self, "epochs", "learning_rate", "max_gradient_norm")
        at_least(0, self, "weight_decay")
        if not 0 <= self.warmup < 1:
            raise InvalidInputError(f"warmup={self.warmup!r} is a share of the steps: from 0 to below 1")
        share(self, "title_dropout")


@dataclass(frozen=True, slots=True)
class Recipe(Learning):
    """How the encoder learns: the paper's values (section 5), unless small data and one machine need others."""

    metric: Metric = "mrr"
    hard_negatives: int = 1
    """Per question; one BM25 negative was best in the paper (table 3)."""
    random_negatives: int = 0
    any_positive: bool = False
    """Draw one of a question's positives in each epoch, instead of the first."""
    in_batch: int | None = None
    """Questions that share their passages as negatives; None: the whole batch, 1: none do."""
    loss: LossName = "nll"
    similarity: Similarity = "dot"
    temperature: float | None = None
    """None: 1, or 0.05 for vectors of unit length."""
    triplet_margin: float = 1.0
    false_negative_margin: float | None = None
    """Leave out negatives that score above the positive minus this share of its score."""
    teacher_weight: float = 1.0
    question_tokens: int | None = None
    """A shorter limit than the checkpoint's, for training only."""
    passage_tokens: int | None = None
    compile: bool = False
    """Compile the towers (torch.compile); pays off for long runs on a GPU."""
    cache_above_tokens: int = 16384
    """A batch of more padded tokens is trained with cached gradients: less memory, a third more work."""

    def __post_init__(self) -> None:
        Learning.__post_init__(self)
        at_least(0, self, "hard_negatives", "random_negatives", "cache_above_tokens")
        if self.temperature is not None:
            above_0(self, "temperature")
        share(self, "teacher_weight")


@dataclass(frozen=True, slots=True)
class Mining:
    """Which passages become hard negatives; see `mining` for the filters and their order."""

    depth: int = 50
    """Passages of a ranking to look at; the paper's authors took negatives from the first 30 to 50."""
    keep: int = 30
    """Negatives to keep per question."""
    first_rank: int = 1
    """Leave out better ranks than this: they hold most unlabelled positives."""
    margin: float = 0.05
    """Leave out dense hits that score above the positive minus this share of its score."""

    def __post_init__(self) -> None:
        check_types(self)
        at_least(1, self, "depth", "keep", "first_rank")
        if not 0 <= self.margin < 1:
            raise InvalidInputError(f"margin={self.margin!r} is a share of the positive's score: from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Task:
    """What to train on and where, whichever model it is."""

    out: str
    """The bundle."""
    questions: tuple[str, ...]
    """Files or BEIR folders."""
    dev: str | None = None
    """Questions for validation; None: the folder's dev split, else a part of the questions."""
    table: str | None = None
    """URI of the table that passages are looked up in and negatives are mined from."""
    table_name: str = DEFAULT_TABLE
    storage_options: Mapping[str, str] | None = None
    """For LanceDB: keys and endpoint of an object store."""
    validation_questions: int = 300
    precision: Precision = DEFAULT_PRECISION
    """How the bundle stores weights."""
    work: str | None = None
    """Folder of checkpoints, log and curves; None: OUT-training."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints: what an interruption can cost."""
    on_error: OnError = "raise"
    replace: bool = False
    """Replace a bundle at `out`."""
    mining: Mining = field(default_factory=Mining)

    def __post_init__(self) -> None:
        check_types(self)
        if not self.questions:
            raise InvalidInputError("no questions to train on: name a .json or .jsonl file or a BEIR folder")
        at_least(1, self, "validation_questions")
        above_0(self, "checkpoint_minutes")

    @property
    def work_folder(self) -> Path:
        """The folder of checkpoints, log and curves."""
        return Path(self.work or f"{self.out.rstrip('/')}-training")


@dataclass(frozen=True, slots=True)
class Run(Task):
    """One training of an encoder; each batch comes from one of the sets of questions."""

    rates: tuple[float, ...] | None = None
    """Relative numbers of batches of each; None: by size."""
    encoder: str | tuple[str, str] | None = None
    """The checkpoint to start from; None: that of the table's encoder, else that of the default encoder."""
    separate: bool = False
    """Two encoders where the checkpoint has one for both sides."""
    projection: int = 0
    """Width of a new linear layer after pooling; 0 for none."""
    rounds: int = 0
    """Times that the encoder in training ranks the whole table for hard negatives (ANCE)."""
    validation_passages: int = 1000
    """Passages that dev questions are ranked over: their positives, hard negatives, then others."""
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        at_least(0, self, "projection", "rounds")
        at_least(1, self, "validation_passages")
        if self.rates is not None and len(self.rates) != len(self.questions):
            raise InvalidInputError(
                f"rates={self.rates!r}: give a number above 0 for each of {len(self.questions)} data sets"
            )
        if self.rounds and self.table is None:
            raise InvalidInputError(f"rounds={self.rounds}: mining needs a table")


PARTS = {"recipe": Recipe, "mining": Mining}


def read_run(path: str | Path, **given: Any) -> Run:  # noqa: ANN401 - any setting
    """Read a TOML file of `Run`'s settings, with tables [recipe] and [mining]; what is `given` (not None) wins.

    Raises `InvalidInputError` that names the file and the setting that is unknown or of a wrong type.
    """
    return make_run(read_toml(path), place=str(path), **given)


def make_run(values: Mapping[str, Any], *, place: str, **given: Any) -> Run:  # noqa: ANN401
    """Make a run of nested settings; `given` names settings of any of the three, None leaves one as it is."""
    return composed(Run, PARTS, values, place=place, given=given)


def defaults() -> dict[str, Any]:
    """Return the default of each setting that has one, by name."""
    return defaults_of(Run, Recipe, Mining)


def to_json(settings: Learning | Task) -> str:
    """Return the settings as JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(settings), sort_keys=True)
