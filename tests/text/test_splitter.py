"""Documents to passages: 100 disjoint words, sentences, Markdown sections; offsets that lead back, nothing lost."""

import itertools
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_lance import InvalidInputError, MarkdownSplitter, SentenceSplitter, WordSplitter
from dpr_lance.text.boundaries import words
from dpr_lance.text.splitter import Span, spans_of, splitter_name, splitter_named

KINDS = [WordSplitter, SentenceSplitter, MarkdownSplitter]

FRAGMENTS = st.sampled_from(["one", "two", "Three.", "Four!", "東京。", "\n\n", "\n# H\n", "\n```\n", "- a", "e.g."])
TEXTS = (
    st.text(st.sampled_from("ab1. !?\n東。「」กั\u0300\u200b(\"')#-`*>|"))
    | st.text()
    | st.lists(FRAGMENTS).map(" ".join)
)
SIZES = st.integers(1, 7).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def passages_of(text, splitter):
    return [text[span.start : span.end] for span in splitter.split(text)]


def test_blocks_of_a_hundred_words():
    text = " ".join(f"w{number}" for number in range(250))
    passages = [passage.split() for passage in passages_of(text, WordSplitter())]
    assert [len(passage) for passage in passages] == [100, 100, 50]
    assert [word for passage in passages for word in passage] == text.split()


def test_a_passage_is_a_slice_with_its_inner_space_kept():
    assert passages_of("  one \n two\t\tthree  four ", WordSplitter(2)) == ["one \n two", "three  four"]


def test_scripts_without_spaces_count_characters():
    assert passages_of("東京は日本の首都です。", WordSplitter(4)) == ["東京は日", "本の首都", "です。"]
    assert passages_of("Tokyo 東京 is big", WordSplitter(3)) == ["Tokyo 東京", "is big"]
    assert passages_of("ภาษาไทย", WordSplitter(2)) == ["ภาษา", "ไทย"]


def test_windows_overlap_and_the_last_one_brings_something_new():
    text = "a b c d e f g"
    assert passages_of(text, WordSplitter(3, 1)) == ["a b c", "c d e", "e f g"]
    assert passages_of(text, WordSplitter(4, 2)) == ["a b c d", "c d e f", "e f g"]
    assert passages_of(text, WordSplitter(7, 6)) == [text]
    assert passages_of("a b", WordSplitter(4, 3)) == ["a b"]


def test_sentences_stay_whole():
    text = "Dr. No came in. He sat. Nobody, e.g. I, said a word. Then he left."
    assert passages_of(text, SentenceSplitter(6)) == [
        "Dr. No came in. He sat.",
        "Nobody, e.g. I, said a word.",
        "Then he left.",
    ]


def test_a_longer_sentence_is_cut_by_words():
    assert passages_of("Short one. Aa bb cc dd ee ff gg. End.", SentenceSplitter(3)) == [
        "Short one.",
        "Aa bb cc",
        "dd ee ff",
        "gg. End.",
    ]


def test_sentences_are_repeated_as_far_as_the_overlap_goes():
    text = "One two. Three four. Five. Six seven."
    assert passages_of(text, SentenceSplitter(4, 2)) == [
        "One two. Three four.",
        "Three four. Five.",
        "Five. Six seven.",
    ]
    assert passages_of(text, SentenceSplitter(4, 1)) == ["One two. Three four.", "Five. Six seven."]
    assert passages_of("One two three. Four five.", SentenceSplitter(4, 3)) == ["One two three.", "Four five."]


MARKDOWN = """---
title: ignored
---
# Guide

The first paragraph.

The second one. It has two sentences.

## Install

### Linux

Run this:

```sh
# no heading
apt install x
```
"""


def test_markdown_sections_become_titles():
    spans = list(MarkdownSplitter(8).split(MARKDOWN))
    assert [(span.headings, MARKDOWN[span.start : span.end]) for span in spans] == [
        (("Guide",), "The first paragraph."),
        (("Guide",), "The second one. It has two sentences."),
        (("Guide", "Install", "Linux"), "Run this:"),
        (("Guide", "Install", "Linux"), "```sh\n# no heading\napt install x\n```"),
    ]
    assert [span.titled("Handbook") for span in spans][2] == "Handbook › Guide › Install › Linux"


