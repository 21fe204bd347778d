"""The trainer: what a batch is, what a loss is, exact gradients in little memory, stopping and going on."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpr_lance.trainer import grad_cache, run_checkpoints
from dpr_lance.trainer.batches import Planner, make_corpus
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.checkpoints.overrides import Overrides
from dpr_lance.trainer.config import Recipe, Run, read_run
from dpr_lance.trainer.dual_encoder import DualEncoder
from dpr_lance.trainer.examples import Example, Examples, KnownPassage
from dpr_lance.trainer.log import draw_curves, read_log
from dpr_lance.trainer.loop import Loop, schedule, token_texts
from dpr_lance.trainer.loss import Columns, batch_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_lance import EncoderError, InvalidInputError
from tests.trainer.checkpoints_made import WORDS, dpr_pair, plain, read_json

TOKENS = WORDS.split()


def examples(questions=12, *, hard=1, seed=0):
    """Questions of two words whose passage says them both, among others of random words."""
    rng = np.random.default_rng(seed)
    passages, rows = {}, []
    for number in range(questions):
        words = [TOKENS[number % len(TOKENS)], TOKENS[(number // len(TOKENS) + 3 * number + 1) % len(TOKENS)]]
        filler = rng.choice(TOKENS, int(rng.integers(1, 12)))
        passages[f"p{number}"] = KnownPassage(f"p{number}", "", " ".join([*words, *filler, str(number)]))
        negatives = tuple(f"p{(number + 1 + at) % questions}" for at in range(hard))
        rows.append(Example(f"rows:{number}", " ".join([*words, str(number)]), (f"p{number}",), negatives))
    return Examples("tiny", tuple(rows), passages)


def corpus(questions=12, **options):
    return make_corpus([examples(questions, **options)])


def columns(targets, own, excluded=None, teacher=None):
    own = torch.tensor(own, dtype=torch.bool)
    excluded = torch.zeros_like(own) if excluded is None else torch.tensor(excluded, dtype=torch.bool)
    return Columns(torch.tensor(targets), own, excluded, teacher)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    plain(folder, "bert")
    return folder


def saved(folder):
    """What a checkpoint of a run says of itself."""
    return read_checkpoint(locate(folder / "encoder"))


def model_of(folder, *, dropout=None, normalise=False, **options):
    model = DualEncoder(read_checkpoint(locate(folder), Overrides(pooling="mean", normalise=normalise)), **options)
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = dropout
            if isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = dropout
    return model


# Loss


def test_loss_of_a_small_matrix_worked_by_hand():
    """Two questions; columns: positive of 0, positive of 1, hard negative of 0."""
    questions = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    passages = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    # Scores [[2, 0, 1], [2, 2, 2]]: NLL log(1 + e^-2 + e^-1) and log 3.
    first, second = math.log(1 + math.exp(-2) + math.exp(-1)), math.log(3)
    asked = columns([0, 1], [[1, 0, 1], [0, 1, 0]])
    value, scores = batch_loss(questions, passages, asked, Recipe())
    assert scores.tolist() == [[2, 0, 1], [2, 2, 2]]
    assert float(value) == pytest.approx((first + second) / 2)
    # Divided by a temperature of 2 the first row is [1, 0, 0.5].
    value, _ = batch_loss(questions, passages, asked, Recipe(), temperature=2.0)
    assert float(value) == pytest.approx((math.log(1 + math.exp(-1) + math.exp(-0.5)) + second) / 2)
    # Column 0 is another positive of question 1: it is not its negative.
    value, _ = batch_loss(
        questions, passages, replace(asked, excluded=torch.tensor([[False] * 3, [True, False, False]])), Recipe()
    )
    assert float(value) == pytest.approx((first + math.log(2)) / 2)
    # Triplet with margin 1: rows max(0, 1 - 2 + [0, 1]) = [0, 0] and max(0, 1 - 2 + [2, 2]) = [1, 1].
    assert float(batch_loss(questions, passages, asked, Recipe(loss="triplet"))[0]) == pytest.approx(0.5)
    # Cosine: questions are axes, so scores are the coordinates of unit vectors; L2: negated distances.
    _, scores = batch_loss(questions, passages, asked, Recipe(similarity="cosine"))
    assert scores[0].tolist() == pytest.approx([2 / math.sqrt(5), 0, 1 / math.sqrt(2)])
    _, scores = batch_loss(questions, passages, asked, Recipe(similarity="l2"))
    assert scores[0].tolist() == pytest.approx([-math.sqrt(2), -math.sqrt(2), -1])


def test_a_negative_that_scores_above_the_positive_can_be_left_out():
    questions, passages = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.99], [1.0]])
    value, scores = batch_loss(questions, passages, columns([0], [[1, 1, 1]]), Recipe(false_negative_margin=0.05))
    assert scores.tolist() == [[2.0, -math.inf, 1.0]]
    assert float(value) == pytest.approx(math.log(1 + math.exp(-1)))


def test_the_loss_is_the_one_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(6, 8, generator=generator) for _ in range(3)]  # questions, positives, hard negatives

    class Identity(torch.nn.Module):
        """Stands for the encoder: hands out vectors that are there already."""

        def forward(self, features):
            return features

    theirs = losses.MultipleNegativesRankingLoss(Identity())  # cosine, scores times 20
    expected = theirs([{"sentence_embedding": side} for side in sides], torch.empty(0))
    own = np.concatenate([np.eye(6), np.eye(6)], axis=1)
    ours, _ = batch_loss(
        sides[0], torch.cat(sides[1:]), columns(list(range(6)), own), Recipe(similarity="cosine"), temperature=0.05
    )
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_distillation_asks_for_the_teachers_margins_or_its_distribution():
    questions, passages = torch.tensor([[1.0]]), torch.tensor([[3.0], [1.0], [9.0]])
    teacher = torch.tensor([[5.0, 4.0, 0.0]])
    asked = columns([0], [[1, 1, 0]], teacher=teacher)
    value, _ = batch_loss(questions, passages, asked, Recipe(loss="margin-mse"))
    assert float(value) == pytest.approx((2 - 1) ** 2)
    value, _ = batch_loss(questions, passages, asked, Recipe(loss="kl"))
    wanted, student = torch.tensor([5.0, 4.0]).softmax(0), torch.tensor([3.0, 1.0]).softmax(0)
    assert float(value) == pytest.approx(float((wanted * (wanted / student).log()).sum()))
    nll, _ = batch_loss(questions, passages, asked, Recipe(loss="margin-mse", teacher_weight=0.0))
    assert float(nll) == pytest.approx(float(batch_loss(questions, passages, columns([0], [[1, 1, 0]]), Recipe())[0]))


# Batches


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


# Gradients


def gradients(model, how, chunk_tokens, *, dtype=torch.float32, naive=False, replay=True, hard=2):
    """The gradient of one batch, flattened, with its loss."""
    made = corpus(12, hard=hard)
    model = model.to(dtype).train()
    model.zero_grad()
    texts = token_texts(model, made, Recipe())
    batch = Planner(made, Recipe(batch_size=12, seed=0, hard_negatives=hard)).batch(0)
    asked = Columns(*(torch.from_numpy(part) for part in (batch.targets, batch.own, batch.excluded)))
    rows = {"question": batch.questions, "passage": batch.passages}
    chunks = grad_cache.plan(texts, rows, tokens=chunk_tokens, seed=5)
    passes = grad_cache.Passes(model, texts, torch.device("cpu"))
    if not replay:
        # The control: a second pass with other random numbers than the first.
        states = iter(range(10_000))

        class Unrepeatable(grad_cache.Passes):
            def vectors(self, chunk):
                return super().vectors(replace(chunk, seed=next(states)))

        passes = Unrepeatable(model, texts, torch.device("cpu"))
    if naive:
        # The other control: each half of the questions alone with its own passages, gradients accumulated.
        for part in np.array_split(np.arange(12), 2):
            wanted = np.flatnonzero(batch.own[part].any(axis=0))
            small = Columns(
                torch.from_numpy(np.searchsorted(wanted, batch.targets[part])),
                torch.from_numpy(batch.own[part][:, wanted]),
                torch.from_numpy(batch.excluded[part][:, wanted]),
            )
            some = {"question": batch.questions[part], "passage": batch.passages[wanted]}
            grad_cache.direct(
                passes,
                grad_cache.plan(texts, some, tokens=chunk_tokens, seed=5),
                lambda q, p, small=small: batch_loss(q, p, small, Recipe())[0] / 2,
            )
        value = torch.tensor(0.0)
    else:
        value = how(passes, chunks, lambda q, p: batch_loss(q, p, asked, Recipe())[0])
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
    return flat.clone(), float(value)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_cached_gradients_are_those_of_the_whole_batch(tiny, dtype, tolerance):
    model = model_of(tiny, dropout=0.0)
    whole, loss = gradients(model, grad_cache.direct, 1 << 20, dtype=dtype)
    cached, cached_loss = gradients(model, grad_cache.cached, 32, dtype=dtype)
    assert relative(cached, whole) < tolerance
    assert cached_loss == pytest.approx(loss, rel=tolerance)


@pytest.mark.parametrize("kind", ["bert", "separate", "dpr"])
def test_cached_gradients_are_exact_with_dropout_and_for_two_encoders(tiny, tmp_path, kind):
    if kind == "dpr":
        dpr_pair(tmp_path / "pair", projection=8)
        model = DualEncoder(read_checkpoint(locate(tmp_path / "pair")))
    else:
        model = model_of(tiny, separate=kind == "separate")
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        direct, _ = gradients(model, grad_cache.direct, 32, dtype=dtype)
        cached, _ = gradients(model, grad_cache.cached, 32, dtype=dtype)
        assert relative(cached, direct) < tolerance


def test_without_the_same_dropout_or_the_whole_batch_gradients_would_be_wrong(tiny):
    model = model_of(tiny)
    direct, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64)
    unrepeated, _ = gradients(model, grad_cache.cached, 32, dtype=torch.float64, replay=False)
    assert relative(unrepeated, direct) > 0.1
    model = model_of(tiny, dropout=0.0)
    whole, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64, hard=0)
    accumulated, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64, naive=True, hard=0)
    assert relative(accumulated, whole) > 0.1


# The loop


def trained(folder, tiny, *, steps=8, until=None, **changes):
    made = corpus(12)
    recipe = Recipe(**({"batch_size": 4, "learning_rate": 1e-3, "evaluate_every": 3, "compute": "fp32"} | changes))
    loop = Loop(model_of(tiny), made, recipe, steps=steps, folder=folder)
    resumed = loop.resume()
    ended = loop.run(made, until=until)
    return loop, ended, resumed


def state(model):
    return torch.cat([value.reshape(-1) for value in model.state_dict().values()])


def test_a_resumed_run_ends_with_the_same_bits_and_the_same_log(tiny, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "log.jsonl").write_text('{"kind": "step", "step": 0, "loss": 99.0}\n')  # cut off before any
    whole, _, _ = trained(tmp_path / "whole", tiny)
    _, _, resumed = trained(tmp_path / "parts", tiny, until=5)
    assert not resumed
    # What a crash left behind of steps that no checkpoint has.
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 6, "loss": 99.0}\n{"kind": "st')
    parts, _, resumed = trained(tmp_path / "parts", tiny)
    assert resumed
    assert torch.equal(state(whole.model), state(parts.model))
    losses = [
        [record["loss"] for record in read_log(tmp_path / name / "log.jsonl") if record["kind"] == "step"]
        for name in ("whole", "parts")
    ]
    assert len(losses[0]) == 8
    assert losses[0] == losses[1]


def test_only_the_last_and_the_best_checkpoint_are_kept_and_other_settings_are_refused(tiny, tmp_path):
    scores = iter([0.0, 0.1, 0.9, 0.5, 0.4])  # the first one before any step
    made = corpus(12)
    recipe = Recipe(batch_size=4, evaluate_every=2, learning_rate=1e-3)
    loop = Loop(model_of(tiny), made, recipe, steps=8, folder=tmp_path, validate=lambda _: {"mrr": next(scores)})
    loop.run(made)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000008"]
    assert run_checkpoints.best(tmp_path).name == "step-00000004"
    told = [record for record in read_log(tmp_path / "log.jsonl") if record["kind"] == "evaluation"]
    assert [(record["step"], record["mrr"]) for record in told] == [(0, 0.0), (2, 0.1), (4, 0.9), (6, 0.5), (8, 0.4)]
    other = Loop(model_of(tiny), made, replace(recipe, learning_rate=1e-4), steps=8, folder=tmp_path)
    with pytest.raises(InvalidInputError, match="other settings or other data"):
        other.resume()


def test_titles_are_left_out_of_the_share_of_passages_that_is_asked_for(tiny):
    made = corpus(12)
    titled = replace(made, passages=tuple((TOKENS[number], text) for number, (_, text) in enumerate(made.passages)))
    seen = {}

    def weights_after(corpus, share):
        """The trained weights; `seen` keeps the lengths of the passages that were encoded."""
        recipe = Recipe(batch_size=12, hard_negatives=0, title_dropout=share, compute="fp32", learning_rate=1e-3)
        loop = Loop(model_of(tiny, dropout=0.0), corpus, recipe, steps=4)
        lengths = seen.setdefault(share, [])

        def noted(model, arguments):
            side, inputs = arguments
            if side == "passage":
                lengths.extend(inputs["attention_mask"].sum(dim=1).tolist())

        with loop.model.register_forward_pre_hook(noted):
            loop.run(corpus)
        assert loop.truncated == 0
        return state(loop.model)

    untitled = weights_after(made, 0.0)
    assert not torch.equal(weights_after(titled, 0.0), untitled)
    assert torch.equal(weights_after(titled, 1.0), untitled)
    some = weights_after(titled, 0.5)
    assert not torch.equal(some, untitled)
    assert torch.equal(weights_after(titled, 0.5), some)
    assert sum(seen[1.0]) < sum(seen[0.5][:48]) < sum(seen[1.0]) + 48


def test_it_stops_when_nothing_gets_better(tiny, tmp_path):
    made = corpus(12)
    recipe = Recipe(batch_size=4, evaluate_every=1, patience=2)
    loop = Loop(model_of(tiny), made, recipe, steps=20, validate=lambda _: {"mrr": 0.0})
    assert loop.run(made).stopped_early
    assert loop.position.step == 3


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tiny, tmp_path):
    made = corpus(12)
    model = model_of(tiny)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    loop = Loop(model, made, Recipe(batch_size=4), steps=3, folder=tmp_path)
    with pytest.raises(EncoderError, match=r"step 0: the loss is nan.*rows:\d+.*passages p\d+"):
        loop.run(made)
    assert len(read_json(tmp_path / "diverged-0.json")["questions"]) == 4
    assert not list(tmp_path.glob("step-*"))


def test_eight_pairs_are_learnt_by_heart(tiny, tmp_path):
    made = corpus(8, hard=0)
    recipe = Recipe(batch_size=8, learning_rate=3e-3, evaluate_every=60)
    loop = Loop(model_of(tiny, normalise=True, dropout=0.0), made, recipe, steps=60, folder=tmp_path)
    loop.run(made)
    texts = token_texts(loop.model, made, recipe)
    scores = loop.model.encode("question", texts["question"]) @ loop.model.encode("passage", texts["passage"]).T
    assert (scores.argmax(axis=1) == np.arange(8)).all()
    # What was saved is what was trained.
    loaded = DualEncoder(saved(run_checkpoints.best(tmp_path)))
    assert torch.equal(state(loaded), state(loop.model))
    if pytest.importorskip("matplotlib"):
        assert draw_curves(tmp_path).stat().st_size > 1000


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_a_student_comes_to_order_passages_as_its_teacher_does(tiny, loss):
    made = corpus(12, hard=2)
    asked = []

    def teacher(pairs):
        """Against the labels: the longer text is the better one."""
        asked.extend(pairs)
        return [len(text) / 20 for _, (_, text) in pairs]

    recipe = Recipe(batch_size=12, hard_negatives=2, loss=loss, learning_rate=2e-3, evaluate_every=60, compute="fp32")
    with pytest.raises(InvalidInputError, match="learns from a teacher"):
        Loop(model_of(tiny), made, recipe, steps=1)
    loop = Loop(model_of(tiny, dropout=0.0), made, recipe, steps=60, teacher=teacher)

    def agreement():
        texts = token_texts(loop.model, made, recipe)
        scores = loop.model.encode("question", texts["question"]) @ loop.model.encode("passage", texts["passage"]).T
        better, texts_of = [], made.passages
        for question in range(12):
            first, *others = (made.gold[question][0], *made.hard[question])
            better += [
                (scores[question, first] > scores[question, at]) == (len(texts_of[first][1]) > len(texts_of[at][1]))
                for at in others
            ]
        return np.mean(better)

    loop.run(made)
    assert agreement() > 0.9
    assert len(asked) == len(set(asked)) == 36  # each pair once, however many epochs ask for it


@pytest.mark.parametrize("kind", ["projection", "separate", "dpr"])
def test_every_shape_of_encoder_is_saved_as_a_checkpoint(tiny, tmp_path, kind):
    if kind == "dpr":
        dpr_pair(tmp_path / "pair", projection=8)
        model = DualEncoder(read_checkpoint(locate(tmp_path / "pair")), projection=4)
    else:
        model = model_of(tiny, projection=8 if kind == "projection" else 0, separate=kind == "separate")
    made = corpus(12)
    loop = Loop(model, made, Recipe(batch_size=4, learning_rate=1e-3), steps=2, folder=tmp_path / "run")
    loop.run(made)
    checkpoint = saved(run_checkpoints.last(tmp_path / "run"))
    assert checkpoint.shared == (kind == "projection")
    assert checkpoint.passage.dimension == {"projection": 8, "separate": 32, "dpr": 4}[kind]
    loaded = DualEncoder(checkpoint)
    texts = token_texts(model, made, loop.recipe)
    for side in ("question", "passage"):
        assert np.allclose(loaded.encode(side, texts[side]), model.encode(side, texts[side]), atol=1e-6)


def test_the_learning_rate_rises_and_falls_in_lines():
    factors = [schedule(step, 10, 0.2) for step in range(10)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


# Several processes


def share(rank, size, folder, address):
    """One of two processes: writes the gradient of the whole batch, formed of its part of it."""
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": address}
    from dpr_lance.trainer.distributed import join

    torch.set_num_threads(1)
    made = corpus(12)
    model = model_of(folder, dropout=0.0)
    loop = Loop(model, made, Recipe(batch_size=5, compute="fp32", max_gradient_norm=1e9), steps=2, group=join())
    loop.run(made, until=1)
    gradient = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
    torch.save(gradient, folder / f"gradient-{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tiny):
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = str(found.getsockname()[1])
    share(0, 1, tiny, address)
    torch.multiprocessing.spawn(share, (2, tiny, address), nprocs=2)
    alone, first, second = (
        torch.load(tiny / f"gradient-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    assert torch.equal(first, second)
    assert relative(first, alone) < 1e-5


# Settings


def test_settings_from_a_file_are_checked_and_what_is_given_wins(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('out = "mine"\nquestions = "nq.jsonl"\n[recipe]\nbatch_size = 8\n[mining]\ndepth = 20\n')
    run = read_run(path, batch_size=16, epochs=None, out="other")
    assert run == Run(
        out="other",
        questions=("nq.jsonl",),
        recipe=Recipe(batch_size=16),
        mining=replace(Run("o", ("q",)).mining, depth=20),
    )
    for line, reason in [
        ("batch = 3", "unknown settings batch"),
        ("loss = 'mse'", "loss='mse' is not one of nll, triplet, margin-mse, kl"),
        ("batch_size = 0", "batch_size=0: at least 1"),
        ("learning_rate = -1.0", "learning_rate=-1.0"),
        ("warmup = 1.5", "warmup=1.5"),
        ("title_dropout = 2.0", "title_dropout=2.0 is a share"),
    ]:
        path.write_text(f'out = "mine"\nquestions = ["nq.jsonl"]\n[recipe]\n{line}\n')
        with pytest.raises(InvalidInputError, match="^.*" + reason.replace("=", ".")):
            read_run(path)
    path.write_text("questions = []")
    with pytest.raises(InvalidInputError, match="out must be named"):
        read_run(path)


def test_training_loads_no_lancedb():
    code = "import sys, dpr_lance.trainer.training; assert not any(n.startswith('lancedb.') for n in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
