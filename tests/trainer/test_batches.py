"""What a batch is: each passage once, no positive as a negative, the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest
from dpr_lance.trainer.batches import Planner, make_corpus
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.examples import Example, Examples, KnownPassage
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_lance import InvalidInputError
from tests.trainer.tiny_runs import corpus, examples


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 40),
    st.integers(2, 8),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 10_000),
    st.randoms(use_true_random=False),
)
def test_what_holds_of_every_batch(questions, batch_size, hard, random_negatives, seed, random):
    passages = {f"p{n}": KnownPassage(f"p{n}", "", f"text {random.randrange(questions)}") for n in range(questions)}
    rows = tuple(
        Example(
            f"f:{n}",
            f"q{n}",
            tuple(random.sample(list(passages), random.randint(1, 3))),
            tuple(random.sample(list(passages), random.randint(0, 3))),
        )
        for n in range(questions)
    )
    made = make_corpus([Examples("x", rows, passages)])
    recipe = Recipe(batch_size=batch_size, seed=seed, hard_negatives=hard, random_negatives=random_negatives)
    planner, again = Planner(made, recipe), Planner(made, recipe)
    seen = []
    for step in reversed(range(planner.steps)):
        batch, same = planner.batch(step), again.batch(planner.steps - 1 - step)
        assert len(batch.questions) == batch_size
        # Each text once, whoever asks for it.
        assert len({made.passages[at][1] for at in batch.passages}) == len(batch.passages)
        for row, question in enumerate(batch.questions):
            texts = {made.passages[at][1] for at in made.gold[question]}
            assert made.passages[batch.passages[batch.targets[row]]][1] in texts
            counted = batch.passages[~batch.excluded[row]]
            # Of its positives, only the target is a candidate.
            assert sum(made.passages[at][1] in texts for at in counted) == 1
            assert batch.own[row].sum() <= 1 + hard + random_negatives
            assert not (batch.own & batch.excluded).any()
        seen.extend(batch.questions.tolist())
        del same
    # A pass over the data asks no question twice, and drops less than a batch.
    assert len(seen) == len(set(seen)) == questions // batch_size * batch_size
    for step in range(planner.steps):
        first, second = planner.batch(step), again.batch(step)
        assert all(
            np.array_equal(getattr(first, name), getattr(second, name))
            for name in ("questions", "passages", "targets", "own", "excluded")
        )


def test_two_questions_of_one_passage_do_not_meet_while_others_are_left():
    made = examples(16, hard=0)
    rows = tuple(replace(row, positives=(f"p{number // 2}",)) for number, row in enumerate(made.rows))
    planner = Planner(make_corpus([replace(made, rows=rows)]), Recipe(batch_size=4, seed=3, hard_negatives=0))
    sizes = [len(planner.batch(step).passages) for step in range(planner.steps)]
    assert sizes[:2] == [4, 4]


def test_groups_share_their_passages_and_epochs_differ():
    planner = Planner(corpus(12), Recipe(batch_size=6, seed=1, hard_negatives=1, in_batch=2), steps=4)
    batch = planner.batch(0)
    for row in range(6):
        mine = np.flatnonzero(~batch.excluded[row])
        partner = row + 1 if row % 2 == 0 else row - 1
        assert set(mine) <= set(np.flatnonzero(batch.own[row])) | set(np.flatnonzero(batch.own[partner]))
    assert sorted(planner.batch(0).questions.tolist() + planner.batch(1).questions.tolist()) == list(range(12))
    assert planner.batch(0).questions.tolist() != planner.batch(2).questions.tolist()


def test_each_batch_is_of_one_data_set_and_rates_decide_how_often():
    sets = [examples(40, hard=0), replace(examples(40, hard=0, seed=1), name="second")]
    made = make_corpus(sets, rates=(3.0, 1.0))
    planner = Planner(made, Recipe(batch_size=4, seed=0), steps=200)
    kinds = [planner.batch(step) for step in range(200)]
    assert all(set(batch.questions.tolist()) <= set(made.datasets[batch.dataset]) for batch in kinds)
    assert 130 < sum(batch.dataset == 0 for batch in kinds) < 170
    with pytest.raises(InvalidInputError, match="rates"):
        Planner(replace(made, rates=(1.0,)), Recipe(batch_size=4))
    with pytest.raises(InvalidInputError, match="40 questions do not fill a batch of 64"):
        Planner(made, Recipe(batch_size=64))
