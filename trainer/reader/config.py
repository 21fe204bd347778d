"""Every setting of a reader's training and its default: how it learns (`ReaderRecipe`), and on what (`ReaderRun`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpr_lance.errors import InvalidInputError
from dpr_lance.reader.card import InputStyle

from ..config import Learning, Mining, Source, Task
from ..settings import above_0, at_least, composed, defaults_of, read_toml, share

ReaderMetric = Literal["mrr", "top-1", "exact-match"]


@dataclass(frozen=True, slots=True)
class ReaderRecipe(Learning):
    """How the reader learns: the paper's values (section 6.1), unless one machine needs others.

    The loss of a question is the weighted sum of its terms; a batch's is the mean of each term over the questions that
    have it. Only questions with answers have the term of spans, and only those with a teacher's scores the last three.
    """

    metric: ReaderMetric = "mrr"
    epochs: float = 3.0
    batch_size: int = 16
    passages: int = 24
    """Passages of a question in a step: a positive one and its negatives (m in the paper)."""
    span_questions: int = 0
    """Further questions of a batch, which have answers: their positive passage alone is read, for its spans."""
    any_positive: bool = True
    """Draw one of a question's positives in each epoch, instead of the first."""
    selection_weight: float = 1.0
    """Of the negative log-likelihood of the positive passage (equation 5)."""
    span_weight: float = 1.0
    """Of the negative marginal log-likelihood of the answer's spans (equations 3 and 4)."""
    kl_weight: float = 1.0
    """Of the divergence of the selection from the teacher's."""
    margin_mse_weight: float = 0.0
    """Of the squared difference of margins from the teacher's."""
    mse_weight: float = 0.0
    """Of the squared difference of scores from the teacher's: keeps them on its scale."""
    temperature: float = 1.0
    """Divides the scores of both for the divergence."""
    dropout: float | None = None
    """Of the transformer; None: as its checkpoint says."""
    train_words: bool = True
    """Train the embeddings of words too; a student that keeps its teacher's needs less memory."""
    graph_tokens: int = 16384
    """Padded tokens whose gradients are computed together; a larger batch is summed over groups of questions."""

    def __post_init__(self) -> None:
        Learning.__post_init__(self)
        weights = ("selection_weight", "span_weight", "kl_weight", "margin_mse_weight", "mse_weight")
        at_least(0, self, "span_questions", *weights)
        if self.dropout is not None:
            share(self, "dropout")
        at_least(1, self, "graph_tokens")
        at_least(2, self, "passages")
        above_0(self, "temperature")
        if not any(getattr(self, name) for name in weights):
            raise InvalidInputError(f"there is nothing to learn: one of {', '.join(weights)} must be above 0")

    @property
    def distils(self) -> bool:
        """Whether a teacher's scores count."""
        return self.kl_weight > 0 or self.margin_mse_weight > 0 or self.mse_weight > 0


@dataclass(frozen=True, slots=True)
class ReaderRun(Task):
    """One training of a reader."""

    base: str | None = None
    """The checkpoint to start from: a reader, a cross-encoder, a question-answering model, or a transformer without a
    head. None: the checkpoint of the packaged encoder."""
    layers: tuple[int, ...] | None = None
    """Layers to keep of the checkpoint, from 0; None: all."""
    span_layers: tuple[int, ...] | None = None
    """Layers of the checkpoint that follow those, and that spans alone are read from; None: those that it has so."""
    teacher: str | None = None
    """A reader or late interaction: a bundle, a checkpoint, or a packaged name."""
    source: Source = "hybrid"
    """The search whose hits become negatives and are validated on."""
    validation_passages: int = 30
    """Hits of each validation question that the reader orders."""
    max_tokens: int = 256
    """Length of a whole input."""
    question_max_tokens: int = 64
    title_max_tokens: int = 64
    input_style: InputStyle | None = None
    """None: that of the checkpoint; `dpr` where it has none."""
    extracts: bool = True
    """Whether the reader has a head for spans."""
    licence: str = ""
    """For the card."""
    recipe: ReaderRecipe = field(default_factory=ReaderRecipe)

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        at_least(1, self, "validation_passages", "question_max_tokens", "title_max_tokens")
        at_least(self.question_max_tokens, self, "max_tokens")
        if self.table is None:
            raise InvalidInputError("a reader learns from what a table finds: name its folder (table)")


_PARTS = {"recipe": ReaderRecipe, "mining": Mining}


def make_reader_run(config: str | Path | None = None, **given: Any) -> ReaderRun:  # noqa: ANN401 - any setting
    """Make a run of settings, and of a TOML file with tables [recipe] and [mining]; what is `given` (not None) wins.

    Raises `InvalidInputError` that names the setting that is unknown or of a wrong type.
    """
    values: Mapping[str, Any] = {} if config is None else read_toml(config)
    return composed(ReaderRun, _PARTS, values, place="options" if config is None else str(config), given=given)


def reader_defaults() -> dict[str, Any]:
    """Return the default of each setting that has one, by name."""
    return defaults_of(ReaderRun, ReaderRecipe, Mining)


def parsed_layers(text: str, name: str = "layers") -> tuple[int, ...]:
    """Return the numbers of layers in a list such as "1,3,5"; raises `InvalidInputError` for another text."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise InvalidInputError(f"{name}={text!r}: give numbers from 0 with commas between them") from None
