"""Calibrating real tables: what is chosen, stored, used and dropped again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import dpr_lance
from dpr_lance import EncoderError, HashEncoder, InvalidInputError, TableError
from dpr_lance.cli import app as cli
from dpr_lance.evaluation.plot import calibration_figure, plot_calibration
from dpr_lance.records.table_info import Calibration, EffortPoint, WeightPoint
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.tuning import keep_calibration
from tests import tables
from tests.calibration.labelled import questions_of
from tests.tables import WORDS, WeightedEncoder, random_documents

COUNT = 300


class NoisyEncoder(WeightedEncoder):
    """Questions get vectors that have nothing to do with them."""

    def encode_questions(self, questions):
        noise = np.random.default_rng(len(questions)).normal(size=(len(questions), self.card.dimension))
        return (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def documents():
    return random_documents(11, COUNT)


def opened(folder, encoder, documents, policy=None):
    retriever = tables.opened(folder, encoder, policy=policy, resident_bytes=0)
    retriever.add(documents, splitter=None)
    retriever.optimize()
    return retriever


def test_labelled_questions_choose_a_weight_that_is_stored_and_used(tmp_path, documents):
    asked = questions_of(documents, 120)
    with opened(tmp_path / "t", NoisyEncoder(10_000.0), documents) as retriever:
        before = retriever.search("river bridge castle")
        assert before.hybrid_weight == 10_000.0
        found = retriever.calibrate(asked)
        assert (found.questions, found.labelled) == (120, 120)
        assert found.after > found.before
        assert found.mode == "bm25" or found.hybrid_weight < 1_000
        assert retriever.info().calibration == found
        assert retriever.search("river", mode="hybrid").hybrid_weight == found.hybrid_weight
        assert retriever.search("river").mode == found.mode
        assert json.loads(json.dumps(dataclasses.asdict(found)))["weights"]
    with dpr_lance.connect(tmp_path / "t", encoder=NoisyEncoder(10_000.0)) as again:
        assert again.info().calibration == found
        assert again.calibrate(asked).after >= found.after - 1e-9


def test_a_list_of_texts_puts_right_a_weight_out_of_scale(tmp_path, documents):
    texts = [question["question"] for question in questions_of(documents, 30)]
    with opened(tmp_path / "t", WeightedEncoder(0.001), documents) as retriever:
        found = retriever.calibrate(texts)
        assert (found.questions, found.labelled, found.before, found.after) == (30, 0, None, None)
        assert found.hybrid_weight > 1
        assert (found.mode, found.weights) == ("hybrid", ())
        assert retriever.calibrate(texts).hybrid_weight == found.hybrid_weight


def test_a_list_of_texts_moves_weight_to_the_leg_that_errs_less(tmp_path):
    """Vectors of questions are noise here, and BM25 finds the one text that has many of a question's words."""
    choose = np.random.default_rng(5)
    rare = [f"{first}{second}{third}" for first in "bdfklmnrtz" for second in "aeiou" for third in "bdfklmnrtz"]
    texts = [" ".join(choose.choice(rare, 30)) for _ in range(COUNT)]
    asked = [" ".join(text.split()[:4]) for text in texts[:60]]
    documents = [{"id": f"{at}", "text": text} for at, text in enumerate(texts)]
    with opened(tmp_path / "t", NoisyEncoder(20.0), documents) as retriever:
        found = retriever.calibrate(asked)
        assert (found.hybrid_weight < 15.0, found.after) == (True, None)
        # It starts from the encoder's own weight: it does not run away when it is repeated.
        assert retriever.calibrate(asked).hybrid_weight == found.hybrid_weight


def test_what_labels_have_chosen_stands_without_labels(tmp_path, documents):
    asked = questions_of(documents, 120)
    with opened(tmp_path / "t", NoisyEncoder(10_000.0), documents) as retriever:
        chosen = retriever.calibrate(asked)
        for later in ([question["question"] for question in asked[:30]], asked[:30], None):
            again = retriever.calibrate(later)
            assert dataclasses.replace(again, seconds=chosen.seconds) == chosen


def test_without_questions_passages_stand_in(tmp_path, documents):
    with opened(tmp_path / "t", WeightedEncoder(0.001), documents) as retriever:
        found = retriever.calibrate()
        assert found.questions == 0
        assert found.hybrid_weight > 1
    with opened(tmp_path / "u", WeightedEncoder(found.hybrid_weight * 2), documents) as retriever:
        assert retriever.calibrate().hybrid_weight == found.hybrid_weight * 2


