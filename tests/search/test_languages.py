"""Tables in other languages: what BM25 finds, marks and explains there, and what a table keeps of its language."""

import json
import re
from collections import defaultdict
from pathlib import Path

import lancedb
import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, TableError
from dpr_lance.table.schema import TableCard
from dpr_lance.text.language import LANGUAGES, tokenizer_options
from dpr_lance.text.normal_form import indexed_form
from dpr_lance.text.terms import distinct_words, words

PAGE = Path(__file__).parents[2] / "docs" / "languages.md"


def made_questions():
    """The questions by language, each with the passage that answers it; written for this test."""
    found = defaultdict(list)
    for line in Path(__file__).with_name("questions_of_languages.jsonl").read_text().splitlines():
        pair = json.loads(line)
        found[pair["language"]].append(pair)
    return found


PAIRS = made_questions()


def own(language):
    return language if language in LANGUAGES else "multilingual"


def filled(folder, language, *, encoder=None):
    pairs = PAIRS[language]
    retriever = dpr_lance.connect(folder, encoder=encoder or HashEncoder(dimension=16), language=own(language))
    retriever.add([{"id": str(number), "text": pair["text"]} for number, pair in enumerate(pairs)], splitter=None)
    return retriever


def right_at_once(retriever, pairs):
    """How many questions have their passage as the first hit of BM25."""
    found = retriever.search([pair["question"] for pair in pairs], 1, mode="bm25")
    return sum(hits[:1] != () and hits[0].document_id == str(number) for number, hits in enumerate(found))


def rows_of_the_page():
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), flags=re.MULTILINE)
    return {name.lower(): tuple(map(int, numbers)) for name, *numbers in rows}


@pytest.mark.parametrize("language", PAIRS)
def test_the_page_says_what_the_language_of_a_table_is_worth(tmp_path, language):
    pairs = PAIRS[language]
    with filled(tmp_path / "own", language) as retriever:
        with_language = right_at_once(retriever, pairs)
    with dpr_lance.connect(tmp_path / "english", encoder=HashEncoder(dimension=16)) as retriever:
        retriever.add([{"id": str(number), "text": pair["text"]} for number, pair in enumerate(pairs)], splitter=None)
        in_english = right_at_once(retriever, pairs)
    assert rows_of_the_page()[language] == (len(pairs), in_english, with_language)
    assert with_language >= in_english


@pytest.mark.parametrize("language", PAIRS)
def test_words_have_the_terms_of_the_index(language):
    """Also in every other language: what a snippet marks is what BM25 matches."""
    for pair in PAIRS[language]:
        for text in pair["question"], pair["text"], f"İﬁ x@mail.com l’eau {pair['text']} e\u0301 foo_bar 3.14":
            for each in (own(language), "english", "multilingual"):
                expected = [term.text for term in lancedb.tokenize(indexed_form(text, each), **tokenizer_options(each))]
                found = list(words(text, each))
                assert [term for word in found for term in word.terms] == expected
                assert all(text[word.start : word.end] == word.text for word in found)


@pytest.mark.parametrize("language", PAIRS)
def test_words_are_asked_for_as_the_index_has_them(language):
    """Sent to LanceDB one by one, the words of a question have the terms that they have within it."""
    for pair in PAIRS[language]:
        asked = distinct_words(pair["question"], own(language))
        for word in asked:
            text = indexed_form(word.text, own(language))
            sent = [term.text for term in lancedb.tokenize(text, **tokenizer_options(own(language)))]
            assert tuple(sent) == word.terms
        assert {term for word in asked for term in word.terms} == {
            term for word in words(pair["question"], own(language)) for term in word.terms
        }


@pytest.mark.parametrize("language", ["german", "russian", "japanese", "thai", "korean"])
def test_words_sum_up_to_the_bm25_score(tmp_path, language):
    with filled(tmp_path / "t", language) as retriever:
        retriever.optimize()
        for pair in PAIRS[language]:
            for hit in retriever.search(pair["question"], 5, mode="bm25", explain=True):
                assert sum(word.score for word in hit.explanation.words) == pytest.approx(hit.bm25_score, abs=1e-4)


