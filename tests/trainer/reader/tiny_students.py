"""Tiny readers in training, and questions for them: each answer is a number in the passage of the question's word."""

import torch
from dpr_lance.trainer.checkpoints.tokenizer import load_tokenizer
from dpr_lance.trainer.examples import Example, Examples, KnownPassage
from dpr_lance.trainer.reader.batches import make_reader_corpus
from dpr_lance.trainer.reader.config import ReaderRecipe
from dpr_lance.trainer.reader.loop import ReaderLoop
from dpr_lance.trainer.reader.model import ReaderModel
from dpr_lance.trainer.reader.student import ReaderStudent
from transformers import BertModel

from dpr_lance.reader.card import ReaderCard
from tests.trainer.tiny_runs import TOKENS

CARD = ReaderCard(name="tiny", fingerprint="training", max_tokens=64, question_max_tokens=16, title_max_tokens=8)
RECIPE = ReaderRecipe(batch_size=4, passages=3, learning_rate=1e-3, evaluate_every=100, compute="fp32")


def examples(questions=8, *, negatives=2, answers=True, scores=False):
    """Questions of one word; its passage has the word and a number, which is the answer."""
    words = TOKENS[:questions]
    passages = {
        f"p{at}": KnownPassage(f"p{at}", "tower" if at % 2 else "", f"of {word} is {at} , what {word} the tower")
        for at, word in enumerate(words)
    }
    rows = tuple(
        Example(
            f"rows:{at}",
            f"what is {word}",
            (f"p{at}",),
            tuple(f"p{(at + 1 + further) % questions}" for further in range(negatives)),
            answers=(str(at),) if answers else (),
            teacher_scores={f"p{other}": float(other) for other in range(questions)} if scores else {},
        )
        for at, word in enumerate(words)
    )
    return Examples("tiny", rows, passages)


def corpus(questions=8, **options):
    return make_reader_corpus([examples(questions, **options)])


def student_of(folder, *, dropout=None, card=CARD, **heads):
    """A student on the tiny BERT of a folder, with new heads."""
    from dpr_lance.trainer.checkpoints.description import read_checkpoint
    from dpr_lance.trainer.checkpoints.locate import locate
    from dpr_lance.trainer.checkpoints.overrides import Overrides

    tokenizer = load_tokenizer(read_checkpoint(locate(folder), Overrides(pooling="cls", normalise=False)))
    torch.manual_seed(0)
    options = {} if dropout is None else {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    body = BertModel.from_pretrained(folder, local_files_only=True, **options)
    return ReaderStudent(ReaderModel(body, **heads), card, tokenizer)


def looped(tiny, folder, *, steps=6, recipe=RECIPE, made=None, **options):
    made = made or corpus()
    return ReaderLoop(student_of(tiny), made, recipe, steps=steps, folder=folder, **options), made
