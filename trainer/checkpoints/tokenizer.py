"""The tokenizer of a checkpoint, for its bundle and for its towers."""

from __future__ import annotations

import json
from typing import Any

import transformers
from tokenizers import Tokenizer, normalizers

from dpr_lance.errors import EncoderError

from .description import Checkpoint, Tower
from .locate import read_json


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the one tokenizer of both sides, without truncation; it pads to the longest text.

    Raises `EncoderError` when there is none, when the sides' tokenizers differ, or when it has ids that the model has
    no embedding for.
    """
    tokenizer = load_tower_tokenizer(checkpoint.passage)
    if not checkpoint.shared and load_tower_tokenizer(checkpoint.question).to_str() != tokenizer.to_str():
        raise EncoderError(
            f"{checkpoint.question.folder} and {checkpoint.passage.folder} have different tokenizers: "
            "a bundle holds one"
        )
    return tokenizer


def load_tower_tokenizer(tower: Tower) -> Tokenizer:
    """Return the tokenizer of one transformer; raises as `load_tokenizer` does."""
    path = tower.folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(tower)
    _set_case(tokenizer, tower)
    if tower.lower:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    config = read_json(tower.folder / "config.json", None)
    last = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if last >= int(config["vocab_size"]):
        raise EncoderError(
            f"{tower.folder}: the tokenizer has ids up to {last}, the model embeds {config['vocab_size']}: "
            "they do not belong together"
        )
    pad = int(config.get("pad_token_id") or 0)
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad))
    return tokenizer


def _converted(tower: Tower) -> Tokenizer:
    """Build the tokenizer from vocabulary files, not through DPR's own classes, which lower-case cased text."""
    cls: Any = transformers.BertTokenizer if tower.family in ("bert", "dpr") else transformers.AutoTokenizer
    if cls is transformers.BertTokenizer and not (tower.folder / "vocab.txt").is_file():
        raise EncoderError(f"{tower.folder} has neither tokenizer.json nor vocab.txt: add the tokenizer's files")
    try:
        tokenizer: Any = cls.from_pretrained(tower.folder, local_files_only=True)
        return Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise EncoderError(
            f"{tower.folder}: no tokenizer can be made of its files ({error}): add tokenizer.json"
        ) from error


def _set_case(tokenizer: Tokenizer, tower: Tower) -> None:
    """Make a BERT normalizer lower-case the text, or not, as the checkpoint was trained."""
    # Where tokenizer_config.json is silent or contradicts tokenizer.json (transformers 5 writes such folders for DPR),
    # the vocabulary decides: one with capital letters is cased.
    state = json.loads(tokenizer.to_str())["normalizer"] or {}
    if state.get("type") != "BertNormalizer":
        return
    stated = read_json(tower.folder / "tokenizer_config.json", None).get("do_lower_case")
    if stated is not None and stated == state["lowercase"]:
        return
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    lowered = all(
        token == token.lower() for token in tokenizer.get_vocab(with_added_tokens=False) if token not in special
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=state["clean_text"],
        handle_chinese_chars=state["handle_chinese_chars"],
        strip_accents=state["strip_accents"],
        lowercase=lowered,
    )
