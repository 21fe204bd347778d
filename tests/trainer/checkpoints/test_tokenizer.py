"""The tokenizer of a checkpoint: its case, its length, its vocabulary."""

import json

import pytest
import transformers
from dpr_lance.trainer.checkpoints.tokenizer import load_tokenizer

from dpr_lance import EncoderError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import edit_json, write_json
from tests.trainer.checkpoints_read import read


def pieces(folder, text="Paris"):
    return load_tokenizer(read(folder)).encode(text, add_special_tokens=False).tokens


def test_a_cased_dpr_checkpoint_stays_cased(tmp_path):
    """transformers' DPR tokenizer lower-cases even when told not to, and writes both into its files."""
    checkpoints.dpr_pair(tmp_path / "pair", cased=True)
    assert pieces(tmp_path / "pair") == ["Paris"]
    for side, name in (("question", "DPRQuestionEncoderTokenizer"), ("passage", "DPRContextEncoderTokenizer")):
        folder = tmp_path / "pair" / side
        wrong = getattr(transformers, name).from_pretrained(folder, do_lower_case=False)
        assert wrong.tokenize("Paris") == ["paris"]  # the trap
        wrong.save_pretrained(folder)
        assert json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["lowercase"] is True
    assert pieces(tmp_path / "pair") == ["Paris"]


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("cased", [True, False])
def test_vocabulary_files_alone_are_enough(tmp_path, cased, stated):
    """vocab.txt with do_lower_case, or without: then the vocabulary tells, because one with capitals is cased."""
    checkpoints.dpr_pair(tmp_path / "pair", cased=cased)
    for side in ("question", "passage"):
        folder = tmp_path / "pair" / side
        (folder / "tokenizer.json").unlink()
        write_json(folder / "tokenizer_config.json", {"do_lower_case": not cased} if stated else {})
        checkpoints.write_vocabulary(folder, cased=cased)
    assert pieces(tmp_path / "pair") == ["Paris" if cased else "paris"]


def test_sentence_transformers_lower_case_means_the_text(tmp_path):
    """do_lower_case there lowers the text even for a cased tokenizer."""
    checkpoints.sentence_transformer(tmp_path / "source")
    checkpoints.bert_tokenizer(tmp_path / "source", cased=True)
    edit_json(tmp_path / "source" / "config.json", vocab_size=500)
    assert pieces(tmp_path / "source") == ["Paris"]
    edit_json(tmp_path / "source" / "sentence_bert_config.json", do_lower_case=True)
    assert pieces(tmp_path / "source") == ["paris"]


def test_padding_and_truncation_of_the_file_are_not_kept(pipeline):
    """MiniLM's tokenizer.json pads to 128 and cuts there."""
    values = checkpoints.read_json(pipeline / "tokenizer.json")
    fixed = {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None}
    values["padding"] = fixed | {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    values["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    write_json(pipeline / "tokenizer.json", values)
    tokenizer = load_tokenizer(read(pipeline))
    assert [len(tokenizer.encode(text).ids) for text in ("paris", "paris " * 30)] == [3, 32]


def test_a_tokenizer_of_another_model_is_refused(bert):
    edit_json(bert / "config.json", vocab_size=20)
    with pytest.raises(EncoderError, match="do not belong together"):
        load_tokenizer(read(bert, pooling="cls", normalise=False))


def test_a_checkpoint_without_tokenizer_is_an_error(bert):
    (bert / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"neither tokenizer.json nor vocab.txt"):
        load_tokenizer(read(bert, pooling="cls", normalise=False))
