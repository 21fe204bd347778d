"""Documents to passages: 100 disjoint words, offsets that lead back, scripts without spaces."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_lance import InvalidInputError, WordSplitter
from dpr_lance.splitter import spans_of, splitter_name, splitter_named


def words_of(text, splitter):
    return [text[span.start : span.end].split() for span in splitter.split(text)]


def test_blocks_of_a_hundred_words():
    text = " ".join(f"w{number}" for number in range(250))
    passages = words_of(text, WordSplitter())
    assert [len(words) for words in passages] == [100, 100, 50]
    assert [word for words in passages for word in words] == text.split()


def test_a_passage_is_a_slice_with_its_inner_space_kept():
    text = "  one \n two\t\tthree  four "
    spans = list(WordSplitter(2).split(text))
    assert [text[span.start : span.end] for span in spans] == ["one \n two", "three  four"]


def test_scripts_without_spaces_count_characters():
    text = "東京は日本の首都です"
    assert [text[span.start : span.end] for span in WordSplitter(4).split(text)] == ["東京は日", "本の首都", "です"]
    mixed = "Tokyo 東京 is big"
    assert [mixed[span.start : span.end] for span in WordSplitter(3).split(mixed)] == ["Tokyo 東京", "is big"]


@given(st.text(), st.integers(1, 7))
def test_every_word_is_in_exactly_one_passage(text, words):
    splitter = WordSplitter(words)
    spans = list(splitter.split(text))
    assert "".join("".join(text[span.start : span.end].split()) for span in spans) == "".join(text.split())
    assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
    assert bool(spans) == bool(text.split())


def test_whole_documents_keep_their_text():
    assert [(span.start, span.end) for span in spans_of("  a b ", None)] == [(0, 6)]


@pytest.mark.parametrize("splitter", [None, WordSplitter(), WordSplitter(7)])
def test_a_table_remembers_its_splitter_by_name(splitter):
    assert splitter_named(splitter_name(splitter)) == splitter


@pytest.mark.parametrize("name", ["sentences:3", "words:", "words:-1", "", "words:0"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidInputError):
        splitter_named(name)


def test_a_passage_has_a_word():
    with pytest.raises(InvalidInputError, match=r"words=0.*at least 1"):
        WordSplitter(0)
