"""A table that nobody has calibrated learns λ from the questions that it is asked."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.search.agreement import Agreement, agreement_on
from dpr_lance.search.asked import FIRST, LAST
from dpr_lance.table.contention import TableLock
from tests.tables import WeightedEncoder

USUAL = 20.0
RARE = [f"{first}{second}{third}" for first in "bdfklmnrtz" for second in "aeiou" for third in "bdfklmnrtz"]
TEXTS = [" ".join(np.random.default_rng(number).choice(RARE, 30)) for number in range(300)]
DOCUMENTS = [{"id": f"d{number:03}", "text": text} for number, text in enumerate(TEXTS)]
ASKED = [" ".join(text.split()[:4]) for text in TEXTS[: LAST + 10]]
"""Few words of one text, which BM25 finds; vectors of questions are noise here."""
QUESTION = ASKED[-1]


class NoisyEncoder(WeightedEncoder):
    """Each question gets a vector that has nothing to do with it."""

    def encode_questions(self, questions):
        noise = np.stack([np.random.default_rng(sum(map(ord, text))).normal(size=32) for text in questions])
        return (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)


def opened(folder, encoder=None, **arguments):
    return dpr_lance.connect(folder, encoder=encoder or NoisyEncoder(USUAL), **arguments)


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "t"
    with opened(folder) as retriever:
        retriever.add(DOCUMENTS, splitter=None)
        retriever.optimize()
    return folder


def shown(found):
    return [(hits.hybrid_weight, [(hit.id, hit.score) for hit in hits]) for hits in found]


def test_the_weight_moves_towards_the_better_leg_whenever_the_number_of_questions_has_doubled(table):
    with opened(table) as retriever:
        weights = [hits.hybrid_weight for hits in retriever.search(ASKED[:LAST], 3)]
        changed = [at for at in range(1, LAST) if weights[at] != weights[at - 1]]
        assert changed == [10, 20, 40, 80]
        assert weights[0] == USUAL
        assert max(weights[FIRST:]) < 0.9 * USUAL
        assert max(weights[80:]) < 0.7 * USUAL
        learned = retriever.info().learned
        assert (learned.questions, learned.column) == (LAST, "vector")
        assert retriever.search(ASKED[:30])[29].hybrid_weight == learned.hybrid_weight
        assert retriever.info().learned == learned  # it is done


def test_a_list_gives_what_its_questions_give_one_after_another(table, tmp_path):
    with opened(table) as retriever:
        retriever.search(ASKED[:3])
        in_a_list = shown(retriever.search(ASKED[3:45], 5))
        state = retriever.info().learned
    with opened(tmp_path / "other") as retriever:
        retriever.add(DOCUMENTS, splitter=None)
        retriever.optimize()
        one_by_one = shown([retriever.search(question, 5) for question in ASKED[:45]])[3:]
        assert one_by_one == in_a_list
        assert retriever.info().learned == state


@pytest.mark.parametrize("k", [10, 100])
def test_the_weight_is_the_one_that_calibrate_makes_of_plain_questions(table, k):
    asked = ASKED[: 2 * FIRST]
    with opened(table) as retriever:
        retriever.search(asked, k)
        learned = retriever.info().learned
        assert learned.questions == len(asked)
        assert learned.hybrid_weight == pytest.approx(retriever.calibrate(asked).hybrid_weight)


def test_the_same_question_on_the_same_state_has_the_same_answer(table):
    with opened(table) as retriever:
        retriever.search(ASKED[:FIRST])
        first, again = retriever.search(ASKED[50], 100), retriever.search(ASKED[50], 100)
        few = retriever.search(ASKED[50], 10)
    assert shown([first]) == shown([again])
    assert [hit.id for hit in few] == [hit.id for hit in first][:10]
    assert first.hybrid_weight == few.hybrid_weight < USUAL


def test_what_was_learnt_holds_for_others_unless_they_turn_it_off(table):
    with opened(table) as retriever, opened(table) as other, opened(table, learn=False) as off:
        off.search(ASKED)
        assert retriever.info().learned is None
        retriever.search(ASKED[:FIRST])
        learned = retriever.info().learned
        assert other.search(QUESTION).hybrid_weight == learned.hybrid_weight != USUAL
        assert off.search(QUESTION).hybrid_weight == USUAL
        assert off.info().learned is None
    with opened(table) as later:
        assert later.info().learned == learned


def test_both_processes_count_what_they_were_asked(table):
    with opened(table) as one, opened(table) as other:
        one.search(ASKED[: FIRST - 1])
        other.search(ASKED[20 : 20 + FIRST])
        assert one.info().learned.questions == FIRST
        one.search(ASKED[FIRST])
        assert other.info().learned.questions == 2 * FIRST


def test_nothing_is_stored_but_numbers(table):
    with opened(table) as retriever:
        retriever.search(ASKED[:FIRST])
        fields = dataclasses.asdict(retriever.info().learned)
    assert fields.pop("column") == "vector"
    assert all(isinstance(value, int | float) for value in fields.values())


def test_explanations_say_what_has_chosen_the_weight(table):
    def source(retriever, **arguments):
        return retriever.search(QUESTION, explain=True, **arguments).explanation.weight_source

    with opened(table) as retriever:
        assert source(retriever) == "encoder"
        assert source(retriever, mode="bm25") is None
        retriever.search(ASKED[:FIRST])
        assert source(retriever) == "questions"
        retriever.calibrate(ASKED[:20])
        assert source(retriever) == "calibration"


def test_a_calibration_wins_and_ends_the_learning(table):
    with opened(table) as retriever:
        retriever.search(ASKED[:FIRST])
        chosen = retriever.calibrate(ASKED[:30])
        retriever.search(ASKED)
        assert retriever.search(QUESTION).hybrid_weight == chosen.hybrid_weight
        assert retriever.info().learned is None


def test_calibration_compares_with_the_weight_that_was_learnt(table):
    with opened(table) as retriever:
        retriever.search(ASKED)
        learned = retriever.info().learned.hybrid_weight
        chosen = retriever.calibrate(
            [{"question": text, "labels": [f"d{at:03}"]} for at, text in enumerate(ASKED[:60])]
        )
        assert learned in [point.weight for point in chosen.weights]


def test_vectors_of_another_encoder_start_again(table):
    with opened(table) as retriever:
        retriever.search(ASKED[:15])
        retriever.reembed(HashEncoder(16))
        assert retriever.info().learned is None
        assert retriever.search(QUESTION).hybrid_weight == HashEncoder(16).card.hybrid_weight
        retriever.search(ASKED[: FIRST - 1])
        assert retriever.info().learned.questions == FIRST


@pytest.mark.parametrize("arguments", [{"where": "id > 'd'"}, {"mode": "bm25"}, {"mode": "dense"}])
def test_filtered_questions_and_those_to_one_leg_do_not_count(table, arguments):
    with opened(table) as retriever:
        retriever.search(ASKED[:20], **arguments)
        retriever.search("zzz")  # no passage has the word: BM25 finds nothing
        retriever.search(ASKED[: FIRST - 1])
        retriever.warm()
        assert retriever.info().learned is None
        retriever.search(ASKED[30])
        assert retriever.info().learned.questions == FIRST


def test_a_small_table_learns_nothing(tmp_path):
    with opened(tmp_path / "small") as retriever:
        retriever.add(DOCUMENTS[:90], splitter=None)
        retriever.search(ASKED)
        assert retriever.info().learned is None


def test_a_search_does_not_wait_for_writers_of_the_small_table(table):
    with opened(table) as retriever:
        retriever.search(ASKED[: FIRST - 1])
        with TableLock(table / ".passages_dpr_lance.lock", timeout=0):
            assert retriever.search(ASKED[FIRST])
            assert retriever.info().learned is None
        retriever.search(ASKED[FIRST + 1])
        assert retriever.info().learned.questions == FIRST + 1


def test_a_lost_small_table_is_not_made_again(table):
    shutil.rmtree(table / "passages_dpr_lance.lance")
    with opened(table) as retriever, pytest.warns(UserWarning, match="is missing"):
        assert retriever.search(ASKED[: FIRST + 1])[-1].hybrid_weight == USUAL
    assert not (table / "passages_dpr_lance.lance").exists()


UNWRITABLE = """
import resource, signal, sys
from tests.search.test_asked import ASKED, FIRST, QUESTION, USUAL, opened
with opened(sys.argv[1]) as retriever:
    retriever.search(ASKED[:FIRST - 1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    retriever.search(ASKED[FIRST])
    assert retriever.search(QUESTION).hybrid_weight != USUAL
    assert retriever.info().learned.questions == FIRST
    retriever.search(ASKED[:FIRST])
    assert retriever.info().learned.questions == 2 * FIRST
"""


def test_what_cannot_be_stored_holds_for_the_retriever(table):
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE, str(table)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with opened(table) as retriever:
        assert retriever.info().learned is None
        assert retriever.check().ok


def test_a_weight_out_of_scale_is_put_right(table):
    with opened(table) as retriever:
        retriever.search(ASKED[:FIRST])
        usual = retriever.info().learned.hybrid_weight
    other = WeightedEncoder(USUAL / 1_000, 64)
    with dpr_lance.connect(table) as retriever:
        retriever.reembed(other)
    with opened(table, other) as retriever:
        retriever.search(ASKED[:FIRST])
        assert usual / 5 < retriever.search(QUESTION).hybrid_weight < 5 * usual


def test_agreements_add_up():
    choose = np.random.default_rng(3)
    questions = [(choose.random(100), 5 * choose.random(100)) for _ in range(4)]
    each = [agreement_on(*question) for question in questions]
    total = sum(each, Agreement())
    assert total.questions == 4
    assert total.balanced == pytest.approx(sum(b.std() for _, b in questions) / sum(d.std() for d, _ in questions))
    assert each[0] + each[1] == each[1] + each[0]
    assert Agreement().balanced is None
    assert Agreement().weight(7.0) == 7.0
    assert agreement_on(np.full(3, np.nan), np.ones(3)) == agreement_on(np.ones(3), np.zeros(3)) == Agreement()
