"""The reader's loop: it learns selection and spans, from labels or a teacher, and continues with the same bits."""

import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpr_lance.trainer import run_checkpoints
from dpr_lance.trainer.distillation import reranker_teacher
from dpr_lance.trainer.log import read_log
from dpr_lance.trainer.reader.batches import ReaderPlanner
from dpr_lance.trainer.reader.loop import TEACHER_SCORES, ReaderLoop, located
from dpr_lance.trainer.reader.model import keep_layers, load_model

from dpr_lance import EncoderError, InvalidInputError
from dpr_lance.reader.inputs import ReaderInputs
from dpr_lance.reader.reranker import PassageText
from dpr_lance.text.answers import answer_spans
from tests.trainer.reader.tiny_students import CARD, RECIPE, corpus, looped, student_of
from tests.trainer.tiny_runs import state


def losses(folder):
    return [record["loss"] for record in read_log(folder / "log.jsonl") if record["kind"] == "step"]


class Lengths:
    """A re-ranker against the labels: the later the letter of the passage's word, the better."""

    def __init__(self):
        self.asked = []

    def score(self, question, passages):
        self.asked += [(question, *passage) for passage in passages]
        return np.array([2 * (ord(passage.text.split()[1][0]) - ord("l")) / 5 for passage in passages])


def test_selection_and_spans_are_learnt_by_heart(tiny):
    made = corpus()
    recipe = replace(RECIPE, batch_size=8, learning_rate=3e-3)
    loop = ReaderLoop(student_of(tiny, dropout=0.0), made, recipe, steps=80)
    seen = []
    loop.log.step = lambda number, values: seen.append(values)
    loop.run(made)
    assert seen[0]["accuracy"] < 1
    assert seen[-1]["accuracy"] == 1
    assert seen[-1]["selection"] < 0.3 < seen[0]["selection"]
    assert seen[-1]["span"] < 0.3 < seen[0]["span"]
    assert "kl" not in seen[0]


def test_deeper_layers_learn_spans_alone(tiny):
    made = corpus()
    student = student_of(tiny, dropout=0.0)
    keep_layers(student.reader, [0], [1])
    loop = ReaderLoop(student, made, replace(RECIPE, selection_weight=0.0, learning_rate=3e-3), steps=60)
    seen = []
    loop.log.step = lambda number, values: seen.append(values)
    loop.run(made)
    assert seen[-1]["span"] < seen[0]["span"] / 2
    shallow = ReaderLoop(student, made, replace(RECIPE, span_weight=0.0, learning_rate=3e-3), steps=2)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    shallow.run(made)
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("reader.deeper", "reader.span")) for name in changed)
    assert "reader.select.weight" in changed


def test_questions_without_an_answer_train_the_selection_alone(tiny):
    made = corpus(answers=False)
    loop = ReaderLoop(student_of(tiny, dropout=0.0), made, replace(RECIPE, learning_rate=3e-3), steps=2)
    before = {name: value.clone() for name, value in loop.model.state_dict().items()}
    loop.run(made)
    after = loop.model.state_dict()
    assert torch.equal(before["reader.span.weight"], after["reader.span.weight"])
    assert not torch.equal(before["reader.select.weight"], after["reader.select.weight"])


def test_a_signal_finishes_the_step_and_a_resumed_run_ends_with_the_same_bits(tiny, tmp_path):
    teacher = Lengths()
    whole, made = looped(tiny, tmp_path / "whole", teacher=reranker_teacher(teacher))
    whole.run(made)

    class StopsItself(ReaderLoop):
        def _step(self, batch, corpus, texts):
            if batch.step == 2:
                signal.raise_signal(signal.SIGTERM)
            return super()._step(batch, corpus, texts)

    parts = tmp_path / "parts"
    stopped = StopsItself(student_of(tiny), made, RECIPE, steps=6, folder=parts, teacher=reranker_teacher(Lengths()))
    with pytest.raises(SystemExit):
        stopped.run(made)
    # A crash cut off the last line of the scores, and steps that no checkpoint has were logged.
    scores = parts / TEACHER_SCORES
    scores.write_text(scores.read_text()[:-5])
    with (parts / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 4, "loss": 99.0}\n')
    second = Lengths()
    again, _ = looped(tiny, parts, teacher=reranker_teacher(second))
    assert again.resume()
    assert again.position.step == 3
    again.run(made)
    assert torch.equal(state(again.model), state(whole.model))
    assert losses(parts) == losses(tmp_path / "whole")
    assert 0 < len(second.asked) < len(teacher.asked)
    assert len(teacher.asked) == len(set(teacher.asked))
    saved = load_model(run_checkpoints.last(parts) / "reader")
    assert torch.equal(state(saved), state(again.model.reader))


def test_other_settings_data_or_another_teacher_are_refused(tiny, tmp_path):
    loop, made = looped(tiny, tmp_path, steps=1)
    loop.run(made)
    for other in (
        looped(tiny, tmp_path, steps=1, recipe=replace(RECIPE, span_weight=0.5))[0],
        looped(tiny, tmp_path, steps=1, made=corpus(answers=False))[0],
        looped(tiny, tmp_path, steps=1, teacher_name="another")[0],
    ):
        with pytest.raises(InvalidInputError, match="other settings or other data"):
            other.resume()


