"""What a checkpoint is: one frozen record, read from the files next to the weights. Needs no torch.

Each setting comes from the first of these that names it: the user, our own `encoder.json`, the sentence-transformers
files, the architecture (DPR: [CLS], not normalised, token types zero, ' for ’ in questions, 256 tokens). Pooling and
normalisation are never guessed: after a wrong guess retrieval is bad, and nothing says why.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from dpr_lance.encoders.bundle import CARD, MANIFEST
from dpr_lance.encoders.card import EncoderCard, Pooling, Side, TextSettings
from dpr_lance.errors import EncoderError, InvalidInputError

from .locate import Located, read_json
from .overrides import Overrides, check_overrides, merge
from .sentence_transformers import DenseLayer, dense_layers, read_pipeline, transformer_folder

CONVERSION_VERSION = 2
"""Raised when the same checkpoint gives other vectors than before, because the two must not be mixed."""
DPR_CLASSES = {"DPRQuestionEncoder": "question", "DPRContextEncoder": "passage"}
DPR_MAX_TOKENS = 256
"""Every published DPR encoder was trained at this length (its code pads to it)."""
DPR_HYBRID_WEIGHT = 1.1
"""λ of the paper, section 5.1, for inner products of vectors that are not normalised."""
UNIT_HYBRID_WEIGHT = 60.0
"""λ for unit vectors: the best of 0 to 200 for MiniLM over six sets, in the units of LanceDB's BM25 (it has the factor
k1 + 1 that others leave out)."""


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between BERT-like architectures."""

    pooler: bool = False
    """The class has a pooler. It is switched off: no encoder uses it, and many checkpoints lack its weights."""
    offset_positions: bool = False
    """Positions start after the padding id (RoBERTa), and those up to it are not available to text."""


FAMILIES = {
    "bert": Family(pooler=True),
    "camembert": Family(pooler=True, offset_positions=True),
    "distilbert": Family(),
    "dpr": Family(),
    "electra": Family(),
    "modernbert": Family(),
    "mpnet": Family(pooler=True, offset_positions=True),
    "roberta": Family(pooler=True, offset_positions=True),
    "xlm-roberta": Family(pooler=True, offset_positions=True),
}
"""By `model_type` of config.json; each is tested for parity with transformers."""


@dataclass(frozen=True, slots=True)
class Tower:
    """One side: where its files are, which class wrote them, and what comes after its pooling."""

    folder: Path
    architecture: str
    """Class name from `architectures` in config.json, which AutoModel ignores."""
    family: str
    hidden: int
    projection: int
    """Width of DPR's own projection; 0 when there is none."""
    token_types: bool
    """Whether the model distinguishes segments, so that its graph has the input `token_type_ids`."""
    lower: bool
    """Lower-case the text before its tokenizer (sentence-transformers' do_lower_case)."""
    max_positions: int
    dense: tuple[DenseLayer, ...] = ()

    @property
    def dimension(self) -> int:
        """Width of the vector."""
        if self.dense:
            return self.dense[-1].out_features
        return self.projection or self.hidden


@dataclass(frozen=True, slots=True)
class Checkpoint(TextSettings):
    """A dual encoder as trained: both towers and everything else that its vectors depend on."""

    name: str
    source: str
    licence: str
    question: Tower
    passage: Tower
    hybrid_weight: float

    @property
    def shared(self) -> bool:
        """Whether one set of weights encodes questions and passages."""
        return self.question == self.passage

    def card(self, fingerprint: str) -> EncoderCard:
        """Return the card that a bundle of this checkpoint carries."""
        return EncoderCard(
            name=self.name,
            dimension=self.passage.dimension,
            fingerprint=fingerprint,
            projection=self.passage.dense[-1].out_features if self.passage.dense else self.passage.projection,
            hybrid_weight=self.hybrid_weight,
            licence=self.licence,
            source=self.source,
            **self.text_settings(),
        )


def read_checkpoint(located: Located, given: Overrides | None = None) -> Checkpoint:
    """Read the description of a checkpoint; what the user has `given` wins over the checkpoint's own files.

    Raises `EncoderError` when a file is missing or contradictory, when the architecture or a module is not supported,
    and when nothing names the pooling or the normalisation; `InvalidInputError` when what is given is impossible.
    """
    given = given or {}
    check_overrides(given)
    if (located.root / MANIFEST).is_file():
        raise EncoderError(f"{located.root} is an encoder bundle already: use it as it is")
    if located.passage == located.question:
        question = passage = _read_tower(located.question, None)
    else:
        question, passage = _read_tower(located.question, "question"), _read_tower(located.passage, "passage")
    if question.dimension != passage.dimension:
        raise EncoderError(
            f"{located.question} gives vectors of {question.dimension} numbers and {located.passage} of "
            f"{passage.dimension}: they are not the two halves of one encoder"
        )
    known = merge(given, _own_card(located.root), _pipeline(located), _defaults(question, passage))
    if unnamed := {"pooling", "normalise"} - known.keys():
        raise EncoderError(_not_named(located, unnamed))
    weight = known.get("hybrid_weight")
    if weight is None:
        weight = UNIT_HYBRID_WEIGHT if known["normalise"] else DPR_HYBRID_WEIGHT
    names = {field.name for field in dataclasses.fields(TextSettings)}
    settings: dict[str, Any] = {name: value for name, value in known.items() if name in names}
    checkpoint = Checkpoint(
        name=known.get("name") or located.name,
        source=located.source,
        licence=known.get("licence") or licence_of(located.passage),
        question=question,
        passage=passage,
        hybrid_weight=weight,
        **settings,
    )
    sides: tuple[tuple[Side, Tower], ...] = (("question", question), ("passage", passage))
    for side, tower in sides:
        if (tokens := checkpoint.max_tokens(side)) > tower.max_positions:
            raise InvalidInputError(
                f"{side} length {tokens} is more than the {tower.max_positions} positions of {tower.folder}"
            )
    return checkpoint


