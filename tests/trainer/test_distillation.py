"""A teacher's scores: asked for once, also by the next process."""

import numpy as np
import pytest
from dpr_lance.trainer.distillation import TeacherScores, reranker_teacher

from dpr_lance import InvalidInputError, PassageText, ReaderError
from tests.trainer.tiny_runs import corpus


class Counting:
    """Scores by the length of the text, and keeps what it was asked."""

    def __init__(self, value=None):
        self.asked, self.value = [], value

    def score(self, question, passages):
        assert all(isinstance(passage, PassageText) for passage in passages)
        self.asked.append((question, len(passages)))
        return np.array([len(passage.text) if self.value is None else self.value for passage in passages], np.float32)


KEYS = [(0, 1), (3, 3), (0, 2), (3, 1), (0, 1)]


def test_each_pair_is_scored_once_and_a_line_that_was_cut_off_again(tmp_path):
    made, file = corpus(4), tmp_path / "scores.jsonl"
    first = Counting()
    scores = TeacherScores(reranker_teacher(first), file)
    expected = [len(made.passages[passage][1]) for _, passage in KEYS]
    assert scores.of_pairs(KEYS, made) == expected
    assert scores.of_pairs([(1, 1)], made) == [len(made.passages[1][1])]
    assert first.asked == [(made.questions[0], 2), (made.questions[3], 2), (made.questions[1], 1)]
    assert scores.of_pairs(KEYS, made) == expected
    assert len(first.asked) == 3
    file.write_text(file.read_text()[:-3])
    second = Counting()
    again = TeacherScores(reranker_teacher(second), file)
    assert again.of_pairs([*KEYS, (1, 1)], made) == [*expected, len(made.passages[1][1])]
    assert second.asked == [(made.questions[1], 1)]
    third = Counting()
    assert TeacherScores(reranker_teacher(third), file).of_pairs([*KEYS, (1, 1)], made)
    assert not third.asked


def test_a_file_of_something_else_is_named(tmp_path):
    file = tmp_path / "scores.jsonl"
    file.write_text('{"a": 1.0}\nno scores\n')
    with pytest.raises(InvalidInputError, match=r"scores\.jsonl:2: it holds no scores of a teacher"):
        TeacherScores(reranker_teacher(Counting()), file)


def test_a_teacher_that_gives_no_numbers_is_named():
    with pytest.raises(ReaderError, match="gave nan"):
        TeacherScores(reranker_teacher(Counting(np.nan))).of_pairs(KEYS, corpus(4))
    with pytest.raises(InvalidInputError, match="one finite score each"):
        TeacherScores(lambda pairs: [1.0]).of_pairs(KEYS, corpus(4))
