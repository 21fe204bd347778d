"""Groups of hits: compared with brute force, in every mode, where one document has most of the best passages."""

import asyncio
import datetime

import numpy as np
import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, WordSplitter
from tests.search.rerankers import Counting
from tests.tables import WORDS, random_documents

QUESTION = "river bridge glacier"
MODES = ("hybrid", "dense", "bm25")


def skewed_documents():
    """One document of 500 passages that are better than all others, one of 60, and many of a few."""
    choose = np.random.default_rng(3)
    best = [f"river bridge glacier {WORDS[at % 10]} {at}" for at in range(500)]
    good = [f"river bridge {WORDS[at % 10]} castle {at}" for at in range(60)]
    documents = [{"id": "best", "text": best, "kind": "x", "year": 1}, {"id": "good", "text": good, "kind": "x"}]
    for number in range(40):
        texts = [" ".join(choose.choice(WORDS, 9)) for _ in range(choose.integers(1, 4))]
        kind = [None, "y", "z", "it's \\' odd"][number % 4]
        documents.append({"id": f"d{number:02}", "text": texts, "kind": kind, "year": number % 7})
    return documents


def padded(texts):
    """A text of which the splitter makes these passages: each has ten words."""
    return " ".join(" ".join((text.split() + ["and"] * 10)[:10]) for text in texts)


@pytest.fixture(scope="module")
def skewed(tmp_path_factory):
    with dpr_lance.connect(tmp_path_factory.mktemp("skewed") / "t", encoder=HashEncoder(64), learn=False) as retriever:
        documents = [{**document, "text": padded(document["text"])} for document in skewed_documents()]
        retriever.add(documents, splitter=WordSplitter(10))
        retriever.optimize()
        yield retriever


def brute_force(every, column, per_group, k):
    """The best passages of the first k groups of a whole ranking."""
    chosen, groups = [], {}
    for hit in every:
        value = hit.document_id if column == "document_id" else hit.metadata[column]
        key = ("alone", hit.id) if value is None else value
        if key not in groups and len(groups) == k:
            continue
        groups[key] = groups.get(key, 0) + 1
        if groups[key] <= per_group:
            chosen.append(hit)
    return chosen


@pytest.mark.parametrize("column", ["document_id", "kind", "year"])
@pytest.mark.parametrize("mode", MODES)
def test_groups_equal_brute_force(skewed, mode, column):
    every = skewed.search(QUESTION, 10_000, mode=mode)
    for k, per_group in ((1, 1), (5, 1), (12, 3), (100, 2)):
        hits = skewed.search(QUESTION, k, mode=mode, group_by=column, per_group=per_group)
        expected = brute_force(every, column, per_group, k)
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-4)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert hits.seconds["select"] > 0


def test_all_groups_are_found_where_one_document_fills_every_list(skewed):
    found = skewed.search(QUESTION, 42, group_by="document_id", mode="dense")
    assert len({hit.document_id for hit in found}) == 42
    assert len(skewed.search(QUESTION, 1_000, group_by="document_id", mode="dense")) == 42


def test_passages_without_a_value_are_groups_of_their_own(skewed):
    hits = skewed.search(QUESTION, 10_000, group_by="kind", mode="dense")
    without = [passage.id for passage in skewed.passages() if passage.metadata["kind"] is None]
    assert sorted(hit.id for hit in hits if hit.metadata["kind"] is None) == sorted(without)
    assert {hit.metadata["kind"] for hit in hits} == {None, "x", "y", "z", "it's \\' odd"}
    assert len(hits) == len(without) + 4


@pytest.mark.parametrize("where", ["year < 5", "document_id <> 'best' AND kind = 'it''s \\'' odd'", "id = 'none'"])
def test_a_filter_holds_for_the_further_searches_too(skewed, where):
    every = skewed.search(QUESTION, 10_000, mode="dense", where=where)
    hits = skewed.search(QUESTION, 8, mode="dense", where=where, group_by="document_id", per_group=2)
    assert [hit.id for hit in hits] == [hit.id for hit in brute_force(every, "document_id", 2, 8)]


def test_batches_and_asynchronous_searches_group_alike(skewed):
    questions = [QUESTION, "comet", "violin engine"]
    together = skewed.search(questions, 6, group_by="document_id", per_group=2)
    alone = [skewed.search(question, 6, group_by="document_id", per_group=2) for question in questions]
    assert [hits.hits for hits in together] == [hits.hits for hits in alone]
    waited = asyncio.run(skewed.search_async(QUESTION, 6, group_by="document_id", per_group=2))
    assert waited.hits == alone[0].hits


