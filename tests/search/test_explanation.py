"""What `explain=True` tells: ranks within the legs, words' scores that sum up, effort, times."""

import pytest

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.records.hits import Effort
from dpr_lance.table.index_policy import IndexPolicy
from tests.tables import FEW_CANDIDATES, brute_force_bm25, opened, random_documents


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("t") / "t"


@pytest.fixture(scope="module")
def filled(place):
    with dpr_lance.connect(place, encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add(random_documents(3, 300), splitter=None)
        retriever.optimize()
        yield retriever


QUESTION = "the rivers, a river bridge and the comet's lantern; unheard"


@pytest.mark.parametrize("mode", ["hybrid", "bm25"])
def test_words_sum_up_to_the_bm25_score(filled, mode):
    hits = filled.search(QUESTION, 20, mode=mode, explain=True)
    assert hits.explanation.unfolded_rows == 0
    assert len(hits) == 20
    for hit in hits:
        words = hit.explanation.words
        assert sum(word.score for word in words) == pytest.approx(hit.bm25_score, abs=1e-4)
        assert [word.score for word in words] == sorted((word.score for word in words), reverse=True)
        assert {word.word for word in words} <= {"rivers", "bridge", "comet", "lantern"}


def test_a_word_adds_what_it_would_score_alone(filled):
    documents = random_documents(3, 300)
    contents = [f"{document['title']}\n{document['text']}" for document in documents]
    alone = {word: brute_force_bm25(word, contents) for word in ("rivers", "bridge", "comet", "lantern")}
    for hit in filled.search(QUESTION, explain=True):
        index = int(hit.document_id[1:])
        told = {word.word: word.score for word in hit.explanation.words}
        for word, scores in alone.items():
            assert told.get(word, 0.0) == pytest.approx(scores[index], abs=1e-4)


def test_ranks_are_those_of_the_legs_alone(filled):
    hits = filled.search(QUESTION, 10, explain=True)
    asked = hits.explanation.candidates_asked
    for mode, name in (("dense", "dense_rank"), ("bm25", "bm25_rank")):
        scores = {hit.id: getattr(hit, f"{mode}_score") for hit in filled.search(QUESTION, asked, mode=mode)}
        for hit in hits:
            rank = getattr(hit.explanation, name)
            assert (rank is None) <= (hit.id not in list(scores)[: asked // 2])
            if rank is not None:  # equal scores may stand in either order within a leg
                assert sorted(scores.values(), reverse=True)[rank - 1] == pytest.approx(scores[hit.id], abs=1e-5)


@pytest.mark.usefixtures("filled")
def test_a_passage_that_one_leg_did_not_find_has_no_rank_there(place):
    with opened(place, HashEncoder(dimension=32), policy=FEW_CANDIDATES) as retriever:
        hits = retriever.search("river bridge", 5, explain=True)
    ranks = [(hit.explanation.dense_rank, hit.explanation.bm25_rank) for hit in hits]
    assert any(None in pair for pair in ranks)
    assert all(pair != (None, None) for pair in ranks)
    told = hits.explanation
    assert (told.dense_candidates, told.bm25_candidates, told.candidates_asked) == (
        5,
        4,
        5,
    )  # the fifth of BM25 is tied
    assert 5 < told.candidates <= 10


def test_a_leg_that_the_mode_does_not_use_is_not_told_of(filled):
    dense = filled.search(QUESTION, 3, mode="dense", explain=True)
    assert all(hit.explanation.words == () and hit.explanation.bm25_rank is None for hit in dense)
    assert dense.explanation.bm25_candidates is None
    assert dense.explanation.effort == Effort()
    bm25 = filled.search(QUESTION, 3, mode="bm25", explain=True)
    assert all(hit.explanation.dense_rank is None for hit in bm25)
    assert (bm25.explanation.dense_candidates, bm25.explanation.effort) == (None, None)


def test_nothing_is_explained_unasked_and_hits_are_the_same(filled):
    told, plain = filled.search(QUESTION, explain=True), filled.search(QUESTION)
    assert "explain" in told.seconds
    assert plain.explanation is None
    assert [(hit.id, hit.score) for hit in told] == [(hit.id, hit.score) for hit in plain]
    assert all(hit.explanation is None for hit in plain)
    batch = filled.search([QUESTION, "comet"], explain=True)
    assert batch[0].hits == told.hits
    assert [word.word for word in batch[1][0].explanation.words] == ["comet"]


def test_rows_outside_the_index_are_told(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        assert retriever.search("river", explain=True).explanation is None  # no table, nothing to tell
        retriever.add(random_documents(1, 100), splitter=None)
        retriever.optimize()
        retriever.add([{"id": f"new{number}", "text": "a new river"} for number in range(7)], splitter=None)
        assert retriever.search("river", explain=True).explanation.unfolded_rows == 7


def test_the_effort_of_an_index_is_told(tmp_path):
    small = IndexPolicy(vector_index_rows=300, rows_per_partition=64, recall_questions=20)
    with opened(tmp_path / "t", HashEncoder(dimension=32), policy=small, resident_bytes=0) as retriever:
        retriever.add(random_documents(5, 600), splitter=None)
        retriever.optimize()
        effort = retriever.search("river", explain=True).explanation.effort
        assert (effort.partitions, effort.refine_factor) == (9, 1)
        effort = retriever.search("river", mode="dense", explain=True).explanation.effort
        assert effort.refine_factor == small.refine_rq
        assert 1 <= effort.probes <= 9
        narrow = retriever.search("river", where="document_id = 'd007'", explain=True)
        assert (len(narrow), narrow.explanation.effort.probes) == (1, 9)