def test_few_labels_are_taken_as_unlabelled(tmp_path, documents):
    with opened(tmp_path / "t", WeightedEncoder(20.0), documents) as retriever:
        found = retriever.calibrate(questions_of(documents, 49))
        assert (found.questions, found.labelled, found.after, found.weights) == (49, 49, None, ())


def test_answers_are_judged_by_text(tmp_path, documents):
    asked = [
        {"question": question["question"], "answers": [document["text"]]}
        for question, document in zip(questions_of(documents, 60), documents, strict=False)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in asked))
    with opened(tmp_path / "t", NoisyEncoder(10_000.0), documents) as retriever:
        by_answer = retriever.calibrate(path)
        assert by_answer.after > by_answer.before + 0.1


def test_the_default_mode_falls_back_as_hybrid_does(tmp_path, documents):
    """A table whose best mode is dense is still answered where the encoder is missing."""
    with opened(tmp_path / "t", WeightedEncoder(20.0), documents) as retriever:
        found = retriever.calibrate()
        keep_calibration(tables.store_in(tmp_path / "t"), dataclasses.replace(found, mode="dense"))
        assert retriever.search("river").mode == "dense"
        assert retriever.search("river", mode="hybrid").mode == "hybrid"
    with dpr_lance.connect(tmp_path / "t") as blind:
        hits = blind.search("river")
        assert (hits.mode, len(hits)) == ("bm25", 10)
        assert "pass it again" in hits.fallback
        with pytest.raises(EncoderError, match="pass it again"):
            blind.search("river", mode="dense")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"labels": ["elsewhere"]}, "the label 'elsewhere'"), ({"answers": ["xyzzy"]}, "the answer 'xyzzy'")],
)
def test_labels_that_name_nothing_here_choose_nothing(tmp_path, documents, wrong, told):
    with opened(tmp_path / "t", WeightedEncoder(20.0), documents) as retriever:
        asked = [{"question": f"{word} {number}"} | wrong for number in range(5) for word in WORDS]
        with pytest.raises(InvalidInputError, match=f"none of the 50 questions is answered.*{told}.*Labels are ids"):
            retriever.calibrate(asked)
        assert retriever.info().calibration is None
        assert retriever.calibrate(asked[:20]).after is None  # few are taken as unlabelled ones, whatever their labels


def test_new_vectors_drop_it(tmp_path, documents):
    with opened(tmp_path / "t", WeightedEncoder(0.001), documents) as retriever:
        retriever.calibrate()
        retriever.reembed(WeightedEncoder(7.0, dimension=16))
        assert retriever.info().calibration is None
        assert retriever.search("river").hybrid_weight == 7.0


def test_questions_choose_the_effort_of_an_index(tmp_path, documents):
    small = IndexPolicy(vector_index_rows=200, rows_per_partition=32, probed_shares=(0.1, 0.2, 0.5, 0.7, 1.0))
    texts = [" ".join(words) for words in zip(WORDS * 3, WORDS[3:] * 5, strict=False)]
    with opened(tmp_path / "t", WeightedEncoder(20.0), documents, small) as retriever:
        index = retriever.search("river", explain=True).explanation.effort
        few = retriever.calibrate(texts[:5])
        assert (few.probed_share, few.recall, few.efforts) == (None, None, ())
        assert retriever.search("river", explain=True).explanation.effort == index
        found = retriever.calibrate(texts)
        used = retriever.search("river", explain=True).explanation.effort
        assert used.probes == round(found.probed_share * used.partitions)
        assert found.recall >= 0.98 or found.recall == max(point.recall for point in found.efforts)
        assert [point.probes for point in found.efforts] == sorted(point.probes for point in found.efforts)
        assert found.efforts[-1].probes == used.partitions
        assert retriever.calibrate(texts[:5]).probed_share == found.probed_share


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "there are no questions to calibrate with"),
        (["river", " "], r"questions\[1\] is blank"),
        (["river", {"question": "a", "labels": ["b"]}], "cannot be mixed"),
        ([{"question": "river"}], "neither answers nor labels"),
        ("nowhere.jsonl", "no such file"),
    ],
)
def test_questions_that_cannot_be_used(filled, questions, message):
    with pytest.raises(InvalidInputError, match=message):
        filled.calibrate(questions)
    assert filled.info().calibration is None


@pytest.fixture
def filled(retriever, documents):
    retriever.add(documents[:20])
    return retriever


def test_a_table_that_cannot_be_calibrated(retriever, documents):
    with pytest.raises(TableError, match="does not exist yet"):
        retriever.calibrate()
    retriever.add(documents[:5], embed=False)
    with pytest.raises(EncoderError, match="no passage has a vector yet"):
        retriever.calibrate()


