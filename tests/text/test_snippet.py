"""Snippets: the window that says most about a question, with the words marked that BM25 matches."""

import html

import lancedb
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.records.hits import Hit
from dpr_lance.text.normal_form import normal_form
from dpr_lance.text.snippet import snippet
from dpr_lance.text.terms import distinct_words, terms, words


def hit(text, question):
    return Hit(1, "d#0", "d", "", text, 1.0, None, 1.0, question=question)


FILLER = "Nothing of note is written down here at all. "


def test_a_hit_of_a_search_has_a_snippet(retriever, documents):
    retriever.add(documents)
    (rhine,) = [hit for hit in retriever.search("Rivers rising in the ALPS?") if hit.document_id == "rhine"]
    assert rhine.snippet() == "The Rhine is a **river** that **rises** in the **Alps**."
    assert (
        rhine.snippet(before="<b>", after="</b>") == "The Rhine is a <b>river</b> that <b>rises</b> in the <b>Alps</b>."
    )
    assert "question" not in repr(rhine)


def test_words_match_as_in_the_index():
    """Case, accents and endings make no difference; stop words and parts of words do not match."""
    found = hit("The cafés of Zürich, THE RUNNER; running shoes and category.", "the zurich café run cat")
    assert found.snippet() == "The **cafés** of **Zürich**, THE RUNNER; **running** shoes and category."


def test_the_window_with_the_most_different_words_wins():
    text = f"A river. {FILLER * 9}River, river, river and again river. {FILLER * 9}A river in the Alps. {FILLER * 9}"
    found = hit(text, "which river is in the alps")
    assert found.snippet(60).startswith("… A **river** in the **Alps**. Nothing")
    assert found.snippet(60).endswith(" …")
    assert len(found.snippet(60, before="", after="").strip("… ")) <= 60


def test_among_equal_windows_one_that_begins_a_sentence_wins():
    text = f"{FILLER * 5}There is a glacier. {FILLER * 5}"
    assert hit(text, "glacier").snippet(50).startswith(("… There is a **glacier**", "… Nothing of note"))


def test_without_a_match_it_is_the_beginning():
    text = "One two three.\n\n  Four   five six. " + FILLER * 20
    assert hit(text, "violin").snippet(30) == "One two three. Four five …"
    assert hit("short", "").snippet() == "short"
    assert hit("", "violin").snippet() == ""


@pytest.mark.parametrize("length", [0, -1, 2.5, True, "9"])
def test_a_length_that_is_none(length):
    with pytest.raises(InvalidInputError, match=f"length={length!r}: give a whole number of characters, 1 or more"):
        hit("text", "text").snippet(length)


@given(text=st.text(max_size=200), question=st.text(max_size=40), length=st.integers(1, 100))
def test_a_snippet_is_a_part_of_the_text(text, question, length):
    pieces = snippet(text, question, length)
    shown = "".join(piece for piece, matches in pieces if not (piece.strip() == "…" and not matches))
    assert "".join(shown.split()) in "".join(text.split())
    assert len(shown) <= length
    for piece, matches in pieces:
        assert not matches or terms(piece) & terms(question)


@given(st.text(max_size=100))
def test_words_have_the_terms_of_the_index(text):
    expected = [token.text for token in lancedb.tokenize(normal_form(text))]
    found = list(words(text))
    assert [term for word in found for term in word.terms] == expected
    assert all(text[word.start : word.end] == word.text for word in found)


def test_words_of_one_stem_are_asked_for_once():
    assert [word.text for word in distinct_words("Rivers, river-alps; ALPS the river")] == ["Rivers", "alps"]


@pytest.mark.parametrize("question", ["rivers river", "river, alps; Alps river-bank", "river RIVER (rivers)"])
def test_a_term_counts_once_however_it_is_written(tmp_path, question):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=16)) as retriever:
        retriever.add([{"id": "a", "text": "a river and its bank"}, {"id": "b", "text": "the Alps"}, {"text": "x"}])
        once = " ".join(dict.fromkeys(term for word in words(question) for term in word.terms))
        for mode in ("bm25", "hybrid"):
            scores = [{hit.id: hit.bm25_score for hit in retriever.search(q, mode=mode)} for q in (question, once)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_text_is_escaped_and_marks_are_not(retriever):
    retriever.add([{"text": "<b>Rivers</b> & <script>alert('rivers')</script>"}])
    shown = retriever.search("river")[0].snippet(before="<mark>", after="</mark>", escape=html.escape)
    assert shown == (
        "&lt;b&gt;<mark>Rivers</mark>&lt;/b&gt; &amp; &lt;script&gt;alert(&#x27;<mark>rivers</mark>&#x27;)"
        "&lt;/script&gt;"
    )