@pytest.mark.parametrize(
    ("language", "question", "snippet"),
    [
        ("german", "Wie alt werden Eichen?", "Eine **Eiche** kann mehr als achthundert **Jahre** leben."),
        ("french", "Les chevaux des marais", "Un **cheval** sauvage vit encore dans les **marais** du delta."),
        ("japanese", "東京タワーの完成", "赤い鉄塔として知られる**東京****タワー**は、冬**の**終わりに**完成**した。"),
        ("chinese", "熊猫吃什么？", "野生**熊猫**每天要**吃**很多竹子。"),
        ("korean", "서울의 지하철은?", "**서울에** **지하철이** 처음 달린 것은 여름이었다."),
    ],
)
def test_a_snippet_marks_what_bm25_matches(tmp_path, language, question, snippet):
    question = f"{question} Jahren" if language == "german" else question
    with filled(tmp_path / "t", language) as retriever:
        assert retriever.search(question, 1, mode="bm25")[0].snippet() == snippet


def test_a_snippet_of_a_text_without_spaces_is_cut_within_it(tmp_path):
    text = "山の朝は静かだ。" * 40 + "東京タワーは赤い。" + "川の水は冷たい。" * 40
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=16), language="multilingual") as retriever:
        retriever.add([{"id": "a", "text": text}], splitter=None)
        (hit,) = retriever.search("赤い東京タワー", mode="bm25")
        shown = hit.snippet(40)
    assert "**東京****タワー**は**赤い**。" in shown
    assert len(shown.replace("**", "").strip("… ")) <= 40
    assert shown.startswith("… ")
    assert shown.endswith(" …")


def test_passages_of_texts_without_spaces_are_slices_of_them(tmp_path):
    """A letter counts as a word, so that 100 words are a passage and not a whole book."""
    text = "".join(pair["text"] for pair in PAIRS["japanese"]) * 3
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=16), language="multilingual") as retriever:
        retriever.add([{"id": "a", "text": text}])
        passages = retriever.get("a")
    assert len(passages) > 5
    assert "".join(passage.text for passage in passages) == text
    assert all(text[passage.start : passage.end] == passage.text for passage in passages)


def test_pairs_of_korean_syllables_count_once(tmp_path):
    """Also where several words of a question have one in common."""
    with filled(tmp_path / "t", "korean") as retriever:
        once, twice = (retriever.search(text, 1, mode="bm25")[0] for text in ("서울에", "서울의 서울에 서울은"))
        assert once.id == twice.id == "0#0"
        assert twice.bm25_score == pytest.approx(once.bm25_score, abs=1e-6)
        assert retriever.check().ok
        retriever.optimize(rebuild=True)
        assert right_at_once(retriever, PAIRS["korean"]) == rows_of_the_page()["korean"][2]


def test_turkish_capitals_are_their_small_letters(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=16), language="turkish") as retriever:
        retriever.add([{"id": "a", "text": "İstanbul büyük bir şehirdir."}, {"id": "b", "text": "IĞDIR doğudadır."}])
        assert retriever.search("istanbul", 1, mode="bm25")[0].snippet() == "**İstanbul** büyük bir şehirdir."
        assert retriever.search("ığdır", 1, mode="bm25")[0].snippet() == "**IĞDIR** doğudadır."
        assert retriever.search("İSTANBUL", 1, mode="bm25")[0].document_id == "a"
        assert retriever.check().ok