@pytest.mark.parametrize("term", ["kl", "margin_mse", "mse"])
def test_a_student_comes_to_order_passages_as_its_teacher_does(tiny, term):
    weights = dict.fromkeys(("selection", "span", "kl", "margin_mse", "mse"), 0.0) | {term: 1.0}
    recipe = replace(
        RECIPE, batch_size=8, learning_rate=3e-3, **{f"{name}_weight": value for name, value in weights.items()}
    )
    made = corpus(scores=True)  # given with the questions: no teacher is asked
    loop = ReaderLoop(student_of(tiny, dropout=0.0), made, recipe, steps=80)
    seen = []
    loop.log.step = lambda number, values: seen.append(values)
    loop.run(made)
    assert seen[-1][term] < 0.1 * seen[0][term]
    assert set(seen[0]).isdisjoint({"selection", "span"})


def test_the_gradient_of_a_batch_is_the_same_in_groups_and_chunks(tiny):
    made = corpus(scores=True)
    gradients = []
    for graph, chunk in ((10**6, 10**6), (1, 10**6), (10**6, 40), (1, 1)):
        recipe = replace(RECIPE, graph_tokens=graph, chunk_tokens=chunk, max_gradient_norm=1e9, mse_weight=0.1)
        loop = ReaderLoop(student_of(tiny, dropout=0.0), made, recipe, steps=1)
        loop.run(made)
        gradients.append(torch.cat([one.grad.reshape(-1) for one in loop.model.parameters() if one.grad is not None]))
    for other in gradients[1:]:
        assert float((other - gradients[0]).norm() / gradients[0].norm()) < 1e-5


def test_a_batch_without_scores_of_a_teacher_changes_nothing_and_a_run_without_any_is_refused(tiny):
    weights = dict.fromkeys(("selection_weight", "span_weight"), 0.0)
    recipe = replace(RECIPE, batch_size=8, **weights)
    made = corpus()
    one = replace(made, given={(8, 0): 1.0})  # of no question
    loop = ReaderLoop(student_of(tiny), one, recipe, steps=2)
    before = state(loop.model)
    loop.run(one)
    assert torch.equal(state(loop.model), before)
    for refused in (recipe, replace(recipe, kl_weight=0.0, span_weight=1.0)):
        with pytest.raises(InvalidInputError, match="nothing to learn"):
            ReaderLoop(student_of(tiny), corpus(answers=False), refused, steps=2)


def test_words_and_dropout_can_be_left_alone(tiny):
    recipe = replace(RECIPE, train_words=False, dropout=0.0)
    loop = ReaderLoop(student_of(tiny), corpus(), recipe, steps=1)
    words = loop.model.reader.bert.get_input_embeddings().weight
    before, whole = words.clone(), state(loop.model)
    loop.run(corpus())
    assert torch.equal(words, before)
    assert not torch.equal(state(loop.model), whole)
    assert {module.p for module in loop.model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_a_loss_that_is_no_number_names_the_batch(tiny, tmp_path):
    loop, made = looped(tiny, tmp_path)
    with torch.no_grad():
        next(loop.model.parameters()).fill_(math.nan)
    with pytest.raises(EncoderError, match=r"step 0: the loss is nan.*rows:\d.*passages p\d"):
        loop.run(made)
    assert len(json.loads((tmp_path / "diverged-0.json").read_text())["questions"]) == 4


def test_batches_are_a_function_of_the_step(tiny):
    made = corpus()
    recipe = replace(RECIPE, passages=6, title_dropout=0.5)
    planner = ReaderPlanner(made, recipe, steps=7)
    batches = [planner.batch(step) for step in range(7)]
    again = ReaderPlanner(made, recipe, steps=7).batch(5)
    assert (again.questions, again.passages) == (batches[5].questions, batches[5].passages)
    for first, second in zip(batches[0:6:2], batches[1:6:2], strict=True):
        assert sorted(first.questions + second.questions) == list(range(8))
    for batch in batches:
        for question, passages in zip(batch.questions, batch.passages, strict=True):
            # Two hard negatives, and three of the others.
            assert passages[0] == question
            assert set(passages[1:3]) == {(question + 1) % 8, (question + 2) % 8}
            assert len(set(passages)) == 6
    dropped = np.concatenate([group for batch in batches for group in batch.untitled])
    assert 0.3 < dropped.mean() < 0.7
    with pytest.raises(InvalidInputError, match="8 questions do not fill a batch of 9"):
        ReaderPlanner(made, replace(recipe, batch_size=9))


def test_an_answer_behind_the_first_window_is_found_in_the_window_that_holds_it(tiny):
    student = student_of(tiny)
    inputs = ReaderInputs(student.tokenizer, replace(CARD, max_tokens=40, stride=8))
    text = "the tower of " * 20 + "paris is 7 metres , paris"
    (passage,) = inputs.build(inputs.question_ids(["what"]), [PassageText("tower", text)], offsets=True)
    for answers, words in ((["7"], ["7"]), (["paris"], ["paris", "paris"]), (["is 7 metres"], ["is 7 metres"])):
        window, spans = located(passage, answer_spans(text, answers))
        assert window.at > 0
        assert [student.tokenizer.decode(window.tokens.ids[first : last + 1]) for first, last in spans] == words
    assert located(passage, answer_spans(text, ["faust"])) == (passage.windows[0], [])
