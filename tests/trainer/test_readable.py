"""Texts that the tokenizer makes no token of."""

import pytest
from dpr_lance.trainer.training import train

from dpr_lance import InvalidInputError
from tests.trainer.checkpoints_made import WORDS
from tests.trainer.tiny_runs import rows, run_of


def test_texts_that_the_tokenizer_makes_nothing_of_are_named_and_left_out(place, tmp_path):
    bad = [
        {"question": "\ufffd" * 5, "positives": ["p1"]},
        {"question": "who wrote faust", "positives": ["page"]},
        {"question": "what is the tower", "positives": ["p3", "page"], "hard_negatives": ["page", "p4"]},
    ]
    path = rows(tmp_path, *bad)
    first = len(WORDS.split()) + 1
    with pytest.raises(
        InvalidInputError, match=rf"2 bad rows\n.*:{first}: the question is blank.*\n.*:{first + 1}: its"
    ):
        train(run_of(place, tmp_path, questions=(str(path),)))
    said = []
    run = run_of(place, tmp_path, questions=(str(path),), on_error="skip", rounds=1)
    report = train(run, say=said.append)
    assert report.steps == 2
    assert report.train_questions + report.dev_questions == len(WORDS.split()) + 1
    told = "\n".join(said)
    assert f"skipped: {path}:{first}: the question is blank" in told
    assert f"skipped: {path}:{first + 1}: its positive passage 'page" in told
    # Where titles are dropped, the text alone has to have a token.
    titled = run_of(place, tmp_path, out=str(tmp_path / "titled"), recipe={"title_dropout": 0.5})
    assert train(titled).steps == 2
