"""A hit's neighbours, by hit, passage or id, at the ends of a document and when things have gone; ids and documents."""

import lancedb
import numpy as np
import pyarrow.compute as pc
import pytest

import dpr_lance
from dpr_lance import Document, InvalidInputError, MarkdownSplitter, StoredDocument, WordSplitter

TEXT = "alpha one beta two gamma three delta four epsilon five"
"""Five passages of two words."""


@pytest.fixture
def table(retriever):
    retriever.add(
        [
            {"id": "long", "title": "Letters", "text": TEXT, "kind": "list"},
            Document("no id of its own, but eight words"),
        ],
        splitter=WordSplitter(2),
    )
    return retriever


def ids(passages):
    return [passage.id for passage in passages]


@pytest.mark.parametrize("mode", ["hybrid", "bm25", "dense"])
def test_a_hit_comes_with_its_neighbours_in_order(table, mode):
    hit = table.search("gamma three", 1, mode=mode)[0]
    found = table.context(hit)
    assert ids(found) == ["long#1", "long#2", "long#3"]
    assert [passage.text for passage in found] == ["beta two", "gamma three", "delta four"]
    assert TEXT[found[0].start : found[-1].end] == "beta two gamma three delta four"
    assert found[0].metadata["kind"] == "list"
    assert found == table.get(ids(found))


@pytest.mark.parametrize(
    ("position", "before", "after", "expected"),
    [
        (0, 1, 1, [0, 1]),
        (4, 1, 1, [3, 4]),
        (2, 0, 0, [2]),
        (2, 2, 0, [0, 1, 2]),
        (2, 0, 10**400, [2, 3, 4]),
        (2, 10**400, 0, [0, 1, 2]),
        (1, 100, 100, [0, 1, 2, 3, 4]),
    ],
)
def test_as_many_as_there_are(table, position, before, after, expected):
    expected = [f"long#{number}" for number in expected]
    assert ids(table.context(f"long#{position}", before, after)) == expected
    assert ids(table.context(table.get(f"long#{position}")[-1], before=before, after=after))[-1].startswith("long#")


def test_ids_with_the_mark_in_them(table):
    """`long#1` is a passage of one document, and the name of another."""
    table.add([{"id": "long#1", "text": "another document whose id looks like a passage's"}])
    assert ids(table.context("long#1")) == ["long#0", "long#1", "long#2"]
    assert ids(table.context("long#1#0", after=2)) == ["long#1#0", "long#1#1", "long#1#2"]


def test_documents_without_an_id_have_neighbours_too(table):
    hit = table.search("eight words", 1, mode="bm25")[0]
    assert [passage.text for passage in table.context(hit, before=2)] == ["of its", "own, but", "eight words"]


def test_a_document_of_many_passages_and_batches(retriever):
    text = " ".join(f"w{number}" for number in range(6000))
    retriever.add([{"id": "d", "text": text}], splitter=WordSplitter(1), embed=False)
    retriever.add([{"id": "e", "text": text}], splitter=WordSplitter(1), embed=False)
    assert ids(retriever.context("d#5000", 2, 1)) == ["d#4998", "d#4999", "d#5000", "d#5001"]
    assert ids(retriever.context("d#0", 0, 10**9)) == [f"d#{number}" for number in range(6000)]


def test_the_order_is_the_documents_however_it_is_stored(table, folder):
    plain = lancedb.connect(folder).open_table("passages")
    rows = plain.search().limit(None).to_arrow()
    table.delete("long")
    for position in (3, 0, 4, 2, 1):
        plain.add(rows.filter(pc.equal(rows["id"], f"long#{position}")))
    assert ids(table.context("long#2", 2, 2)) == [f"long#{position}" for position in range(5)]


def test_a_deleted_neighbour_is_left_out(table):
    table.delete("long#3")
    assert ids(table.context("long#2", 1, 2)) == ["long#1", "long#2", "long#4"]