def test_a_table_keeps_its_language(tmp_path):
    with filled(tmp_path / "t", "german") as retriever:
        assert retriever.info().language == "german"
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=16)) as retriever:
        assert right_at_once(retriever, PAIRS["german"]) == rows_of_the_page()["german"][2]
        retriever.optimize(rebuild=True)
        assert right_at_once(retriever, PAIRS["german"]) == rows_of_the_page()["german"][2]
        retriever.reembed(HashEncoder(dimension=8))
        assert retriever.info().language == "german"
        assert right_at_once(retriever, PAIRS["german"]) == rows_of_the_page()["german"][2]
        assert retriever.check().ok
    dpr_lance.connect(tmp_path / "t", language="german").close()
    with pytest.raises(InvalidInputError, match=r"language='french': table .* was created with language='german'.*new"):
        dpr_lance.connect(tmp_path / "t", language="french")


def test_the_first_of_two_that_create_a_table_chooses_its_language(tmp_path):
    encoder = HashEncoder(dimension=16)
    with (
        dpr_lance.connect(tmp_path / "t", encoder=encoder, language="spanish") as first,
        dpr_lance.connect(tmp_path / "t", encoder=encoder, language="english") as second,
    ):
        first.add([{"text": "un río"}])
        with pytest.raises(InvalidInputError, match=r"language='english'.*created with language='spanish'"):
            second.add([{"text": "a river"}])


@pytest.mark.parametrize("language", ["German", "klingon", "", 5, b"german"])
def test_an_unknown_language_is_refused_with_the_known_ones(tmp_path, language):
    with pytest.raises(InvalidInputError, match=r"language=.* is not one of arabic, .*turkish; take 'multilingual'"):
        dpr_lance.connect(tmp_path / "t", language=language)
    assert not (tmp_path / "t").exists()


def test_an_english_table_is_what_earlier_versions_read():
    """In every other language they would search it as English, so these have another format."""
    card = TableCard(HashEncoder(dimension=16).card, (), "words:100")
    assert card.to_fields().keys() == {"format", "encoder", "encoder_source", "splitter", "column"}
    assert card.to_fields()["format"] == 1
    other = TableCard(HashEncoder(dimension=16).card, (), "words:100", language="greek", mode="bm25")
    assert other.to_fields()["format"] == 2
    assert TableCard.from_json(json.dumps(other.to_fields()), place="here") == other
    with pytest.raises(TableError, match="here has the language 'elvish', which is not known here: upgrade"):
        TableCard.from_json(json.dumps(other.to_fields() | {"language": "elvish"}), place="here")


def test_the_packaged_encoder_is_left_out_of_other_languages(tmp_path):
    """It reads English. One that is named is used, here and after a re-embedding."""
    documents = [{"id": str(number), "text": pair["text"]} for number, pair in enumerate(PAIRS["german"])]
    with dpr_lance.connect(tmp_path / "t", language="german") as retriever:
        report = retriever.add(documents)
        assert "the packaged encoder reads English" in report.not_embedded
        hits = retriever.search("Wie alt werden Eichen?", 3)
        assert (hits.mode, hits.fallback, retriever.info().embedded) == ("bm25", None, 0)
        retriever.reembed(HashEncoder(dimension=16))
        assert retriever.info().embedded == len(documents)
        assert retriever.search("Wie alt werden Eichen?", 3).mode == "hybrid"
        assert retriever.add([{"text": "Noch ein Satz."}]).not_embedded is None
    with filled(tmp_path / "named", "german") as retriever:
        assert retriever.info().embedded == len(documents)
        assert retriever.search("Wie alt werden Eichen?", 3).mode == "hybrid"


def test_answers_are_judged_in_the_language_of_the_table(tmp_path):
    questions = [
        {"question": "東京タワーはいつ完成しましたか", "answers": ["冬の終わり"]},
        {"question": "パンダは何を食べる", "answers": ["竹"]},
    ]
    with filled(tmp_path / "t", "japanese") as retriever:
        evaluation = dpr_lance.evaluate(retriever, questions, modes=["bm25"], ks=[1])
    assert evaluation.rows[0].by_answer[1].mean == 1.0