def _not_named(located: Located, unnamed: set[str]) -> str:
    names = {"pooling": "pooling", "normalise": "normalisation"}
    choices = {"pooling": f"pooling ({' or '.join(get_args(Pooling))})", "normalise": "normalise (true or false)"}
    return (
        f"{located.source} does not name its {' and '.join(names[name] for name in names if name in unnamed)}, and a "
        "wrong guess makes retrieval silently bad: pass "
        f"{' and '.join(choices[name] for name in choices if name in unnamed)} to `dpr-lance export`, as the encoder "
        "was trained"
    )


def _defaults(question: Tower, passage: Tower) -> Overrides:
    if question.family == passage.family == "dpr":
        return Overrides(
            pooling="cls",
            normalise=False,
            title_style="pair",
            zero_token_types=True,
            straight_apostrophe=True,
            question_max_tokens=min(DPR_MAX_TOKENS, question.max_positions),
            passage_max_tokens=min(DPR_MAX_TOKENS, passage.max_positions),
        )
    return Overrides(
        title_style="joined",
        zero_token_types=False,
        question_max_tokens=max_tokens(question),
        passage_max_tokens=max_tokens(passage),
    )


def max_tokens(tower: Tower) -> int:
    """Return max_seq_length (sentence-transformers before 6), else model_max_length, within the positions."""
    tokens = read_json(tower.folder / "sentence_bert_config.json", None).get("max_seq_length")
    stated = read_json(tower.folder / "tokenizer_config.json", None).get("model_max_length")
    return min(int(tokens or stated or tower.max_positions), tower.max_positions)


def _own_card(root: Path) -> Overrides:
    path = root / CARD
    if not path.is_file():
        return {}
    card = EncoderCard.from_json(path.read_text(encoding="utf-8"), place=str(path))
    return cast("Overrides", {name: getattr(card, name) for name in Overrides.__annotations__})


def _pipeline(located: Located) -> Overrides:
    question = read_pipeline(located.question)
    if located.question == located.passage:
        return question
    passage = read_pipeline(located.passage)
    for field in ("pooling", "normalise"):
        if question.get(field) != passage.get(field):
            raise EncoderError(
                f"{located.question} and {located.passage} differ in {field}: "
                "they are not the two halves of one encoder"
            )
    return question | {"passage_prefix": passage.get("passage_prefix")}


def _read_tower(root: Path, side: str | None) -> Tower:
    folder = transformer_folder(root)
    config = read_config(folder)
    return describe_tower(folder, config, _architecture(folder, config, side), dense_layers(root))


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's config.json; raises `EncoderError` when there is none."""
    return read_json(folder / "config.json", f"{folder} has no config.json, so it is not a transformers checkpoint")


def describe_tower(
    folder: Path, config: dict[str, Any], architecture: str, dense: tuple[DenseLayer, ...] = ()
) -> Tower:
    """Return the record of a transformer in `folder` with this `config`; raises `EncoderError` for a strange one."""
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise EncoderError(f"{folder}: architecture {family!r} is not supported; supported are {', '.join(FAMILIES)}")
    hidden = int(config["dim"] if family == "distilbert" else config["hidden_size"])
    positions = int(config["max_position_embeddings"])
    if FAMILIES[family].offset_positions:
        positions -= int(config.get("pad_token_id", 1)) + 1
    transformer = read_json(folder / "sentence_bert_config.json", None)
    return Tower(
        folder=folder,
        architecture=architecture,
        family=family,
        hidden=hidden,
        projection=int(config.get("projection_dim") or 0),
        token_types=family in ("bert", "dpr", "electra") and int(config.get("type_vocab_size", 2)) > 1,
        lower=bool(transformer.get("do_lower_case")),
        max_positions=positions,
        dense=dense,
    )


def _architecture(folder: Path, config: dict[str, Any], side: str | None) -> str:
    named = config.get("architectures") or []
    architecture = str(named[0]) if named else ""
    if config.get("model_type") != "dpr":
        return architecture
    if architecture not in DPR_CLASSES:
        raise EncoderError(
            f"{folder}: config.json names the DPR class {architecture or None!r}, which is not one of "
            f"{', '.join(DPR_CLASSES)}; a DPRReader is not an encoder"
        )
    if side is None:
        raise EncoderError(
            f"{folder} is one half of a DPR pair ({architecture}): name both as (question encoder, passage encoder), "
            "or a folder that holds question/ and passage/"
        )
    if DPR_CLASSES[architecture] != side:
        raise EncoderError(
            f"{folder} is a {architecture}, but is named as the {side} encoder: the order is (question, passage)"
        )
    return architecture


def licence_of(folder: Path) -> str:
    """Return the `license:` line in the front matter of the model card, "" when there is none."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    front = re.match(r"---[ \t]*\r?\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^license:[ \t]*(\S+)[ \t]*\r?$", front[1], re.MULTILINE) if front else None
    return line[1].strip("'\"") if line else ""
