"""Adding documents: idempotent, replaced as a whole, text first, any source, and clear about what it cannot take."""

import datetime
import multiprocessing
import threading

import lancedb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dpr_lance
from dpr_lance import Document, EncoderError, HashEncoder, InvalidInputError, WordSplitter
from dpr_lance.ingest.ingestion import BATCH_CHARACTERS
from dpr_lance.records.reports import Skipped


class CountingEncoder(HashEncoder):
    """Counts the passages it is given."""

    def __init__(self):
        super().__init__(dimension=64)
        self.passages = []

    def encode_passages(self, passages):
        self.passages += passages
        return super().encode_passages(passages)


@pytest.fixture
def encoder():
    return CountingEncoder()


def words(count, start=0):
    return " ".join(f"w{number}" for number in range(start, start + count))


def visible(text):
    return any(character.isprintable() and not character.isspace() for character in text)


def contents(retriever):
    return {passage.id: (passage.title, passage.text) for passage in retriever.passages()}


def test_the_report_accounts_for_every_document(retriever, documents):
    report = retriever.add([*documents, {"id": "long", "text": words(250)}])
    assert (report.documents_read, report.documents_added) == (5, 5)
    assert (report.passages_added, report.passages_embedded, report.passages_removed) == (7, 7, 0)
    assert report.seconds > 0
    assert len(retriever) == 7


def test_adding_again_does_nothing(retriever, documents, encoder):
    retriever.add(documents)
    before = retriever.info().versions
    encoder.passages.clear()
    report = retriever.add(documents)
    assert (report.documents_unchanged, report.documents_read, report.passages_embedded) == (4, 4, 0)
    assert encoder.passages == []
    assert retriever.info().versions == before


def test_changed_documents_are_replaced_as_a_whole(retriever):
    retriever.add([{"id": "a", "text": words(250)}, {"id": "b", "text": "stays"}])
    report = retriever.add([{"id": "a", "text": words(120, start=1000)}])
    assert (report.documents_replaced, report.passages_removed, report.passages_added) == (1, 3, 2)
    assert set(contents(retriever)) == {"a#0", "a#1", "b#0"}
    assert retriever.get("a")[0].text.startswith("w1000 ")


def test_unchanged_passages_of_a_changed_document_keep_their_vectors(retriever, encoder):
    retriever.add([{"id": "a", "text": words(250)}])
    encoder.passages.clear()
    report = retriever.add([{"id": "a", "text": words(250) + " more"}])
    assert report.passages_embedded == 1
    assert len(encoder.passages) == 1
    assert retriever.info().embedded == 3


def test_changed_metadata_alone_does_not_embed_again(retriever, encoder):
    retriever.add([{"id": "a", "text": "some text", "year": 1}])
    encoder.passages.clear()
    report = retriever.add([{"id": "a", "text": "some text", "year": 2}])
    assert (report.documents_replaced, report.passages_embedded, encoder.passages) == (1, 0, [])
    assert retriever.get("a")[0].metadata == {"year": 2}
    assert retriever.info().embedded == 1


def test_equal_passages_are_embedded_once(retriever, encoder):
    retriever.add([{"id": name, "text": "the same text"} for name in "abc"])
    assert len(encoder.passages) == 1
    assert retriever.info().embedded == 3


def test_of_one_id_in_one_call_the_last_wins(retriever):
    report = retriever.add([{"id": "a", "text": "old"}, {"id": "b", "text": "x"}, {"id": "a", "text": "new"}])
    assert (report.documents_added, report.documents_duplicate, report.documents_read) == (2, 1, 3)
    assert contents(retriever)["a#0"] == ("", "new")


def test_documents_without_id_are_known_by_their_content(retriever):
    report = retriever.add([{"text": "same"}, {"text": "same"}, {"title": "other", "text": "same"}])
    assert (report.documents_added, report.documents_duplicate) == (2, 1)
    assert retriever.add([{"text": "same"}]).documents_unchanged == 1


def test_a_deleted_passage_comes_back_when_its_document_is_added_again(retriever):
    document = {"id": "a", "text": words(250)}
    retriever.add([document])
    assert retriever.delete("a#2") == 1
    assert retriever.add([document]).documents_replaced == 1
    assert len(retriever) == 3


def test_offsets_lead_back_into_the_document(retriever):
    text = f"  {words(130)}\n\n{words(30, start=500)} "
    retriever.add([{"id": "a", "title": "T", "text": text}])
    for position, passage in enumerate(retriever.get("a")):
        assert text[passage.start : passage.end] == passage.text
        assert (passage.position, passage.title, passage.document_id) == (position, "T", "a")


