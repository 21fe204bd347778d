"""A late-interaction bundle gives the checkpoint's token vectors and scores: parity with sentence-transformers."""

import numpy as np
import pytest
import torch
from dpr_lance.trainer.bundles.export_late_interaction import export_late_interaction
from dpr_lance.trainer.bundles.kinds import checkpoint_kind
from safetensors.torch import load_file, save_file

from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.late_interaction import LateInteraction, max_sim
from dpr_lance.reader.late_interaction_loading import load_late_interaction, load_reranker
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reranker import PassageText
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer import late_interaction_made as made
from tests.trainer import readers_made as readers

library = pytest.importorskip("sentence_transformers")
MultiVectorEncoder = pytest.importorskip("sentence_transformers.multi_vector_encoder").MultiVectorEncoder

PARITY = 1e-4
QUESTIONS = ["What is the capital of France?", "who wrote faust", "dense passage retrieval question " * 9, "東京?"]
PASSAGES = [PassageText(title, text) for title, text in checkpoints.PASSAGES]
torch.set_num_threads(1)  # the models are tiny, and waiting for a second thread costs more than they do


def saved_again(folder, **expansion):
    """The layout that sentence-transformers itself writes."""
    made.pylate(folder.with_name("pylate"))
    model = MultiVectorEncoder(str(folder.with_name("pylate")), device="cpu")
    if expansion:
        model[0].query_length = expansion.pop("query_length", None)
        model[0].query_expansion = expansion.pop("query_expansion")
    model.save_pretrained(str(folder))


