"""From a question and a passage to what a reader reads: token ids in windows, and where the passage's text is in them.

A passage that does not fit `card.max_tokens` is read in several windows, each with the question and the title before
it. Training and serving both build their inputs here. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dpr_lance.encoders.onnx_graph import Tokens
from dpr_lance.errors import ReaderError
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.reranker import PassageText

if TYPE_CHECKING:  # loaded at the first text: importing this module stays cheap
    from tokenizers import Encoding, Tokenizer

Offsets: TypeAlias = Sequence[tuple[int, int]]
"""Of each token of a passage's text: its characters, begin and end."""


class Window(NamedTuple):
    """A sequence for the graph. `ids[first : first + length]` are tokens of the text, from its token `at` on."""

    tokens: Tokens
    first: int
    length: int
    at: int


@dataclass(frozen=True, slots=True)
class ReaderInput:
    """One question with one passage: its windows, and the characters of the text's tokens when they were asked for."""

    windows: tuple[Window, ...]
    offsets: Offsets = ()


class ReaderInputs:
    """Builds inputs as a card says, with a tokenizer that neither pads nor truncates; threads may share it."""

    def __init__(self, tokenizer: Tokenizer, card: ReaderCard) -> None:
        self._tokenizer = tokenizer
        self._card = card
        probe = tokenizer.encode("a", "a")
        sides = probe.sequence_ids
        try:
            first, second = sides.index(0), sides.index(1)
        except ValueError:
            raise ReaderError("the tokenizer makes no pair of a question and a passage") from None
        between = second - sides[:second][::-1].index(0)  # the first special token behind the question
        end = len(sides) - sides[::-1].index(1)
        self._before, self._between, self._after = probe.ids[:first], probe.ids[between:second], probe.ids[end:]
        if not self._before or not self._between:
            raise ReaderError("the tokenizer puts no special tokens before a question and behind it")

    def question_ids(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each question without special tokens, cut at `card.question_max_tokens`."""
        encodings = self._tokenizer.encode_batch_fast(list(questions), add_special_tokens=False)
        return [encoding.ids[: self._card.question_max_tokens] for encoding in encodings]

    def build(
        self, questions: Sequence[Sequence[int]], passages: Sequence[PassageText], *, offsets: bool
    ) -> list[ReaderInput]:
        """Return the input of each question (its ids) with the passage of the same index.

        `offsets`: with the characters of the text's tokens, which makes tokenising slower by a third.
        """
        if self._card.input_style == "dpr":
            titles = self._title_ids([passage.title for passage in passages])
            heads = [[*ids, *self._after] for ids in titles]
            texts = [passage.text for passage in passages]
            skipped = [0] * len(texts)
        else:
            titles_before = self._title_texts([passage.title for passage in passages])
            heads = [[] for _ in passages]
            texts = [title + passage.text for title, passage in zip(titles_before, passages, strict=True)]
            skipped = [len(title) for title in titles_before]
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        encodings = encode(texts, add_special_tokens=False)
        inputs = []
        for number, (question, head, encoding) in enumerate(zip(questions, heads, encodings, strict=True)):
            before = [*self._before, *question, *self._between]
            room = self._card.max_tokens - len(before) - len(head)
            room -= len(self._after) if self._card.final_separator else 0
            if skipped[number] and not offsets and len(encoding) > room:
                # Where the text begins is only needed when the title is repeated in several windows.
                encoding = self._tokenizer.encode(texts[number], add_special_tokens=False)  # noqa: PLW2901
                inputs.append(self._input(before, head, encoding, skipped[number], room, located=True))
            else:
                inputs.append(self._input(before, head, encoding, skipped[number], room, located=offsets))
        return inputs

    def _input(
        self, before: list[int], head: list[int], encoding: Encoding, skipped: int, room: int, *, located: bool
    ) -> ReaderInput:
        """Return the windows; the first `skipped` characters of the encoded text are the title, part of each window."""
        ids, characters = encoding.ids, encoding.offsets if located else []
        titled = next((at for at, (_, end) in enumerate(characters) if end > skipped), len(ids)) if skipped else 0
        if titled and located:
            head, ids, characters = [*head, *ids[:titled]], ids[titled:], characters[titled:]
            room -= titled
        end = self._after if self._card.final_separator else []
        first = len(before) + len(head)
        step = max(1, min(self._card.stride, room))
        starts = range(0, max(1, len(ids) - room + step), step) if len(ids) > room else (0,)
        windows = []
        for start in starts:
            part = ids[start : start + room]
            whole = [*before, *head, *part, *end]
            types = [0] * len(before) + [1] * (len(whole) - len(before))
            windows.append(Window(Tokens(whole, types), first, len(part), start))
        places = [(max(begin, skipped) - skipped, last - skipped) for begin, last in characters] if located else ()
        return ReaderInput(tuple(windows), places)

    def _title_ids(self, titles: Sequence[str]) -> list[list[int]]:
        """Return the ids of each title, cut; each different title is tokenised once."""
        different = list(dict.fromkeys(titles))
        encodings = self._tokenizer.encode_batch_fast(different, add_special_tokens=False)
        ids = {
            title: encoding.ids[: self._card.title_max_tokens]
            for title, encoding in zip(different, encodings, strict=True)
        }
        return [ids[title] for title in titles]

    def _title_texts(self, titles: Sequence[str]) -> list[str]:
        """Return each title as it stands before the text, with a space; one that is too long is cut between tokens."""
        limit = self._card.title_max_tokens
        texts = {title: f"{title} " if title.strip() else "" for title in titles}
        # A token has one byte at least.
        long = [title for title in texts if len(title.encode()) > limit]
        for title, encoding in zip(long, self._tokenizer.encode_batch(long, add_special_tokens=False), strict=True):
            if len(encoding) > limit:
                texts[title] = f"{title[: encoding.offsets[limit - 1][1]]} "
        return [texts[title] for title in titles]
