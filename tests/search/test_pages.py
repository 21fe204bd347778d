"""Pages of a result and lowest scores: joined pages are the whole list, in every mode and with every later stage."""

import asyncio

import numpy as np
import pytest

from dpr_lance import HashEncoder, InvalidInputError, connect
from tests.search.rerankers import Counting
from tests.tables import random_documents

QUESTION = "river bridge glacier"
MODES = ("hybrid", "dense", "bm25")
STAGES = {
    "plain": {},
    "re-ranked": {"rerank": Counting(), "candidates": 15},
    "grouped": {"group_by": "title"},
    "groups of two": {"group_by": "kind", "per_group": 2},
    "diverse": {"diversity": 0.4},
    "all of it": {"rerank": Counting(), "candidates": 25, "group_by": "kind", "diversity": 0.3},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("pages") / "t", encoder=HashEncoder(32)) as retriever:
        documents = random_documents(4, 45)  # fewer than a diverse result is chosen from
        kinds = [None, "a", "b", "c", "d", "e", "f", "g"]
        retriever.add([document | {"kind": kinds[at % 8]} for at, document in enumerate(documents)], splitter=None)
        retriever.optimize()
        yield retriever


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mode", MODES)
def test_joined_pages_are_the_whole_list(table, mode, stage):
    given = {"mode": mode, **STAGES[stage]}
    whole = table.search(QUESTION, 60, **given)
    pages = [table.search(QUESTION, 4, offset=offset, **given) for offset in range(0, 48, 4)]
    joined = [hit for page in pages for hit in page]
    assert [hit.rank for hit in joined] == list(range(1, len(whole) + 1))
    if given.get("per_group"):  # whole groups on each page, so that their hits are together
        assert {hit.id for hit in joined} == {hit.id for hit in whole}
    else:
        assert joined == list(whole)
    assert len(table.search(QUESTION, 4, offset=500, **given)) == 0


def test_the_pages_of_groups_count_groups(table):
    first, second = (table.search(QUESTION, 3, offset=at, group_by="kind", per_group=9) for at in (0, 3))
    kinds = [{hit.metadata["kind"] for hit in page} for page in (first, second)]
    assert not kinds[0] & kinds[1]
    whole = table.search(QUESTION, 6, group_by="kind", per_group=9)
    assert {hit.id for hit in [*first, *second]} == {hit.id for hit in whole}


@pytest.mark.parametrize("mode", MODES)
def test_hits_below_the_lowest_score_are_left_out(table, mode):
    whole = table.search(QUESTION, 45, mode=mode)
    least = whole[20].score
    kept = table.search(QUESTION, 45, mode=mode, min_score=least)
    assert list(kept) == [hit for hit in whole if hit.score >= least]
    assert len(kept) >= 21
    assert table.search(QUESTION, 5, mode=mode, min_score=least, offset=18)[:] == kept[18:23]
    assert len(table.search(QUESTION, 5, mode=mode, min_score=10**6)) == 0


def test_the_lowest_score_with_a_re_ranker_is_one_of_re_scored_hits(table):
    whole = table.search(QUESTION, 45, rerank=Counting(), candidates=10)
    assert list(table.search(QUESTION, 45, rerank=Counting(), candidates=10, min_score=-(10**9))) == list(whole[:10])
    least = whole[4].score
    kept = table.search(QUESTION, 45, rerank=Counting(), candidates=10, min_score=least)
    assert list(kept) == [hit for hit in whole[:10] if hit.score >= least]


def test_groups_are_those_of_the_hits_that_are_left(table):
    whole = table.search(QUESTION, 45)
    least = whole[9].score
    groups = table.search(QUESTION, 45, group_by="title", min_score=least)
    assert [hit.title for hit in groups] == list(dict.fromkeys(hit.title for hit in whole if hit.score >= least))


def test_batches_and_asynchronous_searches(table):
    given = {"offset": 3, "min_score": 0.5}
    alone = table.search(QUESTION, 4, **given)
    assert [hits.hits for hits in table.search([QUESTION, "castle"], 4, **given)] == [
        alone.hits,
        table.search("castle", 4, **given).hits,
    ]
    assert asyncio.run(table.search_async(QUESTION, 4, **given)).hits == alone.hits
    assert table.search(QUESTION, 4, offset=np.int64(3), min_score=np.float32(0.5)).hits == alone.hits


@pytest.mark.parametrize("offset", [-1, 1.5, "2", None, True])
def test_what_is_no_offset(table, offset):
    with pytest.raises(InvalidInputError, match=r"offset=.*the number of hits to leave out, 0 or more"):
        table.search(QUESTION, offset=offset)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "1", True, [1.0]])
def test_what_is_no_score(table, score):
    with pytest.raises(InvalidInputError, match=r"min_score=.*the lowest score of a hit"):
        table.search(QUESTION, min_score=score)
