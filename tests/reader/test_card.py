"""The reader card: its JSON form and its checks."""

import json
from dataclasses import asdict, fields

import pytest

from dpr_lance.errors import ReaderError
from dpr_lance.reader.card import ReaderCard
from tests.reader.tiny_reader import CARD

WRONG = [None, True, 3, -1, 1.5, "x", [], {}, 10**400]
LIMITED = ("max_tokens", "question_max_tokens", "title_max_tokens", "input_style", "selects", "extracts")


@pytest.mark.parametrize("field", [field.name for field in fields(ReaderCard) if field.name not in LIMITED])
def test_each_field_of_a_card_has_its_type_or_is_named(field):
    right = json.loads(CARD.to_json())
    for value in WRONG:
        text = json.dumps(right | {field: value})
        fits = type(value) is type(right[field]) or (type(right[field]), type(value)) == (float, int)
        if fits and value not in (-1, 10**400) and not (field == "answer_threshold" and value > 1):
            assert asdict(ReaderCard.from_json(text, place="reader.json"))[field] == value
        else:
            with pytest.raises(ReaderError, match=rf"reader\.json: .*{field}"):
                ReaderCard.from_json(text, place="reader.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"span_max_tokens": 0}, "span_max_tokens must be at least 1"),
        ({"retrieval_weight": float("nan")}, "retrieval_weight must be at least 0"),
        ({"retrieval_weight": -0.1}, "retrieval_weight must be at least 0"),
        ({"answer_threshold": 1.1}, "answer_threshold is a probability from 0 to 1"),
        ({"answer_threshold": float("nan")}, "answer_threshold is a probability from 0 to 1"),
        ({"input_style": "triple"}, "input_style"),
        ({"selects": False, "extracts": False}, "it neither selects nor extracts"),
        ({"selects": 1}, "selects is 1"),
        ({"question_max_tokens": 32}, "max_tokens must be above 48 to hold some text"),
        ({"title_max_tokens": 24}, "max_tokens must be above 48 to hold some text"),
    ],
)
def test_values_that_no_reader_can_have_are_refused(values, message):
    with pytest.raises(ReaderError, match=rf"reader\.json: reader card 'tiny reader': {message}"):
        ReaderCard.from_json(json.dumps(json.loads(CARD.to_json()) | values), place="reader.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not JSON"),
        ("{", "is not JSON"),
        ("null", "is not a JSON object"),
        ('{"format": true}', "format True is not known"),
        ('{"format": 2, "name": "x"}', "format 2 is not known here.*upgrade dpr-lance"),
        ('{"format": 1}', "lacks fingerprint, name"),
        ('{"format": 1, "name": "x", "fingerprint": "y", "heads": 3}', "has unknown fields heads"),
    ],
)
def test_a_card_that_is_none_is_refused(text, message):
    with pytest.raises(
        ReaderError, match=rf"reader\.json: the reader card {message}|reader\.json: reader card {message}"
    ):
        ReaderCard.from_json(text, place="reader.json")


def test_a_card_survives_its_json_form():
    assert ReaderCard.from_json(CARD.to_json(), place="reader.json") == CARD