def test_a_long_paragraph_is_cut_by_sentences_and_code_by_lines():
    assert passages_of(MARKDOWN, MarkdownSplitter(6)) == [
        "The first paragraph.\n\nThe second one.",
        "It has two sentences.",
        "Run this:\n\n```sh\n# no heading",
        "apt install x\n```",
    ]


def test_a_heading_that_repeats_the_title_is_named_once():
    assert Span(0, 1, ("Guide", "Install")).titled("guide ") == "guide  › Install"
    assert Span(0, 1, ("Guide",)).titled("GUIDE") == "GUIDE"
    assert Span(0, 1, ("Guide", "Install")).titled("") == "Guide › Install"
    assert Span(0, 1).titled("Title") == "Title"


@pytest.mark.parametrize("kind", KINDS[:2])
@given(TEXTS, SIZES)
def test_everything_visible_is_in_a_passage(kind, text, sizes):
    spans = list(kind(*sizes).split(text))
    found = list(words(text))
    visible = {p for start, end in found for p in range(start, end) if unicodedata.category(text[p])[0] in "LNPS"}
    assert visible <= {place for span in spans for place in range(span.start, span.end)}
    assert bool(spans) == bool(found)


@pytest.mark.parametrize("kind", KINDS)
@given(TEXTS, SIZES)
def test_passages_are_ordered_bounded_and_never_blank(kind, text, sizes):
    size, overlap = sizes
    spans = list(kind(size, overlap).split(text))
    for span in spans:
        passage = text[span.start : span.end]
        assert passage == passage.strip() != ""
        assert 1 <= len(list(words(passage))) <= size
    for left, right in itertools.pairwise(spans):
        assert left.start < right.start
        assert left.end < right.end
        assert len(list(words(text[right.start : max(left.end, right.start)]))) <= overlap
        if overlap == 0:
            assert left.end <= right.start


@given(st.lists(st.sampled_from(["one.", "two", "three!", "\n\n", "# h", "東京。"])), st.integers(1, 6))
def test_disjoint_passages_are_as_few_as_they_can_be(fragments, size):
    """No two neighbours could have been one, as far as words and sentences go."""
    text = " ".join(fragments)
    for kind in (WordSplitter, SentenceSplitter):
        for left, right in itertools.pairwise(kind(size).split(text)):
            first = next(iter(kind(size).split(text[right.start : right.end])))
            assert len(list(words(text[left.start : right.start + first.end]))) > size


def test_whole_documents_keep_their_text():
    assert spans_of("  a b ", None) == [Span(0, 6)]


@pytest.mark.parametrize("splitter", [*(kind() for kind in KINDS), None])
def test_a_document_has_at_least_one_passage(splitter):
    assert spans_of("\u200b\n", splitter) == [Span(0, 2)]
    assert spans_of("---\ntitle: x\n---\n", splitter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(), (7,), (100, 0), (100, 20)])
def test_a_table_remembers_its_splitter_by_name(kind, sizes):
    splitter = kind(*sizes)
    assert splitter_named(splitter_name(splitter)) == splitter


def test_names_stay_as_tables_have_them():
    assert splitter_name(None) == "whole"
    assert splitter_named("whole") is None
    assert splitter_name(WordSplitter()) == "words:100"
    assert splitter_name(SentenceSplitter(80, 20)) == "sentences:80:20"
    assert splitter_name(MarkdownSplitter()) == "markdown:100"


@pytest.mark.parametrize(
    "name",
    ["lines:3", "words", "words:", "words:-1", "", "words:0", "words:5:0", "words:5:5", "words:1:2:3", "words:٣"],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidInputError):
        splitter_named(name)


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"'lines:3' is not known here.*'sentences:N'.*splitter="):
        splitter_named("lines:3")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, -1, 1.5, "3", True, None])
