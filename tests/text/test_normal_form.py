"""One spelling for BM25: the same words are found however they are written; what is stored and shown stays exact."""

import subprocess
import sys
import unicodedata
from itertools import pairwise

import lancedb
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.text.normal_form import content_of, normal_form, normalised, origins
from dpr_lance.text.terms import words

COMPOSED = [
    "résumé",
    "한국어 문서",
    "Tiếng Việt",
    "Ångström",
    "Čeština říká",
    "ガギグゲゴ",
    "ёлка йод",
    "ὀρθογραφία",
    "বাংলা হয়েছে",
    "क़लम ज़मीन",
]
"""As people type it; their decomposed forms are what macOS and many PDFs give."""

SPELLINGS = [
    ("cooperation", "co\u00adoper\u00adation"),
    ("wordjoiner", "word\u2060joiner"),
    ("zerowidth", "zero\ufeffwidth"),
    ("葛城", "葛\U000e0100城"),
    ("Пушкин", "Пу\u0301шкин"),
    ("ọ̀rẹ́", "o\u0323\u0300re\u0323\u0301"),
    ("كتاب", "\ufedb\ufe98\ufe8e\ufe8f"),
    ("人口", "\u2f08\u2f1d"),
    ("デジタル", "\uff83\uff9e\uff7c\uff9e\uff80\uff99"),
    ("\u212bngstrom", "Ångstrom"),
    ("finance", "\ufb01nance"),
    ("full", "\uff46\uff55\uff4c\uff4c"),
    ("সময়", "সময\u09bc"),
]
"""The same word twice."""

PAIRS = [(text, unicodedata.normalize("NFD", text)) for text in COMPOSED] + SPELLINGS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Every spelling as a document, the plain one as "0:N" and the other as "1:N"."""
    with dpr_lance.connect(tmp_path_factory.mktemp("forms") / "t", encoder=HashEncoder(dimension=16)) as retriever:
        retriever.add(
            {"id": f"{side}:{number}", "title": "Plate", "text": f"before {text} after"}
            for number, pair in enumerate(PAIRS)
            for side, text in enumerate(pair)
        )
        retriever.optimize()
        yield retriever


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_both_spellings_find_both(table, number, mode):
    for question in PAIRS[number]:
        found = {hit.document_id: hit for hit in table.search(question, 100, mode=mode) if hit.bm25_score}
        assert {f"0:{number}", f"1:{number}"} <= found.keys()
        assert found[f"0:{number}"].bm25_score == found[f"1:{number}"].bm25_score


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_what_is_stored_and_shown_is_what_was_given(table, number):
    for side, text in enumerate(PAIRS[number]):
        (passage,) = table.get(f"{side}:{number}")
        assert passage.text == f"before {text} after"
        for question in PAIRS[number]:
            hits = table.search(question, 100, mode="bm25", explain=True)
            (hit,) = [hit for hit in hits if hit.document_id == f"{side}:{number}"]
            assert hit.text == passage.text
            shown = " ".join(f"**{word}**" for word in text.split())
            assert hit.snippet() == f"before {shown} after"
            assert sum(word.score for word in hit.explanation.words) == pytest.approx(hit.bm25_score, abs=1e-4)
            assert "".join(word.word for word in hit.explanation.words)
            assert all(word.word in question for word in hit.explanation.words)


def test_only_the_accent_that_is_part_of_a_word_is_marked():
    hit = dpr_lance.Hit(1, "d#0", "d", "", "e\u0301te\u0301-re\u0301sume\u0301, x", 1.0, None, 1.0, question="résumé")
    assert hit.snippet() == "e\u0301te\u0301-**re\u0301sume\u0301**, x"


@pytest.mark.parametrize(
    "text",
    [
        "Windows™ 10",
        "½ cup",
        "x² ① №5",
        "zero\u200bwidth",
        "نمی\u200cخواهم",
        "ไม่น้ำ",
        "co-operate",
        "naïve Straße",
        "हिन्दी",
    ],
)
def test_plain_text_stays_as_it_is(text):
    assert normal_form(text) == text
    assert content_of("", text) == text
    assert content_of(text, text) == f"{text}\n{text}"


MARKED = st.text(
    st.sampled_from("aeé \u0301\u0316\u0344\u0f73\u1100\u1161\u11a8\u0921\u093c\u00ad\u200dﾃﾞﷲﻻ-ё"), max_size=12
)


@given(st.one_of(MARKED, st.text(max_size=60)))
def test_words_are_those_of_the_index_at_their_places(text):
    expected = [token.text for token in lancedb.tokenize(normal_form(text))]
    found = list(words(text))
    assert [term for word in found for term in word.terms] == expected
    assert all(text[word.start : word.end] == word.text for word in found)
    assert all(first.end <= second.start for first, second in pairwise(found))


@given(MARKED)
def test_the_form_is_unicodes(text):
    for form in ("NFC", "NFD"):
        assert normalised(form, text) == unicodedata.normalize(form, text)
        assert normalised(form, text * 200) == unicodedata.normalize(form, text * 200)


@given(MARKED)
def test_places_follow_each_other(text):
    places = origins(text)
    if places is not None:
        assert len(places) == len(normal_form(text))
        assert places == sorted(places)
        for start, end in set(places):
            assert 0 <= start < end <= len(text)


def test_a_letter_with_very_many_marks_does_not_hang():
    code = (
        "from dpr_lance.text.normal_form import normal_form, origins\n"
        "from dpr_lance.text.answers import tokens\n"
        "for text in ('a' + '\\u0301\\u0316' * 100_000, 'a' + '\\u0f73' * 200_000, 'e\\u0301' * 10_000):\n"
        "    normal_form(text), origins(text), tokens(text)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