def test_a_passage_that_is_gone_has_no_context(table):
    hit = table.search("gamma three", 1)[0]
    table.delete(hit.id)
    assert table.context(hit) == table.context(hit.id) == []
    assert table.context("long#99") == table.context("nothing#0") == table.context("long#9999999999") == []


def test_a_hit_of_text_that_has_changed_has_no_context(table):
    hit = table.search("gamma three", 1)[0]
    table.add([{"id": "long", "title": "Letters", "text": TEXT.replace("gamma", "zeta"), "kind": "list"}])
    assert table.context(hit) == []
    assert [passage.text for passage in table.context(hit.id, 0, 0)] == ["zeta three"]


def test_a_table_that_does_not_exist_yet(folder, encoder):
    with dpr_lance.connect(folder, encoder=encoder) as empty:
        assert empty.context("a#0") == []


@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("value", [-1, 1.0, "1", None, True])
def test_numbers_of_neighbours_are_checked(table, name, value):
    with pytest.raises(InvalidInputError, match=f"{name}={value!r}"):
        table.context("long#1", **{name: value})


@pytest.mark.parametrize("name", ["long", "long#", "long#x", "long#-1", "", "#", "long#٣", "long#" + "9" * 5000])
def test_what_is_no_passages_id(table, name):
    with pytest.raises(InvalidInputError, match="a passage's id is its document's, '#' and a position"):
        table.context(name)


@pytest.mark.parametrize("hit", [None, 3, {"id": "long#1"}, ["long#1"]])
def test_what_is_no_hit(table, hit):
    with pytest.raises(InvalidInputError, match="takes a Hit, a Passage or a passage's id"):
        table.context(hit)


def test_text_that_cannot_be_stored_is_no_id(table):
    with pytest.raises(InvalidInputError, match="surrogate"):
        table.context("\ud800#1")


def test_quotes_in_ids_are_only_text(retriever):
    name = 'it\'s "x" OR 1=1 --'
    retriever.add([{"id": name, "text": "one two three"}, {"id": "b", "text": "four five"}], splitter=WordSplitter(1))
    assert ids(retriever.context(f"{name}#1")) == [f"{name}#{number}" for number in range(3)]
    assert retriever.context(f"{name}#0", 0, 0)[0].text == "one"


def test_whether_an_id_is_stored(retriever, documents):
    assert "alps" not in retriever
    retriever.add([*documents, {"id": 7, "text": "seven"}])
    assert all(name in retriever for name in ("alps", "alps#0", 7, "7", np.int64(7)))
    assert not any(name in retriever for name in ("alp", "alps#1", "' OR true --", "", 8))
    for odd in (None, 1.5, ["alps"], True):
        with pytest.raises(InvalidInputError, match="the id must be a string"):
            odd in retriever  # noqa: B015


def test_documents_with_titles_and_counts(retriever, documents):
    assert list(retriever.documents()) == []
    retriever.add(documents)
    retriever.add([{"id": "long", "title": "Long", "text": "word " * 450}])
    retriever.add(
        [{"id": "guide", "title": "Guide", "text": "# A\n\nOne.\n\n# B\n\nTwo."}], splitter=MarkdownSplitter()
    )
    retriever.delete("long#0")
    found = {document.id: document for document in retriever.documents()}
    assert found["alps"] == StoredDocument("alps", "Alps", 1)
    assert found["long"] == StoredDocument("long", "Long", 4)
    assert found["guide"] == StoredDocument("guide", "Guide › A", 2)
    assert len(found) == 6


def test_documents_are_read_in_batches_while_the_table_changes(retriever):
    retriever.add([{"id": f"{number:04}", "text": "a river"} for number in range(1_200)], embed=False)
    listing = retriever.documents()
    seen = [next(listing).id]
    retriever.delete(["0001", "1100"])
    retriever.add([{"id": "new", "text": "a lake"}], embed=False)
    seen += [document.id for document in listing]
    assert seen == [f"{number:04}" for number in range(1_200) if number != 1_100]