def test_a_passage_has_a_word(kind, count):
    with pytest.raises(InvalidInputError, match=rf"{kind.__name__}: words={re.escape(repr(count))}: .*1 or more"):
        kind(count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("overlap", [-1, 3, 4, 0.5, False, None])
def test_an_overlap_is_less_than_the_passage(kind, overlap):
    with pytest.raises(InvalidInputError, match=rf"overlap={re.escape(repr(overlap))}.*from 0 to 2"):
        kind(3, overlap)


class LineSplitter:
    """A user's own."""

    name = "lines"

    def __init__(self, *extra):
        self.extra = extra

    def split(self, text):
        yield from (Span(*match.span()) for match in re.finditer(r"[^\n]+", text))
        yield from self.extra


def test_a_splitter_of_ones_own():
    assert spans_of("one\ntwo", LineSplitter()) == [Span(0, 3), Span(4, 7)]
    assert splitter_name(LineSplitter()) == "lines"


@pytest.mark.parametrize("span", [Span(0, 8), Span(-1, 2), Span(2, 2), Span(3, 1), Span(3, 4)])
def test_spans_that_are_no_text_are_refused(span):
    with pytest.raises(InvalidInputError, match=rf"'lines' gave {re.escape(repr(span))}"):
        spans_of("one two", LineSplitter(span))


@pytest.mark.parametrize("splitter", ["words:100", 100, WordSplitter, object(), str.split])
def test_what_is_no_splitter_is_refused(splitter):
    with pytest.raises(InvalidInputError, match="is not a splitter"):
        splitter_name(splitter)


def test_tables_hold_the_titles_and_places_of_a_splitter(retriever):
    retriever.add([{"id": "g", "title": "Guide", "text": MARKDOWN}], splitter=MarkdownSplitter(8))
    passages = retriever.get("g")
    assert [passage.title for passage in passages] == ["Guide", "Guide", *["Guide › Install › Linux"] * 2]
    assert all(MARKDOWN[passage.start : passage.end] == passage.text for passage in passages)
    assert retriever.search("linux", mode="bm25").hits[0].title == "Guide › Install › Linux"
    assert retriever.info().splitter == "markdown:8"
    assert retriever.add([{"id": "g", "title": "Guide", "text": MARKDOWN}]).documents_unchanged == 1
    again = retriever.add([{"id": "g", "title": "Guide", "text": MARKDOWN}], splitter=SentenceSplitter())
    assert (again.documents_replaced, again.passages_removed, again.passages_added) == (1, 4, 1)


def test_a_table_made_with_ones_own_splitter_asks_for_it(retriever):
    retriever.add([{"id": "a", "text": "one\ntwo"}], splitter=LineSplitter())
    assert [passage.text for passage in retriever.get("a")] == ["one", "two"]
    with pytest.raises(InvalidInputError, match=r"'lines' is not known here.*pass it"):
        retriever.add([{"id": "b", "text": "one"}])
    assert retriever.add([{"id": "a", "text": "one\ntwo"}], splitter=LineSplitter()).documents_unchanged == 1


@pytest.mark.parametrize("stored", [False, True])
def test_adding_with_what_is_no_splitter_stores_nothing(retriever, stored):
    if stored:
        retriever.add([{"id": "a", "text": "one two"}])
    with pytest.raises(InvalidInputError, match="splitter='words' is not a splitter"):
        retriever.add([{"id": "b", "text": "one two"}], splitter="words")
    assert len(retriever) == stored


class CountingSplitter(LineSplitter):
    """Counts how often it is asked."""

    calls = 0

    def split(self, text):
        self.calls += 1
        yield from super().split(text)


def test_an_unchanged_document_is_not_split_again_unless_a_passage_is_missing(retriever):
    splitter, documents = CountingSplitter(), [{"id": "a", "text": "one\ntwo\nthree"}]
    retriever.add(documents, splitter=splitter)
    assert splitter.calls == 1
    assert retriever.add(documents, splitter=splitter).documents_unchanged == 1
    assert splitter.calls == 1
    retriever.delete("a#2")
    assert retriever.add(documents, splitter=splitter).documents_replaced == 1
    assert splitter.calls == 2
    assert [passage.text for passage in retriever.get("a")] == ["one", "two", "three"]
