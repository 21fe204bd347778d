"""Words and sentences in any script, and in linear time whatever the text is."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpr_lance.text.boundaries import lines, sentences, words


def parts(found, text):
    return [text[start:end] for start, end in found(text)]


def sentences_of(text):
    return [sentence.strip() for sentence in parts(sentences, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two words, one-two don't", ["two", "words,", "one-two", "don't"]),
        ("naïve café\u00a0Ελλάδα", ["naïve", "café", "Ελλάδα"]),
        ("한국어는 띄어 쓴다", ["한국어는", "띄어", "쓴다"]),
        ("東京。日本", ["東", "京。", "日", "本"]),
        ("「はい」と", ["「は", "い」", "と"]),
        ("か\u3099き", ["か\u3099", "き"]),
        ("Tokyo東京2026年", ["Tokyo", "東", "京", "2026", "年"]),
        ("ภาษาไทย", ["ภา", "ษา", "ไท", "ย"]),
        ("ຊື່ໃຫມ່", ["ຊື່", "ໃຫ", "ມ່"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("\u200bzero\u00adwidth \u200e ok\ufeff", ["zero\u00adwidth", "ok\ufeff"]),
        (" \t\n\u200b\ufeff\x01", []),
        ("👩\u200d🚀 🚀", ["👩\u200d🚀", "🚀"]),
    ],
)
def test_words(text, expected):
    assert parts(words, text) == expected


def test_letters_of_unspaced_scripts_count_one_and_their_signs_none():
    """Held against the Unicode database, for every assigned letter and sign of Thai, Lao, Burmese and Khmer."""
    after_a_consonant = {0xE2F, 0xE30, 0xE32, 0xE33, 0xE45, 0xEAF, 0xEB0, 0xEB2, 0xEB3}  # vowels, abbreviation marks
    for consonant, codes in (("ก", range(0xE01, 0xF00)), ("က", range(0x1000, 0x10A0)), ("ក", range(0x1780, 0x17DE))):
        for code in codes:
            kind = unicodedata.category(chr(code))
            if kind[0] == "M" or kind == "Lo":
                alone = kind == "Lo" and code not in after_a_consonant
                assert len(list(words(consonant + chr(code)))) == 1 + alone, hex(code)


@given(st.text())
@example("\x1c\x85\u2028word")
def test_ascii_and_other_texts_have_the_same_words(text):
    """Text of ASCII alone takes a faster way: an added word must not change what is found."""
    text = "".join(character for character in text if character.isascii())
    assert parts(words, text) == parts(words, f"{text} é")[:-1]


@given(st.text())
def test_everything_visible_is_in_exactly_one_word(text):
    places = [place for start, end in words(text) for place in range(start, end)]
    assert len(places) == len(set(places))
    visible = {place for place, character in enumerate(text) if unicodedata.category(character)[0] in "LNPS"}
    assert visible <= set(places)
    assert not any(
        text[start:end].isspace() or text[start:end] != text[start:end].strip() for start, end in words(text)
    )


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met J. R. R. Tolkien and Mr. T. in St. Louis.",
        "It takes 3.14 seconds, e.g. on a slow day, i.e. Monday, cf. Knuth et al. 1973.",
        "See No. 5, Fig. 3 and vol. 12 of Jan. 1999.",
        "At 5 p.m. the U.S. Army left Washington D.C. by train.",
        "Visit example.com or v2.0.1 today!",
        "Yahoo! is a company, and so on (etc.) it goes.",
        'He asked "why?" and left.',
        "Am 3. Oktober kam z.B. Herr Dr. Müller bzw. seine Frau.",
        "Он родился в 1950 г. в Москве и т.д. и т.п.",
        "彼は「行く。」と言った。",
        "値は３．１４です。",
    ],
)
def test_one_sentence(text):
    assert sentences_of(text) == [text]


@pytest.mark.parametrize(
    "expected",
    [
        ["One.", "Two!", "Three?", "Four…", "Five?!", "Six..."],
        ['"Why?"', "She said (no.)", "“Yes.”", "‘Quite.’", "«Oui.»", "Done."],
        ["It ended in 1999.", "Then he said no.", "Five were left.", "Room 101.", "End."],
        ["¿Qué es eso?", "¡Nada!", "Él se fue."],
        ["A claim.[12]", "Another.[3][4]", "The last."],
        ["यह पहला है।", "यह दूसरा है॥", "अंत।"],
        ["ما هذا؟", "هذا كتاب.", "نعم."],
        ["Wahl 甲.", "Wahl 乙.", "Ende."],
        ["all in small letters.", "the next one.", "and the last."],
    ],
)
def test_several_sentences(expected):
    assert sentences_of(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["東京は首都です。", "本当？！", "「はい。」", "次は３．５だ．", "終わり"],
        ["这是一。", "这是二！", "完。"],
        ["នេះជា១។", "នេះជា២។"],
    ],
)
def test_sentences_without_spaces(expected):
    assert sentences_of("".join(expected)) == expected


def test_what_else_ends_a_sentence():
    text = "A heading\n\nA paragraph\nthat goes on\n- one\n  * two\n1. three\n| a | b |\n\u2029Next\n \t\nLast"
    assert sentences_of(text) == [
        "A heading",
        "A paragraph\nthat goes on",
        "- one",
        "* two",
        "1. three",
        "| a | b |",
        "Next",
        "Last",
    ]
    assert sentences_of("สวัสดีครับ ผมชื่อสมชาย") == ["สวัสดีครับ", "ผมชื่อสมชาย"]


@given(st.text(st.sampled_from(" \n.!?。」)\"'Aab1東かก\u0e31-|[]…．\u2029")))
def test_sentences_and_lines_leave_no_gap(text):
    for found in (sentences, lines):
        assert "".join(parts(found, text)) == text
        assert all(parts(found, text))
