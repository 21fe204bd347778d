"""The text of hits for a generator: merged, deduplicated, numbered and within a budget; real tables and splitters."""

import copy
import pickle
import re

import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, MarkdownSplitter, SentenceSplitter, TableError, WordSplitter

SENTENCE = "The {0} of part {1} is {0}{1} and the story goes on for a few words more."


def long_text(words, blank="  "):
    return blank.join(SENTENCE.format(word, number) for number, word in enumerate(words))


def words_in(text):
    return len(text.split())


RIVERS = long_text(["river", "bridge", "glacier", "castle", "violin", "engine", "harbour", "lantern"])


@pytest.fixture
def table(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        yield retriever


@pytest.mark.parametrize(
    "splitter",
    [WordSplitter(15), WordSplitter(15, 4), SentenceSplitter(20), SentenceSplitter(40, 20), MarkdownSplitter(20)],
    ids=lambda splitter: splitter.name,
)
@pytest.mark.parametrize("blank", [" ", "\n\n", " \n   "])
def test_neighbours_become_one_exact_piece_of_the_document(table, splitter, blank):
    text = long_text(["river", "bridge", "glacier", "castle", "violin", "engine"], blank)
    table.add([{"id": "d", "title": "Water", "text": text}], splitter=splitter)
    hit = table.search("glacier2", 1)
    context = hit.context(neighbours=2)
    (block,) = context.passages
    positions = [int(name.removeprefix("d#")) for name in block.passage_ids]
    middle = int(hit[0].id.removeprefix("d#"))
    assert positions == [number for number in range(middle - 2, middle + 3) if f"d#{number}" in block.passage_ids]
    assert len(positions) > 2
    assert block.text.split() == text[block.start : block.end].split()
    assert len(block.text) == block.end - block.start
    if blank != " \n   ":
        assert block.text == text[block.start : block.end]
    assert context.text == f"[1] Water\n{block.text}"


def test_hits_that_touch_are_merged_and_those_apart_are_not(table):
    table.add([{"id": "d", "text": RIVERS}], splitter=WordSplitter(16))
    context = table.search("river0 bridge1 lantern7", 3, mode="bm25").context(neighbours=0)
    assert sorted(passage.passage_ids for passage in context.passages) == [("d#0", "d#1"), ("d#7",)]
    for passage in context.passages:
        assert passage.text == RIVERS[passage.start : passage.end]
    (whole,) = table.search("river0 lantern7", 2, mode="bm25").context(neighbours=3).passages
    assert whole.text == RIVERS


def test_blocks_are_numbered_by_their_best_hit_and_found_by_number(table):
    table.add([{"id": "a", "text": "river river river"}, {"id": "b", "text": "a river and a bridge", "title": "B"}])
    hits = table.search("river", 2, mode="bm25")
    context = hits.context()
    assert [passage.document_id for passage in context.passages] == [hit.document_id for hit in hits] == ["a", "b"]
    assert context.text == "[1]\nriver river river\n\n[2] B\na river and a bridge"
    assert context.by_number == {1: context.passages[0], 2: context.passages[1]}
    assert context.question == "river"


def test_a_text_is_there_once(table):
    copies = [{"id": name, "text": "the river rises in the Alps"} for name in "abc"]
    table.add([*copies, {"id": "d", "text": "another river  rises"}])
    context = table.search("river rises", 10).context()
    assert sorted(passage.document_id for passage in context.passages) == ["a", "d"]
    assert context.left_out == ()


def test_markdown_sections_stay_apart(table):
    table.add(
        [{"id": "d", "title": "Guide", "text": "# Rivers\n\nA river flows.\n\n# Bridges\n\nA bridge stands.\n"}],
        splitter=MarkdownSplitter(50),
    )
    context = table.search("river bridge", 2).context()
    assert {passage.title for passage in context.passages} == {"Guide › Rivers", "Guide › Bridges"}


@pytest.mark.parametrize("budget", range(1, 160, 7))
def test_the_budget_takes_whole_passages_hits_first(table, budget):
    table.add([{"id": "d", "title": "T", "text": RIVERS}], splitter=WordSplitter(16))
    hits = table.search("castle3 lantern7", 2, mode="bm25")
    context = hits.context(budget, count=words_in)
    assert context.tokens == words_in(context.text) <= budget
    taken = [name for passage in context.passages for name in passage.passage_ids]
    if budget < words_in(f"[1] T {hits[0].text}"):
        assert taken in ([], [hits[0].id])
        assert all(hits[0].text.startswith(passage.text) for passage in context.passages)
    else:
        assert hits[0].id in taken
        for passage in context.passages:
            assert all(table.get(name)[0].text in passage.text for name in passage.passage_ids)
        assert len(taken) < 2 or set(taken) >= {hit.id for hit in hits}
    assert set(context.left_out) == {hit.id for hit in hits} - set(taken)


def test_a_first_hit_that_is_too_long_ends_with_a_sentence(table):
    table.add([{"id": "d", "text": RIVERS}], splitter=None)
    context = table.search("river", 1).context(55, count=words_in)
    (block,) = context.passages
    assert context.tokens <= 55
    assert RIVERS.startswith(block.text)
    assert block.text.endswith("more.")
    assert block.text.count("more.") == 3
    assert block.end == len(block.text)


def test_the_default_count_is_a_quarter_of_the_bytes(table):
    table.add([{"id": "d", "text": "äöü 河流 river"}])
    context = table.search("river", 1).context()
    assert context.tokens == -(-len(context.text.encode()) // 4)


def test_no_hits_give_an_empty_context(table):
    empty = dpr_lance.Context("river", "", (), 0)
    assert table.search("river").context() == empty
    table.add([{"id": "a", "text": "a castle"}])
    assert table.search("river", where="id = 'none'").context() == empty
    assert table.context_for([]).passages == ()


def test_unpickled_hits_have_no_neighbours(table):
    table.add([{"id": "d", "text": RIVERS}], splitter=WordSplitter(16))
    hits = table.search("castle3", 1)
    for other in (pickle.loads(pickle.dumps(hits)), copy.deepcopy(hits)):
        assert other == hits
        assert other.context(neighbours=0) == hits.context(neighbours=0)
        with pytest.raises(InvalidInputError, match=re.escape("retriever.context_for(hits")):
            other.context()
        assert table.context_for(other) == hits.context()
    assert table.context_for(hits[:1]) == hits.context()
    assert "_around" not in repr(hits)


def test_a_hit_that_was_replaced_keeps_its_text_and_has_no_neighbours(table):
    table.add([{"id": "d", "text": RIVERS}], splitter=WordSplitter(16))
    hits = table.search("castle3", 1)
    table.add([{"id": "d", "text": RIVERS.upper()}], splitter=WordSplitter(16))
    (block,) = hits.context().passages
    assert block.text == hits[0].text
    assert len(table.search("castle3", 1).context().passages[0].passage_ids) == 3


def test_neighbours_need_an_open_table(table):
    table.add([{"id": "d", "text": RIVERS}])
    hits = table.search("castle3", 1)
    table.close()
    with pytest.raises(TableError, match="closed"):
        hits.context()


@pytest.mark.parametrize("wrong", [lambda text: "5", lambda text: -1, lambda text: True, lambda text: None])
def test_a_count_must_be_a_number(table, wrong):
    table.add([{"id": "d", "text": "a river"}])
    with pytest.raises(InvalidInputError, match="count="):
        table.search("river").context(100, count=wrong)


def test_hits_know_their_place_in_the_document(table):
    table.add([{"id": "d", "text": RIVERS}], splitter=WordSplitter(16))
    for hit in table.search("river castle", 5):
        assert RIVERS[hit.start : hit.end] == hit.text
