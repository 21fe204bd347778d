"""Changing the encoder of a table: resumable, searchable throughout, switched in one commit."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import lancedb
import numpy as np
import pyarrow as pa
import pytest

import dpr_lance
from dpr_lance import EncoderError, EncoderMismatchError, HashEncoder, LockedError, TableError
from dpr_lance.encoders.vectors import vectors_of
from dpr_lance.ingest.ingestion import BATCH_CHARACTERS
from dpr_lance.table.store import Store


class Interruptible(HashEncoder):
    """Fails after so many passages, as a power cut would."""

    def __init__(self, dimension, budget):
        super().__init__(dimension=dimension)
        self.budget = budget
        self.encoded = 0

    def encode_passages(self, passages):
        if self.encoded + len(passages) > self.budget:
            raise EncoderError("interrupted")
        self.encoded += len(passages)
        return super().encode_passages(passages)


def numbered(count):
    return [{"id": f"d{number:04}", "text": f"text number {number}", "n": number} for number in range(count)]


def columns(folder):
    table = lancedb.connect(folder).open_table("passages")
    return [name for name in table.schema.names if name.startswith("vector")]


def test_every_passage_gets_a_vector_of_the_new_encoder(retriever, folder, documents):
    retriever.add(documents)
    before = retriever.search("river in the Alps", mode="dense")
    report = retriever.reembed(HashEncoder(dimension=128))
    assert (report.encoder.dimension, report.passages_embedded) == (128, 4)
    info = retriever.info()
    assert (info.encoder, info.embedded, info.passages) == (HashEncoder(dimension=128).card, 4, 4)
    assert columns(folder) == ["vector_2"]
    after = retriever.search("river in the Alps", mode="dense")
    assert after[0].id == before[0].id
    assert after[0].score != before[0].score
    for mode in ("hybrid", "bm25"):
        assert retriever.search("river in the Alps", mode=mode)[0].document_id == "rhine"
    assert retriever.get("rhine")[0].metadata == {"year": 2010, "kind": "river"}


def test_adding_goes_on_under_the_new_encoder(retriever, folder, documents):
    retriever.add(documents[:2])
    retriever.reembed(HashEncoder(dimension=32))
    report = retriever.add(documents)
    assert (report.documents_unchanged, report.documents_added, report.passages_embedded) == (2, 2, 2)
    with pytest.raises(EncoderMismatchError):
        dpr_lance.connect(folder, encoder=HashEncoder(dimension=64)).add([{"text": "x"}])
    assert retriever.reembed(HashEncoder(dimension=64)).passages_embedded == 4
    assert columns(folder) == ["vector_3"]


def test_the_same_encoder_has_nothing_to_do(retriever, documents, encoder):
    retriever.add(documents)
    versions = retriever.info().versions
    assert retriever.reembed(encoder).passages_embedded == 0
    assert retriever.info().versions == versions


def test_interrupted_it_is_continued_and_searches_stay_as_they_were(retriever, folder, encoder, monkeypatch):
    monkeypatch.setattr("dpr_lance.ingest.embedding.BATCH_ROWS", 10)
    monkeypatch.setattr("dpr_lance.ingest.embedding.ENCODE_PASSAGES", 10)
    retriever.add(numbered(50))
    questions = ["number 7", "text 31"]
    before = [retriever.search(question, mode=mode).hits for question in questions for mode in ("dense", "hybrid")]
    with pytest.raises(EncoderError, match="interrupted"):
        retriever.reembed(Interruptible(32, budget=35))
    assert retriever.info().encoder == encoder.card
    assert columns(folder) == ["vector", "vector_2"]
    after = [retriever.search(question, mode=mode).hits for question in questions for mode in ("dense", "hybrid")]
    assert [[hit.id for hit in hits] for hits in after] == [[hit.id for hit in hits] for hits in before]
    retriever.add([{"id": "d0003", "text": "changed meanwhile"}, {"id": "new", "text": "added meanwhile"}])
    retriever.delete("d0004")

    finishing = Interruptible(32, budget=1000)
    with dpr_lance.connect(folder, encoder=encoder) as again:
        again.reembed(finishing)
    # 30 of 50 were done; one of those was changed, one deleted, one is new.
    assert finishing.encoded == 22
    assert columns(folder) == ["vector_2"]
    info = retriever.info()
    assert (info.passages, info.embedded, info.encoder.dimension) == (50, 50, 32)


def test_another_encoder_gives_up_what_was_begun(retriever, folder, monkeypatch):
    monkeypatch.setattr("dpr_lance.ingest.embedding.BATCH_ROWS", 10)
    monkeypatch.setattr("dpr_lance.ingest.embedding.ENCODE_PASSAGES", 10)
    retriever.add(numbered(30))
    with pytest.raises(EncoderError, match="interrupted"):
        retriever.reembed(Interruptible(32, budget=15))
    assert retriever.reembed(HashEncoder(dimension=16)).passages_embedded == 30
    assert columns(folder) == ["vector_3"]


def test_open_retrievers_follow_the_table(tmp_path):
    """A reader that was not given an encoder takes the table's new one; one that was, answers with BM25."""
    place = tmp_path / "t"
    with dpr_lance.connect(place) as writer, dpr_lance.connect(place) as reader:
        writer.add([{"id": "alps", "text": "The Alps are mountains."}, {"id": "zip", "text": "A compressed file."}])
        assert reader.search("high peaks", 1)[0].document_id == "alps"
        writer.reembed(HashEncoder(dimension=16))
        hits = reader.search("mountains")
        assert hits.mode == "bm25"
        assert "pass it again" in hits.fallback
        writer.reembed("all-MiniLM-L6-v2")
        hits = reader.search("high peaks")
        assert (hits.mode, hits[0].document_id) == ("hybrid", "alps")