LAYOUTS = {
    "ColBERT": made.colbert,
    "ColBERT that attends": lambda folder: made.colbert(folder, attend_to_mask_tokens=True),
    "ColBERT with punctuation": lambda folder: made.colbert(folder, mask_punctuation=False),
    "PyLate": made.pylate,
    "PyLate that attends": lambda folder: made.pylate(folder, attend_to_expansion_tokens=True),
    "PyLate without augmentation": lambda folder: made.pylate(folder, do_query_expansion=False),
    "PyLate with words before texts": lambda folder: made.pylate(folder, prefixes=("who: ", "is: ")),
    "PyLate with prompts": lambda folder: made.pylate(folder, prompts={"query": "who ", "document": "of "}),
    "sentence-transformers": saved_again,
    "sentence-transformers, at least": lambda folder: saved_again(
        folder, query_length=40, query_expansion={"strategy": "min", "attend": False, "length": 12}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_token_vectors_and_scores_agree_with_sentence_transformers(layout, tmp_path):
    """Markers, lengths, augmentation, attention to it, punctuation and projection are the checkpoint's."""
    LAYOUTS[layout](tmp_path / "source")
    card = export_late_interaction(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert card.dimension == made.DIMENSION
    model = MultiVectorEncoder(str(tmp_path / "source"), device="cpu")
    ours = LateInteraction(tmp_path / "out")
    texts = [f"{title} {text}" if title else text for title, text in PASSAGES]
    documents = model.encode_document(texts, batch_size=1)
    for found, expected in zip(ours.passage_vectors(PASSAGES), documents, strict=True):
        np.testing.assert_allclose(found, np.asarray(expected), atol=PARITY)
    for question in QUESTIONS:
        expected = model.encode_query([question], batch_size=1)
        np.testing.assert_allclose(ours.question_vectors(question), np.asarray(expected[0]), atol=PARITY)
        similarity = np.asarray(model.similarity(expected, documents))[0]
        np.testing.assert_allclose(ours.score(question, PASSAGES), similarity, atol=10 * PARITY)


def test_the_card_says_what_the_files_say(tmp_path):
    made.colbert(tmp_path / "colbert")
    card = export_late_interaction(tmp_path / "colbert", tmp_path / "one", precision="fp32", name="mine")
    assert (card.name, card.question_prefix, card.passage_prefix) == ("mine", "[unused0] ", "[unused1] ")
    assert (card.question_max_tokens, card.augmented_tokens, card.passage_max_tokens) == (16, 16, 60)
    assert "," in card.skipped_tokens
    made.pylate(tmp_path / "pylate")
    card = export_late_interaction(tmp_path / "pylate", tmp_path / "two", precision="fp32", max_tokens=40)
    assert (card.question_max_tokens, card.passage_max_tokens, card.skipped_tokens) == (20, 40, (".", ","))
    assert LateInteraction(tmp_path / "two").card == card


def test_markers_are_one_token_each(tmp_path):
    """Read as text, [unused0] would be several pieces, which the model was not trained on."""
    made.colbert(tmp_path / "source")
    export_late_interaction(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert LateInteraction(tmp_path / "out").passage_vectors([PassageText("", "of the")])[0].shape == (5, 16)


def test_int8_keeps_the_order(tmp_path):
    made.colbert(tmp_path / "source")
    scores = []
    for precision in ("fp32", "int8"):
        export_late_interaction(tmp_path / "source", tmp_path / precision, precision=precision)
        model = LateInteraction(tmp_path / precision)
        scores.append(np.concatenate([model.score(question, PASSAGES) for question in QUESTIONS]))
    assert np.corrcoef(*scores)[0, 1] > 0.99
    assert not np.array_equal(*scores)


def test_each_kind_of_checkpoint_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    makers = {
        "late-interaction": made.pylate,
        "reader": readers.cross_encoder,
        "encoder": lambda f: checkpoints.plain(f, "bert"),
    }
    for kind, make in makers.items():
        make(tmp_path / kind)
        assert checkpoint_kind(str(tmp_path / kind)) == kind
    assert isinstance(load_reranker(tmp_path / "reader"), Reader)
    loaded = load_reranker(tmp_path / "late-interaction")
    assert isinstance(loaded, LateInteraction)
    assert loaded.bundle.precision == "int8"
    assert loaded.bundle.folder.is_relative_to(tmp_path / "cache")
    assert load_late_interaction(tmp_path / "late-interaction").bundle.folder == loaded.bundle.folder
    assert isinstance(load_reranker(loaded.bundle.folder), LateInteraction)


def test_the_bundle_in_the_cache_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path))
    with pytest.raises(ReaderError, match=r"dpr-lance export CHECKPOINT .*bundles/late-interaction"):
        load_late_interaction()
    made.colbert(tmp_path / "source")
    export_late_interaction(tmp_path / "source", tmp_path / "bundles" / "late-interaction", precision="fp32")
    assert load_reranker("late-interaction").card.name == "source"
    with pytest.raises(ReaderError, match="holds fp32 weights, not 'int8'"):
        load_late_interaction(precision="int8")


def without(name):
    def make(folder):
        made.colbert(folder)
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if name == "linear.weight":
            checkpoints.edit_json(folder / "config.json", dim=None)

    return make


def with_pooling(folder):
    made.pylate(folder)
    modules = [{"idx": at, "path": "", "type": name} for at, name in enumerate(("Transformer", "Pooling", "Dense"))]
    checkpoints.write_json(folder / "modules.json", modules)


def without_dense(folder):
    made.pylate(folder)
    checkpoints.write_json(folder / "modules.json", [{"idx": 0, "path": "", "type": "Transformer"}])


def misshapen(folder):
    made.colbert(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"linear.weight": torch.zeros(16, 8)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: checkpoints.plain(folder, "bert"), r"is not a late-interaction checkpoint"),
        (without("linear.weight"), r"has no linear\.weight, the projection"),
        (without("bert.embeddings.LayerNorm.weight"), r"1 weights of BertModel are missing"),
        (misshapen, r"linear\.weight has 8 columns, the transformer 32"),
        (with_pooling, r"the modules Transformer, Pooling, Dense are not supported"),
        (without_dense, r"lists no Dense"),
        (lambda folder: made.colbert(folder, query_maxlen=999), r"questions of 999 tokens exceed"),
    ],
)
def test_what_is_not_one_is_named(make, message, tmp_path):
    make(tmp_path / "source")
    with pytest.raises(ReaderError, match=message):
        export_late_interaction(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert not (tmp_path / "out").exists()


def test_impossible_lengths_and_places_are_refused(tmp_path):
    made.colbert(tmp_path / "source")
    with pytest.raises(InvalidInputError, match="max_tokens=5000"):
        export_late_interaction(tmp_path / "source", tmp_path / "out", max_tokens=5000)
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInputError, match="exists: choose another place"):
        export_late_interaction(tmp_path / "source", tmp_path / "out")


def test_max_sim_is_the_sum_of_the_best_products():
    """Equation 3 by hand: the first row finds 1, the second finds 0.8."""
    question = np.array([[1, 0], [0, 1]], dtype=np.float32)
    passage = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    assert max_sim(question, passage) == pytest.approx(1.8)
