"""Asynchronous writes: their order, what a cancelled one leaves, and that the event loop goes on meanwhile."""

import asyncio
import threading

import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, TableError


class HeldEncoder(HashEncoder):
    """Waits at each call until it may go on."""

    def __init__(self):
        super().__init__(dimension=16)
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def encode_passages(self, passages):
        self.reached.set()
        assert self.may_go_on.wait(30)
        return super().encode_passages(passages)


@pytest.fixture
def held(tmp_path):
    encoder = HeldEncoder()
    with dpr_lance.connect(tmp_path / "t", encoder=encoder) as retriever:
        yield retriever, encoder
        encoder.may_go_on.set()


async def reached(encoder):
    await asyncio.to_thread(encoder.reached.wait, 30)


def test_what_the_asynchronous_calls_do_and_return(retriever, documents):
    async def work():
        report = await retriever.add_async(documents, splitter=None)
        return report, await retriever.delete_async("alps"), await retriever.delete_async(where="year = 2010")

    report, first, second = asyncio.run(work())
    assert (report.documents_added, report.passages_embedded, first, second, len(retriever)) == (4, 4, 1, 1, 2)


def test_writes_run_in_the_order_of_the_calls(retriever):
    async def work():
        calls = []
        for number in range(4):
            calls += [retriever.add_async([{"id": "a", "text": f"text {number}"}]), retriever.delete_async("a")]
        await asyncio.gather(*calls, retriever.add_async([{"id": "a", "text": "the last text"}]))

    asyncio.run(work())
    assert [passage.text for passage in retriever.passages()] == ["the last text"]


def test_the_event_loop_and_searches_go_on_during_a_write(held):
    retriever, encoder = held

    async def work():
        writing = asyncio.create_task(retriever.add_async([{"id": "a", "text": "a river"}]))
        await reached(encoder)
        found = await retriever.search_async("river", mode="bm25")
        assert (len(found), writing.done()) == (0, False)
        encoder.may_go_on.set()
        await writing
        return await retriever.search_async("river", mode="bm25")

    assert len(asyncio.run(work())) == 1


def test_a_cancelled_write_ends_before_the_error_and_writes_no_further_batch(held):
    retriever, encoder = held
    documents = [{"id": f"{number:04}", "text": f"river {number}"} for number in range(2_500)]

    async def work():
        writing = asyncio.create_task(retriever.add_async(documents))
        waiting = asyncio.create_task(retriever.add_async([{"id": "never", "text": "never"}]))
        await reached(encoder)
        writing.cancel()
        waiting.cancel()
        encoder.may_go_on.set()
        for task in (writing, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        stored = len(retriever)
        await retriever.add_async([{"id": "later", "text": "later"}])
        return stored

    assert asyncio.run(work()) == 0
    assert [document.id for document in retriever.documents()] == ["later"]


def test_errors_reach_the_caller_and_the_next_write_is_not_affected(retriever):
    async def work():
        failing = retriever.add_async([{"id": "a", "text": ""}])
        return await asyncio.gather(failing, retriever.add_async([{"id": "b", "text": "b"}]), return_exceptions=True)

    error, report = asyncio.run(work())
    assert isinstance(error, InvalidInputError)
    assert (report.documents_added, "b" in retriever) == (1, True)


def test_closing_ends_the_write_at_work_and_starts_no_other(held):
    retriever, encoder = held

    async def work():
        writing = asyncio.create_task(retriever.add_async([{"id": "a", "text": "a river"}]))
        waiting = asyncio.create_task(retriever.add_async([{"id": "b", "text": "a lake"}]))
        await reached(encoder)
        closing = asyncio.create_task(asyncio.to_thread(retriever.close))
        await asyncio.sleep(0)
        encoder.may_go_on.set()
        await closing
        done = await asyncio.gather(writing, waiting, return_exceptions=True)
        with pytest.raises(TableError, match="closed"):
            await retriever.delete_async("a")
        return done

    first, second = asyncio.run(work())
    assert isinstance(first, (dpr_lance.AddReport, TableError))
    assert isinstance(second, (asyncio.CancelledError, TableError))