@pytest.fixture
def run(capsys):
    """Run a command in this process; gives exit code, standard output and standard error."""

    def run_command(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture(scope="module")
def filled_library(tmp_path_factory):
    """A folder with documents that the packaged encoder has read, and questions about them."""
    folder = tmp_path_factory.mktemp("calibrate")
    documents = random_documents(2, 60)
    with dpr_lance.connect(folder / "lib") as retriever:
        retriever.add(documents, splitter=None)
    questions = questions_of(documents, 50)
    (folder / "labelled.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    (folder / "plain.txt").write_text("\n".join(question["question"] for question in questions))
    return folder


@pytest.fixture
def library(filled_library, tmp_path):
    """A copy of it for one test."""
    return shutil.copytree(filled_library, tmp_path / "library")


def test_the_command_tells_what_it_chose_and_draws_it(run, library, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = run("calibrate", library / "lib", library / "labelled.jsonl", "--plot", tmp_path / "a.png")
    assert (code, err) == (0, "")
    assert "50, 50 of them labelled" in out
    assert "mean reciprocal rank" in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "hybrid by default" in run("info", library / "lib")[1]
    code, out, _ = run("calibrate", library / "lib", library / "labelled.jsonl", "--json")
    assert (code, json.loads(out)["labelled"]) == (0, 50)
    # The same questions again have nothing better to offer than what they chose.
    code, out, err = run("calibrate", library / "lib", library / "labelled.jsonl")
    assert (code, ", it was" in out) == (0, False)
    assert err == "the settings stay as they were: nothing that was tried is clearly better\n"


def test_the_command_takes_plain_questions_or_none(run, library, tmp_path):
    code, out, err = run("calibrate", library / "lib", library / "plain.txt")
    assert code == 0
    assert "50, 0 of them labelled" in out
    assert "labels did not choose the weight" in err
    code, out, err = run("calibrate", library / "lib")
    assert (code, err) == (0, "")
    assert "0, 0 of them labelled" in out
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("calibrate", library / "lib", tmp_path / "bad.txt")
    assert code == 1
    assert "is not UTF-8" in err
    code, _, err = run("calibrate", library / "lib", tmp_path / "none.txt")
    assert code == 1
    assert "none.txt" in err


def test_a_plot_of_nothing_is_refused(run, library, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = run("calibrate", library / "lib", "--plot", tmp_path / "a.png")
    assert code == 1
    assert "there is nothing to plot" in err


def test_efforts_are_drawn_too(tmp_path):
    pytest.importorskip("matplotlib")
    points = (EffortPoint(1, 0.8, 0.5), EffortPoint(4, 0.99, 1.5))
    found = Calibration(20.0, "hybrid", "vector", weights=(WeightPoint(10.0, 0.5), WeightPoint(20.0, 0.6)))
    for name, drawn in (("a.svg", dataclasses.replace(found, efforts=points)), ("b.svg", found)):
        plot_calibration(drawn, tmp_path / name)
        assert ("recall@20" in (tmp_path / name).read_text()) == (name == "a.svg")


def test_nothing_that_is_drawn_is_cut_off_and_what_is_in_force_is_marked():
    pytest.importorskip("matplotlib")
    points = tuple(EffortPoint(probes, 1 - 0.5 / probes, 1.5 + probes) for probes in (1, 2, 8, 40, 160))
    weights = tuple(WeightPoint(2.0**power, 0.5) for power in range(-4, 12))
    calibration = Calibration(20.0, "hybrid", "vector", weights=weights, labelled=12_000)
    for shown in (calibration, dataclasses.replace(calibration, efforts=points, probed_share=0.25, recall=0.9875)):
        figure = calibration_figure(shown)
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        legends = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
        marked = ["tried", "in force: λ = 20", "tried", "in force: 40 of 160 partitions, recall 0.988"]
        assert legends == marked[: 4 if shown.efforts else 2]


class Heavy(HashEncoder):
    """An encoder whose own weight is out of scale for three passages."""

    WEIGHT = 5_000.0

    @property
    def card(self):
        return dataclasses.replace(super().card, hybrid_weight=self.WEIGHT)


@pytest.mark.parametrize("questions", [None, ["river"], [{"question": "river", "labels": ["0"]}]])
def test_a_few_passages_do_not_move_the_weight(tmp_path, questions):
    with dpr_lance.connect(tmp_path / "t", encoder=Heavy(16)) as retriever:
        retriever.add([{"id": str(number), "text": f"river number {number}"} for number in range(3)])
        usual = retriever.info().encoder.hybrid_weight
        assert usual == Heavy.WEIGHT
        assert retriever.calibrate(questions).hybrid_weight == usual
        assert retriever.search("river").hybrid_weight == usual