def test_passages_without_vectors_get_one(retriever, documents):
    retriever.add(documents, embed=False)
    assert retriever.reembed(HashEncoder(dimension=32)).passages_embedded == 4
    assert retriever.info().embedded == 4


def test_progress_is_told(retriever, monkeypatch):
    monkeypatch.setattr("dpr_lance.ingest.embedding.ENCODE_PASSAGES", 10)
    retriever.add(numbered(50))
    seen = []
    retriever.reembed(HashEncoder(dimension=32), progress=seen.append)
    assert [step.passages for step in seen] == [10, 20, 30, 40, 50]
    assert seen[0].passages_total == 50


def test_what_stands_in_the_way_is_told(retriever, documents, folder, tmp_path):
    with pytest.raises(TableError, match="does not exist yet"):
        retriever.reembed(HashEncoder(dimension=32))
    retriever.add(documents)
    with pytest.raises(EncoderError, match="nowhere"):
        retriever.reembed(tmp_path / "nowhere")
    lock = Store(folder, "passages").lock(timeout=1, purpose="reembed")
    with lock, pytest.raises(LockedError, match="at work on this table"):
        retriever.reembed(HashEncoder(dimension=32))
    assert len(retriever.search("river")) == 4


def test_adding_embedding_and_searching_go_on_while_the_encoder_changes(folder):
    """Three threads of one retriever, while it is re-embedded again and again: no error, nothing lost or mixed."""
    encoders = [HashEncoder(dimension) for dimension in (16, 24, 32, 40)]
    with dpr_lance.connect(folder, encoder=encoders[0]) as retriever:
        retriever.add([{"id": f"first{number}", "text": f"river number {number}"} for number in range(30)])
        over = threading.Event()
        added: list[str] = []

        def add():
            while not over.is_set():
                names = [f"d{len(added) + number}" for number in range(12)]
                # Blanks make three batches of them.
                retriever.add([{"id": name, "text": f"bridge {name}".ljust(BATCH_CHARACTERS // 5)} for name in names])
                added.extend(names)

        def embed():
            while not over.is_set():
                retriever.add([{"id": "late", "text": f"castle {time.monotonic()}"}], embed=False)
                retriever.embed()

        def search():
            while not over.is_set():
                for mode in ("dense", "hybrid"):
                    hits = retriever.search(["river number 7", "river number 8"], 3, mode=mode)
                    assert [found.fallback for found in hits] == [None, None]
                    assert [found[0].id for found in hits] == ["first7#0", "first8#0"]

        with ThreadPoolExecutor(3) as threads:
            working = [threads.submit(work) for work in (add, embed, search)]
            try:
                for encoder in encoders[1:]:
                    retriever.reembed(encoder)
            finally:
                over.set()
            for each in working:
                each.result()
        retriever.embed()
        info = retriever.info()
        assert (info.encoder, info.embedded, info.documents) == (encoders[-1].card, info.passages, 31 + len(added))
        assert columns(folder) == ["vector_4"]
        rows = lancedb.connect(folder).open_table("passages").to_arrow()
        texts = [("", text) for text in rows["text"].to_pylist()]
        np.testing.assert_array_equal(vectors_of(rows["vector_4"]), encoders[-1].encode_passages(texts))


class Switching(HashEncoder):
    """Has the table re-embedded while it encodes passages for the first time."""

    def __init__(self, dimension, switch):
        super().__init__(dimension=dimension)
        self.switch = [switch]

    def encode_passages(self, passages):
        if self.switch:
            self.switch.pop()()
        return super().encode_passages(passages)


@pytest.mark.parametrize("call", ["add", "embed"])
def test_vectors_of_an_encoder_that_was_replaced_meanwhile_are_refused(folder, call):
    """Another process's encoder is named, and not the one that is in force by then."""
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as other:
        other.add([{"id": "old", "text": "a river"}])
        other.add([{"id": "bare", "text": "a bridge"}], embed=False)
        encoder = Switching(16, lambda: other.reembed(HashEncoder(32)))
        with dpr_lance.connect(folder, encoder=encoder) as late:
            refused = {"add": lambda: late.add([{"id": "new", "text": "a castle"}]), "embed": late.embed}[call]
            with pytest.raises(EncoderMismatchError, match="holds vectors of encoder 'hash-32'"):
                refused()
        assert other.add([{"id": "new", "text": "a castle"}]).passages_embedded == 1
        info = other.info()
        assert (info.passages, info.embedded) == (3, 3)


def test_a_text_that_changes_while_it_is_re_embedded_gets_its_own_vector(folder):
    """The passage is written with columns that were read before the new one came."""
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "a", "text": "a river"}])
        store = Store(folder, "passages")
        rows = store.table.to_arrow()
        store.add_columns([pa.field("vector_2", pa.list_(pa.float32(), 4))])
        store.table.update(where="id = 'a#0'", values={"vector_2": [1.0, 2.0, 3.0, 4.0]})
        store.replace(rows, ["a"])
        assert store.table.to_arrow()["vector_2"].to_pylist() == [None]


def test_a_column_that_is_dropped_before_the_commit_does_not_stand_in_the_way(folder):
    """The passage is written with the columns of the moment between the switch and the end of the old vectors."""
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "a", "text": "a river"}])
        store = Store(folder, "passages")
        old = store.table.to_arrow()["vector"]
        retriever.reembed(HashEncoder(32))
        rows = store.table.to_arrow().append_column("vector", pa.nulls(1, old.type))
        store.replace(rows, ["a"], store.card)
        assert retriever.info().embedded == 1
