"""Batches, asynchronous searches, warming and caches."""

import asyncio
import threading

import pytest

import dpr_lance
from dpr_lance import EncoderError, HashEncoder, InvalidInputError
from dpr_lance.search.searcher import questions_at_once
from dpr_lance.table.index_policy import IndexPolicy
from tests.search.encoders import BrokenEncoder
from tests.tables import WORDS, random_documents


def test_a_batch_of_many_hits_is_searched_in_smaller_parts():
    asked = [IndexPolicy().candidates(k, "hybrid") for k in (1, 10, 100, 1000, 10**9)]
    assert [questions_at_once(candidates) for candidates in asked] == [64, 64, 64, 6, 1]


def test_a_batch_equals_single_questions(filled):
    questions = ["river in the Alps", "GNU zip", "the of and", "mountain", "?!"] * 30
    for mode in ("hybrid", "dense", "bm25"):
        batch = filled.search(questions, 3, mode=mode)
        assert len(batch) == 150
        for question, hits in [*list(zip(questions, batch, strict=True))[:5], (questions[-1], batch[-1])]:
            assert hits.question == question
            assert hits.hits == filled.search(question, 3, mode=mode).hits
    assert filled.search([]) == []
    assert len(filled.search(["river"])) == 1


def test_an_async_search_lets_the_loop_go_on(tmp_path):
    """While a search waits in the encoder, the event loop runs the very thing it waits for."""
    asked, told = threading.Event(), threading.Event()

    class WaitingEncoder(HashEncoder):
        def encode_questions(self, questions):
            asked.set()
            assert told.wait(20)
            return super().encode_questions(questions)

    async def together(retriever):
        search = asyncio.create_task(retriever.search_async("river", 1, explain=True))
        while not asked.is_set():
            await asyncio.sleep(0.001)
        told.set()
        first = await search
        # More at once than there are threads for legs.
        return first, await asyncio.gather(*(retriever.search_async(word, 2, mode="hybrid") for word in WORDS * 4))

    with dpr_lance.connect(tmp_path / "t", encoder=WaitingEncoder(dimension=32)) as retriever:
        retriever.add(random_documents(0, 50), splitter=None)
        first, found = asyncio.run(together(retriever))
        assert first.hits == retriever.search("river", 1, explain=True).hits
        assert [hits.hits for hits in found] == [retriever.search(word, 2).hits for word in WORDS * 4]


def test_an_async_search_raises_what_search_does(filled):
    with pytest.raises(InvalidInputError, match="blank"):
        asyncio.run(filled.search_async(" "))


def test_warming_loads_the_encoder(tmp_path):
    loads = []

    class CountingEncoder(HashEncoder):
        def encode_questions(self, questions):
            loads.append(len(questions))
            return super().encode_questions(questions)

    with dpr_lance.connect(tmp_path / "t", encoder=CountingEncoder(dimension=32)) as retriever:
        retriever.warm()  # before there is a table, too
        assert loads == [1]
        assert len(retriever) == 0
    with (
        dpr_lance.connect(tmp_path / "t", encoder=BrokenEncoder(dimension=32)) as broken,
        pytest.raises(EncoderError, match="weights are not here"),
    ):
        broken.warm()


def items_cached(retriever):
    # LanceDB's cache is the retriever's own: another one on the same folder has another.
    return retriever._store._opening.session.approx_num_items


def test_warming_reads_the_indexes_that_fit_in_the_cache(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add(random_documents(0, 600), splitter=None)
        retriever.optimize(filter_columns=[])
    cached = {}
    for name, cache_bytes in (("roomy", 1 << 20), ("tight", 10_000)):
        with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32), cache_bytes=cache_bytes) as opened:
            opened.warm()
            before = items_cached(opened)
            for word in WORDS:
                opened.search(word, mode="bm25")
            cached[name] = items_cached(opened) - before
    assert cached["roomy"] == 0  # of BM25's words there is none that it has not read
    assert cached["tight"] > 0


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_a_small_cache_changes_no_hit(filled, folder, cache_bytes):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=64), cache_bytes=cache_bytes) as small:
        assert small.search("river in the Alps").hits == filled.search("river in the Alps").hits


@pytest.mark.parametrize("cache_bytes", [-1, 0.5, True, "1 GB"])
def test_a_cache_size_that_is_none(folder, cache_bytes):
    with pytest.raises(InvalidInputError, match=f"cache_bytes={cache_bytes!r}: give a number of bytes"):
        dpr_lance.connect(folder, cache_bytes=cache_bytes)
