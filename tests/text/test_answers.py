"""Answer matching by the rules of the reference implementation."""

import unicodedata

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from dpr_lance.errors import InvalidInputError
from dpr_lance.text.answers import answer_matcher, answer_spans, tokens

# What the reference implementation's rules say of awkward cases, worked out by hand.
CASES = [
    ("the first Super Bowl", "super bowl", True),
    ("SUPER BOWL", "Super Bowl", True),
    ("superbowl", "super bowl", False),
    ("super  \n\t bowl", "super bowl", True),
    ("a super good bowl", "super bowl", False),  # tokens stand next to each other
    ("supersonic", "super", False),  # whole tokens, never parts of words
    ("caf\u00e9 noir", "cafe\u0301 noir", True),  # one character or letter and mark
    ("café", "cafe", False),  # the mark belongs to the word
    ("Ångström", "ångström", True),
    ("straße", "strasse", False),
    ("ﬁle", "file", False),  # NFD leaves ligatures as they are
    ("İstanbul", "i̇stanbul", True),
    ("U.S.A.", "U.S.A.", True),
    ("U.S.A.", "USA", False),
    ("the u . s . a .", "U.S.A.", True),  # blanks make no difference
    ("rock'n'roll", "rock 'n' roll", True),
    ("rock’n’roll", "rock'n'roll", False),  # another apostrophe
    ("AT&T", "at & t", True),
    ("$1,000 each", "1,000", True),
    ("$1,000 each", "1000", False),
    ("C++ and C", "C++", True),
    ("C and D", "C++", False),
    ("snake_case", "snake", True),  # the low line is a sign of its own
    ("1776", "776", False),
    ("x² y", "x2", False),
    ("any text", "", True),  # an answer without a token is in every text
    ("any text", " \u00a0\u200b\n", True),
    ("", "", True),
    ("", "a", False),
    ("東京は日本の首都", "東京", False),  # a run of letters is one token
    ("東京 は 日本", "東京", True),
    ("東京、大阪", "大阪", True),
    ("한국어", "한국어", True),  # NFD takes syllables apart on both sides
    ("한국어", "한국", False),
    ("हिन्दी भाषा", "हिन्दी", True),
    ("❄ snow", "❄", True),
    ("👩‍🚀 flies", "👩", True),  # the joiner is a control character
    ("a\u00adb", "a b", True),  # so is the soft hyphen: it ends a token and is none
    ("a\0b", "a b", True),
]

REGEX_CASES = [
    ("born in 1756", r"17\d\d", True),
    ("born in 1856", r"17\d\d", False),
    ("Feb. 3", r"Feb(ruary)?\.?\s+3", True),
    ("FEBRUARY 3", r"feb(ruary)?\s+3", True),
    ("supersonic", r"super", True),  # anywhere, within words too
    ("first\nsecond", r"^second$", True),
    ("caf\u00e9", "cafe\u0301", True),
    ("naïve", r"na.ve", False),  # the text is in form NFD: i and a mark
    ("日本", "本", True),
    ("any text", "", True),
]


def reference_tokens(text):
    """The reference tokenizer's two rules in the notation of the package `regex`."""
    found = regex.finditer(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]", unicodedata.normalize("NFD", text))
    return [match.group().lower() for match in found]


@pytest.mark.parametrize(("text", "answer", "found"), CASES)
def test_awkward_cases(text, answer, found):
    assert answer_matcher([answer])(text) is found


@pytest.mark.parametrize(("text", "answer", "found"), CASES)
def test_the_same_by_comparing_token_lists(text, answer, found):
    words, wanted = reference_tokens(text), reference_tokens(answer)
    starts = range(len(words) - len(wanted) + 1)
    assert any(words[start : start + len(wanted)] == wanted for start in starts) is found


@pytest.mark.parametrize(("text", "pattern", "found"), REGEX_CASES)
def test_regular_expressions(text, pattern, found):
    assert answer_matcher([pattern], regex=True)(text) is found


@pytest.mark.parametrize("use_regex", [False, True])
def test_one_of_several_answers_is_enough_and_none_is_never(use_regex):
    assert answer_matcher(["no", "river"], regex=use_regex)("a river rises")
    assert not answer_matcher(["no", "nor"], regex=use_regex)("a river rises")
    assert not answer_matcher([], regex=use_regex)("a river rises")


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<x", "a{2,1}"])
def test_a_bad_regular_expression_is_named(pattern):
    with pytest.raises(InvalidInputError, match=f"the answer {regex.escape(repr(pattern))} is not a regular"):
        answer_matcher([pattern], regex=True)


@given(st.text(st.characters(exclude_categories=("Cs", "Cn"))))
@example("a_b-c ١٢ Ⅻ ½ \u0301x \u200d \ue000")
def test_tokens_are_those_of_the_categories(text):
    assert tokens(text) == reference_tokens(text)


@pytest.mark.parametrize(
    ("text", "answers", "spans"),
    [
        ("Paris, paris and PARIS.", ["Paris"], ["Paris", "paris", "PARIS"]),
        ("supersonic super", ["super"], ["super"]),
        ("the U . S . A . and the U.S.A.", ["U.S.A."], ["U . S . A .", "U.S.A."]),
        ("😀 a caf\u00e9 or cafe\u0301 in 東京 ", ["cafe\u0301", "東京"], ["caf\u00e9", "cafe\u0301", "東京"]),
        ("한국어 한국", ["한국"], ["한국"]),
        ("İstanbul", ["i̇stanbul"], ["İstanbul"]),
        ("new new york york", ["new york", "york"], ["new york", "york", "york"]),
        ("a a a", ["a a"], ["a a", "a a"]),
        ("any text", ["", " \n"], []),
        ("any text", [], []),
    ],
)
def test_every_occurrence_of_an_answer_has_its_offsets_in_the_text(text, answers, spans):
    assert [text[start:end] for start, end in answer_spans(text, answers)] == spans


@given(st.text(st.sampled_from("aAbé e\u0301\u0323한ᄒ ᅡᆫ😀.\u00ad")), st.text(st.sampled_from("aAbée\u0301\u0323한😀.")))
def test_an_answer_has_a_span_where_it_is_found(text, answer):
    spans = answer_spans(text, [answer])
    assert bool(spans) == (answer_matcher([answer])(text) and bool(tokens(answer)))
    assert all(tokens(text[start:end]) == tokens(answer) for start, end in spans)


@pytest.mark.parametrize(
    ("text", "answer", "english"),
    [
        ("赤い東京タワーは1958年に完成した。", "東京タワー", False),
        ("赤い東京タワーは1958年に完成した。", "1958年", False),
        ("工匠们修建长城。", "长城", False),
        ("ช้างป่านอนน้อยมาก", "ช้าง", False),
        ("The Rhine rises in the Alps.", "alps", True),
        ("Les écoles fermées", "école", None),
        ("ガラスの城", "カラス", None),
    ],
)
def test_a_multilingual_table_has_answers_in_texts_without_spaces(text, answer, english):
    """Elsewhere a run of letters is one word, as in the reference implementation; None: not found in any language."""
    assert answer_matcher([answer])(text) == bool(english)
    assert answer_matcher([answer], language="german")(text) == bool(english)
    assert answer_matcher([answer], language="multilingual")(text) == (english is not None)
