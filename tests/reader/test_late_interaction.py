"""Late interaction on a model whose scores are counted by hand."""

import dataclasses

import numpy as np
import pytest

import dpr_lance
from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.late_interaction import LateInteraction
from dpr_lance.reader.late_interaction_bundle import LateInteractionCard, open_late_interaction_bundle
from dpr_lance.reader.loading import load_reader
from dpr_lance.reader.reranker import PassageText
from tests.contracts.reranker_contract import RerankerContract
from tests.reader.tiny_late_interaction import CARD, WIDTH, tiny_late_interaction

SPECIALS = 2
"""[CLS] and [SEP] of the question, which every passage has."""


class TestLateInteraction(RerankerContract):
    @pytest.fixture
    def reranker(self, tmp_path):
        return LateInteraction(tiny_late_interaction(tmp_path, dataclasses.replace(CARD, question_max_tokens=60)))


@pytest.fixture
def model(tmp_path):
    return LateInteraction(tiny_late_interaction(tmp_path))


def test_a_score_counts_the_tokens_that_the_passage_has(model):
    passages = [PassageText("", "abc"), PassageText("", "xyz"), PassageText("a", "xb"), PassageText(" ", "a")]
    scores = model.score("ab", passages)
    assert scores.dtype == np.float32
    assert (scores - SPECIALS).tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_score_does_not_depend_on_its_neighbours(tmp_path, precision):
    model = LateInteraction(tiny_late_interaction(tmp_path, precision=precision), threads=2)
    pairs = [(question, PassageText("", text)) for question in ("ab", "xyz b") for text in ("abc", "b", "xa" * 30)] * 3
    scores = model.score_pairs(pairs)
    alone = [model.score(question, [passage])[0] for question, passage in pairs]
    assert scores.tolist() == alone
    assert (scores[:3] - SPECIALS).tolist() == [2, 1, 1]


def test_long_texts_are_cut_before_their_last_special_token(model):
    assert model.question_vectors("a" * 50).shape == (12, WIDTH)
    (vectors,) = model.passage_vectors([PassageText("", "ab" * 50)])
    assert vectors.shape == (20, WIDTH)
    assert vectors.argmax(axis=1).tolist()[-1] == 3
    assert model.score("z", [PassageText("", "a" * 18 + "z")])[0] == SPECIALS


def test_skipped_tokens_match_nothing(tmp_path):
    card = dataclasses.replace(CARD, skipped_tokens=(".", ",", "absent"))
    model = LateInteraction(tiny_late_interaction(tmp_path, card))
    assert model.score("a.", [PassageText("", "a.")])[0] == SPECIALS + 1
    assert len(model.passage_vectors([PassageText("", "a.,.")])[0]) == SPECIALS + 1


def test_questions_are_filled(tmp_path):
    card = dataclasses.replace(CARD, augmented_tokens=10, augmentation="?")
    model = LateInteraction(tiny_late_interaction(tmp_path, card))
    assert model.question_vectors("ab").shape == (10, WIDTH)
    assert model.score("ab", [PassageText("", "ab?"), PassageText("", "ab")]).tolist() == [10, 4]


def test_a_token_that_fills_questions_must_exist(tmp_path):
    card = dataclasses.replace(CARD, augmented_tokens=10)
    model = LateInteraction(tiny_late_interaction(tmp_path, card))
    with pytest.raises(ReaderError, match=r"has no token '\[MASK\]', which fills questions"):
        model.score("ab", [PassageText("", "ab")])


def test_nothing_to_score(model):
    assert model.score("a", []).shape == (0,)
    assert model.score_pairs([]).shape == (0,)
    assert model.passage_vectors([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.score(" ", [PassageText("", "a")]), "question is blank"),
        (lambda model: model.score("\u200b", [PassageText("", "a")]), "question is blank to the model's tokenizer"),
        (lambda model: model.score("a", [PassageText("", "a"), PassageText("t", "")]), r"passages\[1\] is blank"),
        (lambda model: model.score("a", ["text"]), r"passages\[0\]='text'"),
        (lambda model: model.score_pairs([("", ("", "a"))]), r"the question of pairs\[0\] is blank"),
        (lambda model: model.question_vectors(5), "must be a string"),
        (lambda model: LateInteraction(model.bundle, threads=0), "threads=0"),
    ],
)
def test_bad_input_is_named(model, call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(model)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    model = LateInteraction(tiny_late_interaction(tmp_path, vectors="nan"))
    with pytest.raises(ReaderError, match="NaN or infinite values; the card says"):
        model.score("a", [PassageText("", "a")])


def test_damage_is_found(tmp_path):
    folder = tiny_late_interaction(tmp_path)
    with pytest.raises(ReaderError, match="is a late-interaction bundle, not a reader bundle"):
        load_reader(folder)
    content = (folder / "late-interaction.onnx").read_bytes()
    (folder / "late-interaction.onnx").write_bytes(content[:-1] + b"x")
    with pytest.raises(ReaderError, match="is damaged"):
        LateInteraction(folder).score("a", [PassageText("", "a")])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ReaderError, match=r"tokenizer\.json is missing"):
        open_late_interaction_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"question_max_tokens": 3}, "question_max_tokens must be at least 4"),
        ({"augmented_tokens": 13}, "augmented_tokens must be from 0 to question_max_tokens"),
        ({"skipped_tokens": (1,)}, "skipped_tokens"),
        ({"retrieval_weight": float("nan")}, "retrieval_weight must be at least 0"),
    ],
)
def test_a_card_that_cannot_be_is_refused(change, message):
    with pytest.raises(ReaderError, match=message):
        dataclasses.replace(CARD, **change)


def test_a_card_survives_json():
    card = dataclasses.replace(CARD, skipped_tokens=(".", ","))
    assert LateInteractionCard.from_json(card.to_json(), place="here") == card


def test_a_search_is_reranked_by_the_model_in_the_cache(tmp_path, monkeypatch):
    """By its name, by a bundle folder, and as an object."""
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path))
    with dpr_lance.connect(tmp_path / "table", encoder=dpr_lance.HashEncoder()) as retriever:
        retriever.add([{"id": "1", "text": "xyz river"}, {"id": "2", "text": "abc"}, {"id": "3", "text": "xq"}])
        with pytest.raises(ReaderError, match="dpr-lance export CHECKPOINT"):
            retriever.search("abc", rerank="late-interaction")
        folder = tiny_late_interaction(tmp_path / "made")
        (tmp_path / "bundles").mkdir()
        folder.rename(tmp_path / "bundles" / "late-interaction")
        hits = retriever.search("abc", k=3, rerank="late-interaction")
        assert (hits[0].document_id, hits[0].rerank_score, hits.reranker) == ("2", 5, "tiny")
        again = retriever.search("abc", k=3, rerank=tmp_path / "bundles" / "late-interaction")
        assert [hit.rerank_score for hit in again] == [hit.rerank_score for hit in hits]
