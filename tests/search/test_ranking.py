"""Searching a real table: both legs against brute force, filters, order, ties, the fallback."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lancedb.expr import col

import dpr_lance
from dpr_lance import EncoderError, EncoderMismatchError, HashEncoder, InvalidInputError
from dpr_lance.search.fusion import fused_scores
from dpr_lance.search.stopwatch import STAGES
from tests.search.encoders import BrokenEncoder
from tests.tables import FEW_CANDIDATES, brute_force_bm25, opened, random_documents


@pytest.mark.parametrize("seed", range(6))
def test_hybrid_equals_brute_force_over_the_whole_table(tmp_path, seed):
    encoder = HashEncoder(dimension=32)
    documents = random_documents(seed, 60)
    contents = [f"{document['title']}\n{document['text']}" for document in documents]
    with dpr_lance.connect(tmp_path / "t", encoder=encoder) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        passages = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
        for question in ("river bridge", "comet of the orchard and the castle", "unknown words only"):
            dense = (passages @ encoder.encode_questions([question])[0]).astype(np.float64)
            bm25 = brute_force_bm25(question, contents)
            weight = encoder.card.hybrid_weight
            expected = fused_scores(dense, bm25, weight)
            hits = retriever.search(question, 60)
            assert len(hits) == 60
            assert hits.hybrid_weight == weight
            for hit in hits:
                index = int(hit.document_id[1:])
                assert hit.dense_score == pytest.approx(dense[index], abs=1e-5)
                assert hit.bm25_score == pytest.approx(bm25[index], abs=1e-4)
                assert hit.score == pytest.approx(expected[index], abs=1e-4 * (1 + weight))
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert [hit.rank for hit in hits] == list(range(1, 61))


def test_a_candidate_of_one_leg_has_the_exact_score_of_the_other(tmp_path):
    """With legs of 5 candidates the union holds passages of one leg only; their other score is still exact."""
    encoder = HashEncoder(dimension=32)
    documents = random_documents(99, 200)
    question = "river bridge"
    with opened(tmp_path / "t", encoder, policy=FEW_CANDIDATES) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        bm25 = brute_force_bm25(question, [f"{document['title']}\n{document['text']}" for document in documents])
        passages = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
        dense = passages @ encoder.encode_questions([question])[0]
        legs = [{hit.id for hit in retriever.search(question, 5, mode=mode)} for mode in ("dense", "bm25")]
        assert legs[0] != legs[1]
        hits = retriever.search(question, 5)
        assert {hit.id for hit in hits} <= legs[0] | legs[1]
        for hit in hits:
            index = int(hit.document_id[1:])
            assert hit.dense_score == pytest.approx(dense[index], abs=1e-5)
            assert hit.bm25_score == pytest.approx(bm25[index], abs=1e-4)


def test_modes_rank_by_their_own_score(filled):
    for mode, score in (("dense", "dense_score"), ("bm25", "bm25_score")):
        hits = filled.search("river in the Alps", mode=mode)
        assert hits.mode == mode
        assert hits.fallback is None
        assert hits.hybrid_weight is None
        assert hits[0].document_id == "rhine"
        assert [hit.score for hit in hits] == [getattr(hit, score) for hit in hits]
    assert all(hit.bm25_score is None for hit in filled.search("Alps", mode="dense"))
    assert all(hit.dense_score is None for hit in filled.search("Alps", mode="bm25"))


def used(hits):
    """The stages that took time; every result names all of them."""
    assert set(hits.seconds) == set(STAGES)
    return {stage for stage, seconds in hits.seconds.items() if seconds}


def test_hits_are_a_sequence_with_all_that_is_stored(filled):
    hits = filled.search("range in South America", 2)
    assert len(hits) == len(hits[:]) == 2
    assert hits[0].title == "Andes"
    assert hits[0].id == "andes#0"
    assert hits[0].text == "The Andes are a mountain range in South America."
    assert hits[0].metadata == {"year": 2005, "kind": None}
    assert used(hits) == {"encode", "dense", "bm25", "fuse", "fetch", "total"}
    assert used(filled.search("range", mode="bm25")) == {"bm25", "fuse", "fetch", "total"}
    assert used(filled.search("range", mode="dense")) == {"encode", "dense", "fuse", "fetch", "total"}
    assert [hit.rank for hit in hits] == [1, 2]


def test_bm25_returns_the_matching_passages_and_dense_all(filled):
    assert len(filled.search("compressed", mode="bm25")) == 1
    assert len(filled.search("compressed", mode="dense")) == 4
    assert len(filled.search("compressed", 1000)) == 4


def test_equal_scores_are_ordered_by_id(retriever):
    retriever.add([{"id": name, "text": "the same words"} for name in "dbca"])
    for mode in ("hybrid", "dense", "bm25"):
        assert [hit.document_id for hit in retriever.search("same words", mode=mode)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
def test_many_equal_scores_are_ordered_by_id(tmp_path, resident_bytes):
    """More than any leg is asked for at first, stored in no order of their ids."""
    names = [f"{number:03}" for number in np.random.default_rng(0).permutation(250)]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(32), resident_bytes=resident_bytes) as retriever:
        retriever.add([{"id": name, "text": "the same words"} for name in names])
        retriever.optimize()
        # LanceDB's inner products and ours differ by 1e-7, which parts passages that different legs have found.
        for mode in ("dense", "bm25", "hybrid")[: 3 if resident_bytes else 2]:
            for questions in ("same words", ["same words", "same words"]):
                found = retriever.search(questions, 3, mode=mode)
                for hits in [found] if isinstance(questions, str) else found:
                    assert [hit.document_id for hit in hits] == ["000", "001", "002"]


def test_ties_of_one_question_change_nothing_for_the_others_of_a_batch(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add([{"text": "the same words", "id": f"s{number}"} for number in range(150)])
        retriever.add(random_documents(0, 400), splitter=None)
        questions = ["river bridge", "same words", "comet"]
        for mode in ("hybrid", "dense", "bm25"):
            alone = [retriever.search(question, 3, mode=mode, explain=True) for question in questions]
            together = retriever.search(questions, 3, mode=mode, explain=True)
            assert [hits.hits for hits in together] == [hits.hits for hits in alone]
            assert [hits.explanation for hits in together] == [hits.explanation for hits in alone]
            asked = [hits.explanation.candidates_asked for hits in together]
            assert asked[0] == asked[2] < asked[1]


def test_candidates_do_not_depend_on_which_ties_a_leg_lists(tmp_path):
    """60 passages fill a leg's first ranks; of the 100 that tie for its last 40 none is a candidate by chance."""
    better = [{"id": f"b{number}", "text": f"river river river word{number}"} for number in range(60)]
    tied = [{"id": f"t{number}", "text": f"river word{number:03} alpha beta"} for number in range(100)]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add(tied + better)
        retriever.optimize()
        hits = retriever.search("river", 10, explain=True)
        assert hits.explanation.bm25_candidates == 60
        assert len(retriever.search("river", 300, mode="bm25")) == 160