def test_the_table_keeps_its_splitter(retriever, folder, encoder):
    retriever.add([{"id": "a", "text": words(30)}], splitter=WordSplitter(10))
    with dpr_lance.connect(folder, encoder=encoder) as again:
        again.add([{"id": "b", "text": words(30)}])
        assert len(again) == 6
        assert again.info().splitter == "words:10"
        assert again.add([{"id": "b", "text": words(30)}], splitter=None).documents_replaced == 1
        assert len(again) == 4


def test_text_first_vectors_later(retriever, documents, encoder):
    assert retriever.add(documents, embed=False).passages_embedded == 0
    assert encoder.passages == []
    assert retriever.info().embedded == 0
    assert retriever.search("glacier river", mode="bm25")[0].document_id == "rhine"
    assert retriever.embed().passages_embedded == 4
    assert retriever.info().embedded == 4


def test_adding_again_with_vectors_finishes_what_text_first_left(retriever, documents):
    retriever.add(documents[:2], embed=False)
    report = retriever.add(documents)
    assert (report.documents_unchanged, report.documents_added, report.passages_embedded) == (2, 2, 4)
    assert retriever.info().embedded == len(retriever) == 4


def ten_in_a_batch(count):
    """Documents of so many characters, most of them blanks, that ten are a batch."""
    return [{"id": f"d{number}", "text": f"text {number}".ljust(BATCH_CHARACTERS // 10)} for number in range(count)]


def test_a_failing_encoder_keeps_the_batches_before_it(folder):
    class Failing(CountingEncoder):
        def encode_passages(self, passages):
            if len(self.passages) >= 20:
                raise EncoderError("out of order")
            return super().encode_passages(passages)

    documents = ten_in_a_batch(50)
    with dpr_lance.connect(folder, encoder=Failing()) as retriever:
        with pytest.raises(EncoderError, match="out of order"):
            retriever.add(documents)
        assert len(retriever) == 20
    with dpr_lance.connect(folder, encoder=CountingEncoder()) as retriever:
        report = retriever.add(documents)
        assert (report.documents_unchanged, report.documents_added, report.passages_embedded) == (20, 30, 30)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((1, 3), "f"), r"shape \(1, 3\) for 1 texts; its card says dimension 64"),
        (np.full((1, 64), np.nan, "f"), "NaN or infinity for text 0 of 1"),
    ],
)
def test_an_encoder_that_lies_is_caught(retriever, encoder, monkeypatch, answer, message):
    monkeypatch.setattr(CountingEncoder, "encode_passages", lambda *_: answer)
    with pytest.raises(EncoderError, match=message):
        retriever.add([{"text": "x"}])
    assert len(retriever) == 0


def test_progress_is_told_as_it_goes(retriever):
    seen = []
    retriever.add([{"id": f"d{n}", "text": words(3, n)} for n in range(300)], progress=seen.append)
    assert [step.passages for step in seen] == sorted(step.passages for step in seen)
    assert len(seen) >= 3
    assert (seen[-1].documents, seen[-1].passages, seen[-1].documents_total) == (300, 300, 300)


# Sources


def sources():
    rows = [
        {"id": "a", "title": "T", "text": "first", "year": 1},
        {"id": "b", "title": None, "text": "second", "year": 2},
    ]
    table = pa.Table.from_pylist(rows)
    return {
        "mappings": rows,
        "generator": (row for row in rows),
        "documents": [Document("first", "T", "a", {"year": 1}), Document("second", id="b", metadata={"year": 2})],
        "table": table,
        "batch": table.to_batches()[0],
        "reader": pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
        "pandas": pd.DataFrame(rows),
        "pandas with an index": pd.DataFrame(rows, index=["x", "y"]),
        "polars": pl.DataFrame(rows),
        "dictionary": table.set_column(1, "title", table["title"].dictionary_encode()),
    }


@pytest.mark.parametrize("name", sources())
def test_every_source_of_documents(retriever, name):
    report = retriever.add(sources()[name])
    assert report.documents_added == 2
    assert contents(retriever) == {"a#0": ("T", "first"), "b#0": ("", "second")}
    assert [passage.metadata for passage in retriever.get(["a", "b"])] == [{"year": 1}, {"year": 2}]


def test_arrow_types_of_metadata_are_kept(retriever):
    schema = pa.schema(
        [("text", pa.string()), ("n", pa.int16()), ("tags", pa.list_(pa.string())), ("day", pa.date32())]
    )
    day = datetime.date(2026, 1, 2)
    retriever.add(pa.Table.from_pylist([{"text": "x", "n": 3, "tags": ["a"], "day": day}], schema=schema))
    assert retriever.info().metadata == {"n": "int16", "tags": "list<item: string>", "day": "date32[day]"}
    assert next(retriever.passages()).metadata == {"n": 3, "tags": ["a"], "day": day}