def test_a_question_is_encoded_once(tmp_path):
    asked = []

    class Noting(HashEncoder):
        def encode_questions(self, questions):
            asked.extend(questions)
            return super().encode_questions(questions)

    with dpr_lance.connect(tmp_path / "t", encoder=Noting(32)) as retriever:
        retriever.add(
            [{"id": "a", "text": "river bridge " * 600}, {"id": "b", "text": "a comet"}], splitter=WordSplitter(4)
        )
        hits = retriever.search("river bridge", 5, group_by="document_id", explain=True)
        assert [hit.document_id for hit in hits] == ["a", "b"]
        assert all(hit.explanation is not None for hit in hits)
    assert asked == ["river bridge"]


def test_groups_are_those_of_the_re_ranked_list(skewed):
    hits = skewed.search("river", 4, group_by="document_id", per_group=2, rerank=Counting("comet"), candidates=40)
    assert hits.reranked == 40
    counts = {}
    for hit in hits:
        counts[hit.document_id] = counts.get(hit.document_id, 0) + 1
    assert len(counts) == 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    stored = {name: len(skewed.get(name)) for name in counts}
    assert counts == {name: min(2, stored[name]) for name in counts}


def test_a_group_that_re_ranking_puts_first_is_filled(tmp_path):
    """Retrieval finds one passage of "comets" among its first 100; its others are worse than those of 20 documents."""
    texts = {f"a{number}": ["river bridge glacier castle"] for number in range(5)}
    texts["best"] = [f"river bridge glacier {number}" for number in range(90)]
    texts["comets"] = ["river bridge comet", *(f"river comet violin engine {number}" for number in range(4))]
    texts |= {f"d{number}": [f"river bridge castle {part}" for part in range(10)] for number in range(20)}
    documents = [{"id": name, "text": padded(passages)} for name, passages in texts.items()]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add(documents, splitter=WordSplitter(10))
        question, options = "river bridge glacier", {"mode": "bm25", "rerank": Counting("comet"), "candidates": 100}
        found = [hit.id for hit in retriever.search(question, 100, **options) if hit.rerank_score]
        assert found == ["comets#0"]
        hits = retriever.search(question, 3, **options, group_by="document_id", per_group=3)
        assert hits[0].id == "comets#0"
        assert sum(hit.document_id == "comets" for hit in hits) == 3


COLUMNS = {
    "whole": [1, 2**60, 1, 5],
    "fraction": [0.1, float("nan"), 0.1, float("nan")],
    "flag": [True, False, True, False],
    "day": [datetime.date(2020, 1, 1), datetime.date(1960, 5, 5)] * 2,
    "moment": [datetime.datetime(2020, 1, 1, 3, 4, 5, 6), datetime.datetime(1960, 5, 5)] * 2,
    "raw": [b"a", b"\0\xff"] * 2,
}


def test_columns_of_many_types_can_be_grouped_by(tmp_path):
    """Each group has more passages than the first search finds, so that the values stand in further filters."""
    documents = [
        {"id": f"{at}-{number:03}", "text": f"river {'bridge ' * (4 - at)}{number}"}
        | {name: values[at] for name, values in COLUMNS.items()}
        for at in range(4)
        for number in range(70)
    ]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add(documents)
        for name, values in COLUMNS.items():
            hits = retriever.search("river bridge", 10, group_by=name, mode="dense", per_group=2)
            assert len(hits) == 2 * len({str(value) for value in values}), name
        titles = retriever.search("river bridge", 10, group_by="title")
        assert len(titles) == 1  # all are blank


def test_a_column_that_is_not_there_or_has_no_single_values_is_refused(tmp_path):
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(32)) as retriever:
        assert len(retriever.search("river", group_by="anything")) == 0  # nothing is stored yet
        retriever.add([{"text": "a river", "tags": ["a"], "origin": {"by": "x"}, "at": moment, "year": 5}])
        with pytest.raises(InvalidInputError, match=r"group_by='yaer': there is no such column; .* title, year"):
            retriever.search("river", group_by="yaer")
        for name, kind in (("tags", "list"), ("origin", "struct"), ("at", "timestamp")):
            with pytest.raises(InvalidInputError, match=f"group_by='{name}': it has the type {kind}.*title, year"):
                retriever.search("river", group_by=name)
        for wrong in ({"per_group": 0, "group_by": "year"}, {"per_group": 2}, {"group_by": "year", "per_group": 1.5}):
            with pytest.raises(InvalidInputError, match="per_group="):
                retriever.search("river", **wrong)


@pytest.mark.parametrize("seed", range(3))
def test_an_indexed_table_fills_its_groups(tmp_path, seed):
    """Candidates are few, so that most groups come from further searches."""
    documents = [document | {"set": int(document["id"][1:]) % 9} for document in random_documents(seed, 150)]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(32)) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        for mode in ("hybrid", "dense"):
            hits = retriever.search("river comet", 9, mode=mode, group_by="set", per_group=4)
            assert sorted(hit.metadata["set"] for hit in hits) == sorted([*range(9)] * 4)
