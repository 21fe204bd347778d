"""Every setting of a run and its default: how it learns (`Recipe`), mines (`Mining`), and with which data (`Run`)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from dpr_lance.checks import checked_fields
from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.reports import OnError
from dpr_lance.table.address import DEFAULT_TABLE

LossName = Literal["nll", "triplet", "margin-mse", "kl"]
Similarity = Literal["dot", "cosine", "l2"]
Metric = Literal["mrr", "top-1", "top-5", "top-20", "top-100"]
Compute = Literal["auto", "fp32", "bf16"]


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
class Run:
    """One training: data, model and folders."""

    out: str
    """The bundle."""
    questions: tuple[str, ...]
    """Files or BEIR folders; each batch comes from one of them."""
    rates: tuple[float, ...] | None = None
    """Relative numbers of batches of each; None: by size."""
    dev: str | None = None
    """Questions for validation; None: the folder's dev split, else a part of the questions."""
    table: str | None = None
    """URI of the table that passages are looked up in and negatives are mined from."""
    table_name: str = DEFAULT_TABLE
    storage_options: Mapping[str, str] | None = None
    """For LanceDB: keys and endpoint of an object store."""
    encoder: str | tuple[str, str] | None = None
    """The checkpoint to start from; None: that of the table's encoder, else that of the default encoder."""
    separate: bool = False
    """Two encoders where the checkpoint has one for both sides."""
    projection: int = 0
    """Width of a new linear layer after pooling; 0 for none."""
    rounds: int = 0
    """Times that the encoder in training ranks the whole table for hard negatives (ANCE)."""
    validation_questions: int = 300
    validation_passages: int = 1000
    """Passages that dev questions are ranked over: their positives, hard negatives, then others."""
    precision: Precision = DEFAULT_PRECISION
    """How the bundle stores weights."""
    work: str | None = None
    """Folder of checkpoints, log and curves; None: OUT-training."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints: what an interruption can cost."""
    on_error: OnError = "raise"
    replace: bool = False
    """Replace a bundle at `out`."""
    recipe: Recipe = field(default_factory=Recipe)
    mining: Mining = field(default_factory=Mining)

    def __post_init__(self) -> None:
        check_types(self)
        if not self.questions:
            raise InvalidInputError("no questions to train on: name a .json or .jsonl file or a BEIR folder")
        at_least(0, self, "projection", "rounds")
        at_least(1, self, "validation_questions", "validation_passages")
        above_0(self, "checkpoint_minutes")
        if self.rates is not None and len(self.rates) != len(self.questions):
            raise InvalidInputError(
                f"rates={self.rates!r}: give a number above 0 for each of {len(self.questions)} data sets"
            )
        if self.rounds and self.table is None:
            raise InvalidInputError(f"rounds={self.rounds}: mining needs a table")


def read_run(path: str | Path, **given: Any) -> Run:  # noqa: ANN401 - any setting
    """Read a TOML file of `Run`'s settings, with tables [recipe] and [mining]; what is `given` (not None) wins.

    Raises `InvalidInputError` that names the file and the setting that is unknown or of a wrong type.
    """
    import tomllib  # noqa: PLC0415 - the command line imports this module for its help

    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as TOML: {error}") from error
    return make_run(values, place=str(path), **given)


def make_run(values: Mapping[str, Any], *, place: str, **given: Any) -> Run:  # noqa: ANN401
    """Make a run of nested settings; `given` names settings of any of the three, None leaves one as it is."""
    merged: dict[str, dict[str, Any]] = {
        "recipe": dict(values.get("recipe", {})),
        "mining": dict(values.get("mining", {})),
    }
    merged["run"] = {name: value for name, value in values.items() if name not in merged}
    kinds = {"run": Run, "recipe": Recipe, "mining": Mining}
    for name, value in given.items():
        if value is not None:
            part = next((part for part, kind in kinds.items() if name in _names(kind)), "run")
            merged[part][name] = value
    parts: dict[str, Any] = {part: _made(kinds[part], merged[part], place) for part in ("recipe", "mining")}
    return _made(Run, merged["run"] | parts, place)


T = TypeVar("T")


def _made(kind: type[T], values: Mapping[str, Any], place: str) -> T:
    names = _names(kind)
    if unknown := sorted(values.keys() - names):
        raise InvalidInputError(f"{place}: unknown settings {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise InvalidInputError(f"{place}: {', '.join(missing)} must be named")
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if isinstance(lists.get("questions"), str):
        lists["questions"] = (lists["questions"],)
    try:
        return kind(**lists)
    except TypeError as error:
        raise InvalidInputError(f"{place}: {error}") from error


def _names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def defaults() -> dict[str, Any]:
    """Return the default of each setting that has one, by name."""
    fields = [field for kind in (Run, Recipe, Mining) for field in dataclasses.fields(kind)]
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def to_json(settings: Recipe | Run) -> str:
    """Return the settings as JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(settings), sort_keys=True)


def check_types(settings: Any) -> None:  # noqa: ANN401
    """Raise `InvalidInputError` for the first setting that does not have its type."""
    for name, kind in get_type_hints(type(settings)).items():
        choices = get_args(kind)
        value = getattr(settings, name)
        if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
            raise InvalidInputError(f"{name}={value!r} is not one of {', '.join(choices)}")
    if problem := checked_fields(settings):
        raise InvalidInputError(problem)


def at_least(least: int, settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is below `least`."""
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            raise InvalidInputError(f"{name}={value!r}: at least {least} is needed")


def above_0(settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is not a number above 0."""
    for name in names:
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise InvalidInputError(f"{name}={value!r}: a number above 0 is needed")


def share(settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is not from 0 to 1."""
    for name in names:
        if not 0 <= (value := getattr(settings, name)) <= 1:
            raise InvalidInputError(f"{name}={value!r} is a share: from 0 to 1")