def test_new_metadata_fields_become_columns(retriever):
    retriever.add([{"id": "a", "text": "x"}])
    retriever.add([{"id": "b", "text": "y", "lang": "en", "unknown yet": None, "empty": []}])
    retriever.add([{"id": "c", "text": "z", "empty": ["now known"]}])
    found = {passage.document_id: dict(passage.metadata) for passage in retriever.passages()}
    assert found == {
        "a": {"lang": None, "empty": None},
        "b": {"lang": "en", "empty": []},
        "c": {"lang": None, "empty": ["now known"]},
    }
    assert retriever.search("y", where="lang = 'en'")[0].id == "b#0"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1), st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=5))
def test_any_text_comes_back(encoder, documents):
    with dpr_lance.connect("memory://", encoder=encoder) as retriever:
        given_documents = [
            {"id": name, "title": title, "text": text, "note": note} for name, (title, text, note) in documents.items()
        ]
        report = retriever.add(given_documents, splitter=None, on_error="skip")
        kept = [fields for fields in given_documents if fields["id"].strip() and visible(fields["text"])]
        assert report.documents_added == len(kept)
        stored = {(p.document_id, p.title, p.text, p.metadata["note"]) for p in retriever.passages()}
        assert stored == {(d["id"], d["title"], d["text"], d["note"]) for d in kept}
        for document in kept:
            assert retriever.get(document["id"])[0].text == document["text"]
            assert retriever.delete([document["id"]]) == 1
        assert len(retriever) == 0


# Bad input


def test_an_empty_iterable_stores_nothing(retriever, folder):
    report = retriever.add([])
    assert (report.documents_read, len(retriever)) == (0, 0)
    assert not list(folder.glob("*.lance"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"id": "x", "text": "  \n"}, r"documents\[1\] \(id 'x'\): 'text' is blank"),
        ({"id": "x", "text": "\u200b\0"}, r"documents\[1\] \(id 'x'\): 'text' is blank"),
        ({"id": "x", "title": "T"}, r"documents\[1\] \(id 'x'\): 'text' is missing; the fields are \['id', 'title'\]"),
        ({"text": None}, r"documents\[1\]: 'text' is empty \(None\); give the document a text"),
        ({"text": "x", "title": 7}, r"documents\[1\]: title must be a string, it is int \(7\)"),
        ({"text": ["x"]}, r"documents\[1\]: text must be a string, it is list"),
        ({"text": b"x"}, r"documents\[1\]: text must be a string, it is bytes"),
        ({"text": "x", "id": 1.5}, r"documents\[1\]: id must be a string, it is float"),
        ({"text": "x", "id": True}, r"documents\[1\]: id must be a string, it is bool"),
        ({"text": "x", "id": " "}, r"documents\[1\] \(id ' '\): 'id' is blank"),
        ({"text": "a\ud800b"}, r"documents\[1\]: text has a lone surrogate \('\\ud800'\) at character 1"),
        ({"text": "x", "title": "\udfff"}, r"documents\[1\]: title has a lone surrogate"),
        ({"text": "x", "id": "\udfff"}, r"documents\[1\]: id has a lone surrogate"),
        ({"text": "x", "vector": [1.0]}, r"documents\[1\]: the field 'vector' has the name of a column"),
        ({"text": "x", "a.b": 1}, r"documents\[1\]: the field name 'a.b' cannot be a column"),
        ({"text": "x", 5: 1}, r"documents\[1\]: field names must be strings, 5 is not"),
        ("just text", r"documents\[1\]: a document is a mapping with 'text', or a Document, not str"),
        (None, r"documents\[1\]: a document is a mapping"),
        (Document(" "), r"documents\[1\]: 'text' is blank"),
        ({"text": "x", "year": "not a year"}, r"document '[0-9a-f]{32}': the metadata field 'year' is 'not a year'"),
        ({"text": "x", "thing": object()}, r"documents\[1\]: the field 'thing' cannot be stored: <object object"),
        ({"text": "x", "year": "\ud800"}, r"documents\[1\]: the field 'year' cannot be stored"),
        ({"text": "x", "new": ["\ud800"]}, r"documents\[1\]: the field 'new' cannot be stored"),
        ({"text": "x", "new": 2**70}, r"documents\[1\]: the field 'new' cannot be stored"),
        ({"text": "x", "year": True}, r"the metadata field 'year' is True, the table holds int64 there"),
    ],
)
def test_a_document_that_cannot_be_stored(retriever, document, message):
    retriever.add([{"id": "kept", "text": "already stored", "year": 2001}])
    with pytest.raises(InvalidInputError, match=message):
        retriever.add([{"id": "good", "text": "fine"}, document])
    assert set(contents(retriever)) == {"kept#0"}
    report = retriever.add([{"id": "good", "text": "fine"}, document], on_error="skip")
    assert (report.documents_added, report.documents_skipped, report.documents_read) == (1, 1, 2)
    assert len(report.skipped) == 1
    assert set(contents(retriever)) == {"kept#0", "good#0"}


