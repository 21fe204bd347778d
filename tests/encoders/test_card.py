"""The encoder card: its JSON form, its checks, and the tokenizer's input that its settings make."""

import json
from dataclasses import asdict, fields

import pytest

from dpr_lance.encoders.card import EncoderCard, TextSettings
from dpr_lance.errors import EncoderError
from tests.encoders.tiny_bundle import CARD as TINY

WRONG = [None, True, 3, -1, 1.5, "x", [], {}, 10**400]


@pytest.mark.parametrize("field", [field.name for field in fields(EncoderCard)])
def test_each_field_of_a_card_has_its_type_or_is_named(field):
    right = json.loads(TINY.to_json())
    for value in WRONG:
        text = json.dumps(right | {field: value})
        fits = type(value) is type(right[field]) or (type(right[field]), type(value)) == (float, int)
        if fits and value not in (-1, 10**400) and field not in ("similarity", "pooling", "title_style"):
            assert asdict(EncoderCard.from_json(text, place="encoder.json"))[field] == value
        else:
            with pytest.raises(EncoderError, match=rf"encoder\.json: .*{field}"):
                EncoderCard.from_json(text, place="encoder.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [("dimension", 0), ("question_max_tokens", 0), ("passage_max_tokens", -3), ("projection", -1),
     ("hybrid_weight", float("nan")), ("hybrid_weight", float("inf")), ("hybrid_weight", -1.0), ("pooling", "max")],
)  # fmt: skip
def test_values_that_no_encoder_can_have_are_refused(field, value):
    with pytest.raises(EncoderError, match=field):
        EncoderCard.from_json(json.dumps(json.loads(TINY.to_json()) | {field: value}), place="encoder.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": true}', "1" * 5_000, "null", '{"format": 1}'])
def test_a_card_that_is_none_is_refused(text):
    with pytest.raises(EncoderError, match=r"encoder\.json"):
        EncoderCard.from_json(text, place="encoder.json")


def test_the_json_form_of_the_first_release_is_unchanged():
    """Tables and bundles hold it, and a table's card is compared."""
    text = (
        '{"dimension": 8, "fingerprint": "0123", "format": 1, "hybrid_weight": 1.1, "licence": "", "name": "tiny ü", '
        '"normalise": false, "passage_max_tokens": 256, "passage_prefix": "", "pooling": "cls", "projection": 0, '
        '"question_max_tokens": 256, "question_prefix": "query: ", "similarity": "dot", "source": "", '
        '"straight_apostrophe": false, "title_style": "pair", "zero_token_types": true}'
    )
    card = EncoderCard("tiny ü", 8, "0123", question_prefix="query: ")
    assert card.to_json() == text
    assert EncoderCard.from_json(text, place="a table") == card


def test_the_input_of_a_question():
    settings = TextSettings(question_prefix="query: ", straight_apostrophe=True, question_max_tokens=5)
    assert settings.question_input("who’s there?") == "query: who's there?"
    assert TextSettings().question_input("who’s there?") == "who’s there?"
    assert (settings.max_tokens("question"), settings.max_tokens("passage")) == (5, 256)
    assert (settings.prefix("question"), settings.prefix("passage")) == ("query: ", "")


def test_the_input_of_a_passage():
    pair, joined = (TextSettings(passage_prefix="p: ", title_style=style) for style in ("pair", "joined"))
    assert pair.passage_input("Title’s", "text") == ("p: Title’s", "text")
    assert joined.passage_input("Title", "text") == "p: Title text"
    assert pair.passage_input(" ", "text") == joined.passage_input("", "text") == "p: text"


def test_a_cards_text_settings_make_an_equal_card():
    settings = TINY.text_settings()
    # A bundle's fingerprint is a hash of the values in this order.
    assert list(settings) == [
        "pooling", "normalise", "question_prefix", "passage_prefix", "title_style", "zero_token_types",
        "straight_apostrophe", "question_max_tokens", "passage_max_tokens",
    ]  # fmt: skip
    assert EncoderCard("tiny", 8, "tiny", **settings) == TINY