def test_the_time_of_bm25_is_its_own(tmp_path):
    """It runs while the question is encoded: neither the wait for the encoder nor what is left after it is its time."""
    alone = []

    class SlowEncoder(HashEncoder):
        def encode_questions(self, questions):
            alone.extend(plain.search("river", mode="bm25").seconds["bm25"] for _ in range(20))
            return super().encode_questions(questions)

    with (
        dpr_lance.connect(tmp_path / "t", encoder=SlowEncoder(dimension=32)) as retriever,
        dpr_lance.connect(tmp_path / "t") as plain,
    ):
        retriever.add(random_documents(0, 50), splitter=None)
        for seconds in (retriever.search("river").seconds, retriever.search(["river", "comet"])[0].seconds):
            assert min(alone) / 10 < seconds["bm25"] < seconds["encode"]
            assert sum(taken for stage, taken in seconds.items() if stage not in ("bm25", "total")) <= seconds["total"]


def test_repeated_words_count_once(filled):
    once, often = (filled.search(question, mode="bm25") for question in ("alps river", "alps river Alps alps RIVER"))
    assert [(hit.id, hit.score) for hit in once] == [(hit.id, hit.score) for hit in often]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_filters_apply_before_ranking(filled, mode):
    assert {hit.document_id for hit in filled.search("mountain river", 1, mode=mode, where="kind = 'river'")} == {
        "rhine"
    }
    found = filled.search("mountain range in the Alps", mode=mode, where=col("year") > 2001)
    assert {hit.document_id for hit in found} == {"andes", "rhine"}
    assert len(filled.search("river", mode=mode, where="year > 3000")) == 0


@pytest.mark.parametrize(
    ("where", "message"),
    [("colour = 'red'", "No field named colour"), ("year = = 1", "where='year = = 1'"), (col("nope") > 1, "nope")],
)
@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_a_filter_that_cannot_be_used_is_named(filled, mode, where, message):
    with pytest.raises(InvalidInputError, match=message):
        filled.search("river", mode=mode, where=where)
    assert len(filled) == 4


@pytest.mark.parametrize("where", [5, True, b"year > 1", [], {"year": 2001}])
@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_what_is_no_filter_is_named_with_what_is(filled, mode, where):
    with pytest.raises(
        InvalidInputError, match=r"is not a filter: pass SQL.*col\('year'\) > 2000, not " + type(where).__name__
    ):
        filled.search("river", mode=mode, where=where)
    with pytest.raises(InvalidInputError, match="is not a filter"):
        filled.delete(where=where)


def test_the_error_of_a_filter_tells_what_there_is_to_filter_by(filled):
    with pytest.raises(InvalidInputError) as refused:
        filled.search("river", where="day > '2020-10-15'")
    told = str(refused.value)
    assert "Metadata columns: year (int64), kind (string); id, document_id, title and text can be used too" in told
    assert "date '2024-12-31'" in told
    with pytest.raises(InvalidInputError) as refused:
        filled.search("river", where="year = 'abc'")
    assert "literal of type 'Int64'" in str(refused.value)
    assert ".rs:" not in str(refused.value)
    assert "content_hash" not in str(refused.value)


