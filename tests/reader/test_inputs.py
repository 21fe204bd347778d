"""What the reader reads: the order of its parts, windows, and the characters of each token."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from dpr_lance.errors import ReaderError
from dpr_lance.reader.inputs import ReaderInputs
from dpr_lance.reader.reranker import PassageText
from dpr_lance.reader.spans import characters
from tests.reader.tiny_reader import CARD, tiny_reader_tokenizer, vocabulary
from tests.reader.tokenizers_of_families import FAMILIES

NUMBERS = vocabulary()
CLS, SEP = NUMBERS["[CLS]"], NUMBERS["[SEP]"]


def ids(letters):
    return [NUMBERS[letter] for letter in letters]


@pytest.fixture
def tiny(tmp_path):
    tokenizer = Tokenizer.from_file(str(tiny_reader_tokenizer(tmp_path)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def built(tokenizer, card, question, title, text, *, offsets=True):
    inputs = ReaderInputs(tokenizer, card)
    (found,) = inputs.build(inputs.question_ids([question]), [PassageText(title, text)], offsets=offsets)
    return found


@pytest.mark.parametrize(
    ("fields", "title", "expected", "types"),
    [
        ({"input_style": "dpr"}, "t", [CLS, *ids("q"), SEP, *ids("t"), SEP, *ids("ab"), SEP], [0] * 3 + [1] * 5),
        ({"input_style": "dpr"}, "", [CLS, *ids("q"), SEP, SEP, *ids("ab"), SEP], [0] * 3 + [1] * 4),
        (
            {"input_style": "dpr", "final_separator": False},
            "t",
            [CLS, *ids("q"), SEP, *ids("t"), SEP, *ids("ab")],
            [0] * 3 + [1] * 4,
        ),
        ({}, "t", [CLS, *ids("q"), SEP, *ids("tab"), SEP], [0] * 3 + [1] * 4),
        ({}, "  ", [CLS, *ids("q"), SEP, *ids("ab"), SEP], [0] * 3 + [1] * 3),
        ({"final_separator": False}, "t", [CLS, *ids("q"), SEP, *ids("tab")], [0] * 3 + [1] * 3),
    ],
)
@pytest.mark.parametrize("offsets", [False, True])
def test_the_parts_stand_as_the_card_says(tiny, fields, title, expected, types, offsets):
    found = built(tiny, replace(CARD, **fields), "q", title, "a b", offsets=offsets)
    ((tokens, first, length, at),) = found.windows
    assert (tokens.ids, tokens.types) == (expected, types)
    if offsets:
        assert tokens.ids[first : first + length] == ids("ab")
        assert at == 0
        assert found.offsets == [(0, 1), (2, 3)]


def test_a_long_question_and_a_long_title_are_cut(tiny):
    card = replace(CARD, question_max_tokens=3, title_max_tokens=2)
    for style in ("dpr", "pair"):
        (window,) = built(tiny, replace(card, input_style=style), "q" * 50, "t" * 50, "a b").windows
        numbers = window.tokens.ids
        assert numbers.count(NUMBERS["q"]) == 3
        assert numbers.count(NUMBERS["t"]) == 2
        assert numbers[window.first :][: window.length] == ids("ab")


@pytest.mark.parametrize("style", ["dpr", "pair"])
@pytest.mark.parametrize("separator", [False, True])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("title", ["", "t u"])
@pytest.mark.parametrize("tokens", [1, 9, 10, 11, 30, 100])
@pytest.mark.parametrize("stride", [3, 1000])
def test_windows_hold_all_of_the_text_and_the_title_each_time(tiny, style, separator, offsets, title, tokens, stride):
    card = replace(
        CARD,
        input_style=style,
        final_separator=separator,
        stride=stride,
        max_tokens=16,
        question_max_tokens=2,
        title_max_tokens=2,
    )
    text = "abcdefghij" * 10
    found = built(tiny, card, "q", title, text[:tokens], offsets=offsets)
    expected = ids(text[:tokens])
    covered = 0
    for window in found.windows:
        numbers = window.tokens.ids
        assert len(numbers) <= card.max_tokens
        assert len(window.tokens.types) == len(numbers)
        assert title == "" or ids("tu") == numbers[3:5]
        if title and style == "pair" and not offsets and len(found.windows) == 1:
            continue  # where the text begins is not looked up when nobody needs it
        assert window.at <= covered  # nothing is left out
        assert numbers[window.first :][: window.length] == expected[window.at : window.at + window.length]
        covered = window.at + window.length
        if window is not found.windows[-1]:
            assert len(numbers) == card.max_tokens
            assert covered < tokens  # no window too many
    assert covered in (tokens, 0)
    if offsets:
        assert found.offsets == [(place, place + 1) for place in range(tokens)]


def test_a_tokenizer_that_makes_no_pairs_is_refused():
    with pytest.raises(ReaderError, match="no special tokens before a question"):
        ReaderInputs(Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]")), CARD)
    with pytest.raises(ReaderError, match="makes no pair"):
        ReaderInputs(Tokenizer(models.BPE()), CARD)


TEXT = st.text(
    st.one_of(
        st.sampled_from(list("abc XYZ .,'1é東京語한글ह\u093fन\u094dदاب\u0301\u0327\u200d\ufe0f😀👨👩🏽ﬁß½")),
        st.characters(exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=40,
)
CARDS = [
    replace(CARD, input_style=style, max_tokens=32, question_max_tokens=6, title_max_tokens=6, stride=4)
    for style in ("dpr", "pair")
]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(question=TEXT, title=st.one_of(st.just(""), TEXT), text=TEXT)
def test_offsets_are_exact_in_any_script(family, question, title, text):
    """The characters of every token hold what the token says, in either style and in every window."""
    tokenizer = TOKENIZERS.setdefault(family, FAMILIES[family]())
    for card in CARDS:
        found = built(tokenizer, card, question, title, text)
        assert found.windows[0].at == 0
        last = found.windows[-1]
        assert last.at + last.length == len(found.offsets)
        for tokens, first, length, at in found.windows:
            assert len(tokens.ids) <= card.max_tokens
            for place in range(length):
                begin, end = characters(text, found.offsets, at + place, at + place)
                token = tokenizer.id_to_token(tokens.ids[first + place])
                whole = text[found.offsets[at + place][0] : max(end, found.offsets[at + place][1])]
                assert holds(tokenizer, family, whole, token), (whole, token)
                assert text[begin:end] == whole.strip()
        numbers = [tokens.ids[first + place] for tokens, first, length, at in found.windows for place in range(length)]
        assert len(numbers) >= len(found.offsets)
        fast = built(tokenizer, card, question, title, text, offsets=False)
        assert [window.tokens for window in fast.windows] == [window.tokens for window in found.windows]


TOKENIZERS = {}


def holds(tokenizer, family, piece, token):
    """Whether a piece of text is what a token stands for; an unknown token stands for any word."""
    if token in ("[UNK]", "<unk>"):
        return piece != ""
    if family == "word pieces":
        normal, token = "".join(tokenizer.normalizer.normalize_str(piece).split()), token.removeprefix("##")
        # A syllable of Hangul becomes several letters, and a token may be one of them.
        return normal == token or (token in normal and any(map(is_hangul, piece)))
    if family == "byte level":
        return bytes(BYTES[sign] for sign in token).strip() in piece.encode()
    return token.replace("▁", "") in piece.replace("▁", "")  # a mark may stand before the first word


def is_hangul(character):
    return "HANGUL" in unicodedata.name(character, "")


def byte_signs():
    """The character for each byte in a byte-level vocabulary: printable bytes are themselves, others follow 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


BYTES = byte_signs()