def test_readers_may_hand_over_what_they_skipped(retriever):
    report = retriever.add([Skipped("file.jsonl:3", "not JSON"), {"text": "x"}], on_error="skip")
    assert report.skipped == (Skipped("file.jsonl:3", "not JSON"),)
    assert report.documents_added == 1


@pytest.mark.parametrize("documents", ["one text", {"text": "x"}, Document("x"), b"bytes", 7, None])
def test_what_is_not_an_iterable_of_documents(retriever, documents):
    with pytest.raises(InvalidInputError, match=r"add\(\) takes an iterable of documents"):
        retriever.add(documents)


def test_an_unknown_on_error(retriever):
    with pytest.raises(InvalidInputError, match="on_error='ignore' is not one of"):
        retriever.add([], on_error="ignore")


def test_the_batches_before_a_bad_document_stay(retriever):
    documents = ten_in_a_batch(25)
    documents += [documents[-1], {"id": "bad"}]
    with pytest.raises(InvalidInputError, match=r"id 'bad'.*the 20 documents of the batches before are stored"):
        retriever.add(documents)
    assert len(retriever) == 20


def test_a_document_of_two_megabytes(retriever):
    text = " ".join(f"word{number}" for number in range(220_000))
    assert len(text) > 2_000_000
    report = retriever.add([{"id": "big", "text": text}])
    assert report.passages_added == len(retriever) == 2200
    assert retriever.search("word219999", mode="bm25")[0].id == "big#2199"
    assert retriever.add([{"id": "whole", "text": text}], splitter=None).passages_added == 1


def test_nul_characters_and_odd_ids_are_kept(retriever):
    odd = ["o'clock", 'say "hi"', "a\0b", "a#0", "%_\\", "id = 1; --", "🙂", " x "]
    retriever.add([{"id": name, "text": f"text\0of {name}"} for name in odd])
    assert [passage.document_id for passage in retriever.get(odd)] == odd
    for name in odd:
        assert retriever.delete(name) == 1
    assert len(retriever) == 0


def test_an_integer_id_is_its_decimal(retriever):
    retriever.add([{"id": 7, "text": "seven"}])
    assert retriever.get("7")[0].document_id == "7"


# Several at once


def test_threads_share_a_retriever(retriever):
    def work(number):
        retriever.add([{"id": f"d{index}", "text": f"text {index}"} for index in range(number, number + 20)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(contents(retriever)) == sorted(f"d{index}#0" for index in range(50))


def add_range(folder, start):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=64)) as retriever:
        for first in range(start, start + 40, 10):
            retriever.add([{"id": f"d{index}", "text": f"text {index}"} for index in range(first, first + 20)])


def test_processes_that_add_the_same_documents_store_each_once(folder):
    """They also race for creating the table."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_range, args=(str(folder), start)) for start in (0, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    ids = lancedb.connect(folder).open_table("passages").to_arrow()["id"].to_pylist()
    assert sorted(ids) == sorted(f"d{index}#0" for index in range(70))


def test_an_open_reader_sees_what_another_adds(retriever, folder, encoder, documents):
    with dpr_lance.connect(folder, encoder=encoder) as reader:
        assert len(reader) == 0
        retriever.add(documents)
        for mode in ("hybrid", "dense", "bm25"):
            assert reader.search("river in the Alps", mode=mode)[0].document_id == "rhine"
        retriever.add([{"id": "seine", "text": "zephyr"}])
        assert reader.search("zephyr", mode="bm25")[0].document_id == "seine"


def test_the_index_of_a_data_frame_is_kept_on_request(retriever):
    frame = pd.DataFrame({"text": ["a river", "a lake"]}, index=["x", "y"])
    retriever.add(frame, index="id")
    retriever.add(frame.reset_index(drop=True), index="row")
    assert ["x" in retriever, "y" in retriever] == [True, True]
    assert sorted(
        passage.metadata["row"] for passage in retriever.passages() if passage.metadata["row"] is not None
    ) == [0, 1]
    assert "id" not in frame.columns
    levels = frame.set_index("text", append=True)
    for documents, name, why in (
        (frame, "text", "there is a column of this name"),
        (levels, "id", "several levels"),
        ([{"text": "x"}], "id", "documents are list, which has no index"),
        (frame, 1, "the name of a field must be a string"),
    ):
        with pytest.raises(InvalidInputError, match=rf"index.*{why}"):
            retriever.add(documents, index=name)