@pytest.mark.parametrize("question", ["the of and", '"', '"a phrase"', "😀", "\0", "a:b AND (c OR d~2) *", "東京", "'"])
def test_questions_that_full_text_search_cannot_use(filled, question):
    """No word in the index: hybrid is answered by dense alone, bm25 finds nothing."""
    hits = filled.search(question)
    assert hits.mode == "hybrid"
    assert hits.fallback is None
    assert len(hits) == 4
    assert all(hit.bm25_score == 0.0 for hit in hits)
    assert len(filled.search(question, mode="bm25")) == 0


def test_a_question_of_ten_thousand_characters(filled):
    question = " ".join(f"word{number} Alps" for number in range(900))
    assert len(question) > 10_000
    assert filled.search(question)[0].document_id in ("alps", "rhine")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(min_size=1, max_size=60))
def test_any_text_is_answered_or_refused_clearly(filled, question):
    try:
        hits = filled.search(question)
    except InvalidInputError as error:
        assert not question.strip() or "surrogate" in str(error)  # noqa: PT017
    else:
        assert len(hits) == 4


@pytest.mark.parametrize("question", ["", "  \n", "\u3000"])
def test_blank_questions_are_refused(filled, question):
    with pytest.raises(InvalidInputError, match="the question is blank"):
        filled.search(question)
    with pytest.raises(InvalidInputError, match=r"questions\[1\] is blank"):
        filled.search(["river", question])


def test_other_bad_arguments(filled):
    with pytest.raises(InvalidInputError, match=r"questions\[0\].*must be a string, it is int"):
        filled.search([7])
    with pytest.raises(InvalidInputError, match="question=7: a question is a string, or a list of strings"):
        filled.search(7)
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        filled.search("a\ud800b")
    for k in (0, -1, 2.5, "3", True):
        with pytest.raises(InvalidInputError, match=f"k={k!r}: ask for at least 1 hit"):
            filled.search("river", k)
    with pytest.raises(InvalidInputError, match="mode='fuzzy' is not one of hybrid, dense, bm25"):
        filled.search("river", mode="fuzzy")


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
@pytest.mark.parametrize("k", [np.int64(3), 10**6, 2**31, 10**12, 2**64])
def test_any_whole_number_of_hits_can_be_asked_for(filled, mode, k):
    expected = {"hybrid": 4, "dense": 4, "bm25": 2}[mode]
    assert len(filled.search("river in the Alps", k, mode=mode)) == min(k, expected)


def test_a_table_that_does_not_exist_yet_has_no_hits(retriever):
    for mode in ("hybrid", "dense", "bm25"):
        assert len(retriever.search("river", mode=mode)) == 0
    assert [len(hits) for hits in retriever.search(["a", "b"])] == [0, 0]


def test_without_an_encoder_hybrid_falls_back_and_dense_raises(filled, folder):
    with dpr_lance.connect(folder, encoder=BrokenEncoder(dimension=64)) as blind:
        hits = blind.search("river in the Alps")
        assert (hits.mode, hits.fallback) == ("bm25", "its weights are not here")
        assert hits.hits == filled.search("river in the Alps", mode="bm25").hits
        assert blind.search("river", mode="bm25").fallback is None
        with pytest.raises(EncoderError, match="weights are not here"):
            blind.search("river", mode="dense")


def test_an_encoder_object_is_not_found_again_without_being_passed(filled, folder):
    with dpr_lance.connect(folder) as blind:
        hits = blind.search("river in the Alps")
        assert hits.mode == "bm25"
        assert "made with the encoder object" in hits.fallback
        with pytest.raises(EncoderError, match="pass it again"):
            blind.search("river", mode="dense")
        report = blind.add([{"id": "new", "text": "a glacier"}])
        assert report.passages_embedded == 0
        assert "pass it again" in report.not_embedded
        assert blind.search("glacier")[0].document_id == "new"


def test_another_encoder_is_refused(filled, folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=32)) as other:
        hits = other.search("river in the Alps")
        assert hits.mode == "bm25"
        assert "holds vectors of encoder" in hits.fallback
        for refused in (lambda: other.search("river", mode="dense"), lambda: other.add([{"text": "x"}]), other.embed):
            with pytest.raises(EncoderMismatchError, match="holds vectors of encoder"):
                refused()
    assert len(filled) == 4


def test_passages_without_vectors(retriever, documents):
    retriever.add(documents, embed=False)
    hits = retriever.search("river in the Alps")
    assert (hits.mode, hits[0].document_id) == ("bm25", "rhine")
    assert "no passage has a vector yet" in hits.fallback
    with pytest.raises(EncoderError, match="call embed"):
        retriever.search("river", mode="dense")
    retriever.add([{"id": "seine", "text": "The Seine is a river in France."}])
    mixed = retriever.search("river in the Alps")
    assert mixed.mode == "hybrid"
    assert {hit.document_id: hit.dense_score is None for hit in mixed}["rhine"]
    assert len(retriever.search("river", mode="dense")) == 1
    assert retriever.embed().passages_embedded == 4
    assert all(hit.dense_score is not None for hit in retriever.search("river in the Alps"))
    assert retriever.embed().passages_embedded == 0
