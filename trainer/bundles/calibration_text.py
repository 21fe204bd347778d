"""The texts on which int8 graphs are calibrated: docstrings of Python's standard library, and shuffled vocabulary."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from dpr_lance.errors import EncoderError

Sequences: TypeAlias = Sequence[tuple[list[int], list[int]]]
"""Inputs of one sequence each: token ids and token types."""

CALIBRATION_MODULES = (
    "argparse", "ast", "asyncio.events", "calendar", "collections", "csv", "datetime", "decimal", "difflib",
    "email.message", "fractions", "gzip", "heapq", "http.client", "inspect", "itertools", "json", "logging",
    "math", "os", "pathlib", "random", "shutil", "socket", "statistics", "string", "subprocess", "tarfile",
    "textwrap", "threading", "unittest.case", "urllib.parse", "zipfile",
)  # fmt: skip
"""Their docstrings are the calibration text: prose that every machine has."""
CALIBRATION_TEXTS = 80
VOCABULARY_SEQUENCES = 60
CALIBRATION_TOKENS = 128
QUESTION_TOKENS = 24
"""What is left to a question and the special tokens of a pair."""


def calibration_texts() -> list[str]:
    """Return `CALIBRATION_TEXTS` docstrings of Python's standard library, the same ones for each Python version.

    Raises `EncoderError` when Python runs without docstrings.
    """
    found: list[str] = []
    for name in CALIBRATION_MODULES:
        module = importlib.import_module(name)
        members = [module, *(getattr(module, member) for member in sorted(vars(module)) if not member.startswith("_"))]
        documented = [inspect.cleandoc(text) for member in members if isinstance(text := _own_doc(member), str)]
        found += list(dict.fromkeys(text for text in documented if len(text) >= 80))
    if len(found) < CALIBRATION_TEXTS:
        raise EncoderError("quantising needs the docstrings of Python's standard library: run Python without -OO")
    chosen = np.linspace(0, len(found) - 1, CALIBRATION_TEXTS).astype(int)
    return [found[index] for index in chosen]


def _own_doc(member: Any) -> object:  # noqa: ANN401
    described = inspect.ismodule(member) or inspect.isclass(member) or inspect.isroutine(member)
    return getattr(member, "__doc__", None) if described else None


def single_sequences(tokenizer: Tokenizer, max_tokens: int) -> Sequences:
    """Return the calibration texts, their first sentences as questions, and shuffled vocabulary; token types are zero.

    The vocabulary represents all topics that the texts do not touch.
    """
    max_tokens = min(max_tokens, CALIBRATION_TOKENS)
    tokenizer = _cutting(tokenizer, max_tokens)
    texts = calibration_texts()
    texts += [_question(text) for text in texts[::2]]
    sequences = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    inner = max_tokens - 2
    start, end = sequences[0][0], sequences[0][-1]
    sequences += [[start, *words, end] for words in _shuffled_vocabulary(tokenizer, inner)]
    return [(ids, [0] * len(ids)) for ids in sequences]


def pair_sequences(
    encode: Callable[[str, str], tuple[list[int], list[int]]], tokenizer: Tokenizer, max_tokens: int
) -> Sequences:
    """Return questions with passages, as `encode(question, passage)` reads them, and with shuffled vocabulary.

    The question is the first sentence of a calibration text. Its passage is the rest, for every other question the rest
    of another text: a reader meets both.
    """
    max_tokens = min(max_tokens, CALIBRATION_TOKENS)
    texts = calibration_texts()
    passages = [text.partition(".")[2].strip() or text for text in texts]
    pairs = [(_question(text), passages[at if at % 2 else at - 5]) for at, text in enumerate(texts)]
    words = [tokenizer.decode(ids) for ids in _shuffled_vocabulary(tokenizer, max_tokens - QUESTION_TOKENS)]
    pairs += [(_question(texts[at % len(texts)]), passage) for at, passage in enumerate(words)]
    encoded = [encode(question, passage) for question, passage in pairs]
    return [(ids[:max_tokens], types[:max_tokens]) for ids, types in encoded]


def _question(text: str) -> str:
    return text.partition(".")[0] + "?"


def _cutting(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(max_tokens)
    return own


def _shuffled_vocabulary(tokenizer: Tokenizer, length: int) -> list[list[int]]:
    words = np.random.default_rng(0).permutation(tokenizer.get_vocab_size())[: VOCABULARY_SEQUENCES * length]
    return [words[at : at + length].tolist() for at in range(0, len(words), length)]
