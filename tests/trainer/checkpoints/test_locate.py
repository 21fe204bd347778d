"""Where checkpoints are found: folders, short names, the Hub."""

import shutil

import pytest
from dpr_lance.trainer.bundles.export import cached_bundle
from dpr_lance.trainer.checkpoints.locate import SHORT_NAMES, Located, locate

from dpr_lance import EncoderError, InvalidInputError
from dpr_lance.encoders.bundle import open_bundle


def test_short_names_are_the_published_pairs(hub):
    """dpr-single-nq is the question and the context encoder, at the commits that the cache has."""
    question, passage = SHORT_NAMES["dpr-single-nq"]
    first, second = hub(question, "1" * 40), hub(passage, "2" * 40)
    located = locate("dpr-single-nq")
    assert (located.question, located.passage) == (first, second)
    assert located.name == "dpr-single-nq"
    assert located.source == f"{question}@{'1' * 40} + {passage}@{'2' * 40}"


def test_a_revision_is_pinned_to_its_commit(hub):
    hub("someone/encoder", "a" * 40)
    tagged = hub("someone/encoder", "b" * 40, branch="v1")
    assert locate("someone/encoder").source == f"someone/encoder@{'a' * 40}"
    assert locate("someone/encoder", revision="v1") == Located(
        "encoder", f"someone/encoder@{'b' * 40}", tagged, tagged, tagged
    )
    assert locate("someone/encoder", revision="b" * 40).question == tagged
    pair = locate(("someone/encoder", "someone/encoder"), revision=("a" * 40, "b" * 40))
    assert pair.question != pair.passage


def test_a_repository_with_pickled_weights_alone_is_found(hub):
    """The published DPR pairs have no safetensors."""
    folder = hub("someone/old", "c" * 40, weights="pytorch_model.bin")
    assert locate("someone/old").passage == folder


def test_a_hub_checkpoint_in_the_cache_needs_the_hub_no_more(hub, pipeline, tmp_path, monkeypatch):
    """Made once, found again without the repository; the card has the commit; another revision is another bundle."""
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    snapshot = hub("someone/encoder", "a" * 40)
    shutil.copytree(pipeline, snapshot, dirs_exist_ok=True)
    folder = cached_bundle("someone/encoder", precision="fp32")
    assert open_bundle(folder).card.source == f"someone/encoder@{'a' * 40}"
    assert open_bundle(folder).card.name == "encoder"
    shutil.rmtree(tmp_path / "hub")
    assert cached_bundle("someone/encoder", precision="fp32") == folder
    with pytest.raises(EncoderError, match="at revision 'v2'"):
        cached_bundle("someone/encoder", precision="fp32", revision="v2")


@pytest.mark.parametrize("named", ["someone/nothing", "nothing"])
def test_a_hub_name_that_cannot_be_had_is_an_error(hub, named):
    with pytest.raises(EncoderError, match=f"no folder is named '{named}'.*HF_HUB_OFFLINE"):
        locate(named)


@pytest.mark.parametrize("named", ["./nothing", "/no/such/folder", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(named):
    with pytest.raises(EncoderError, match="does not exist"):
        locate(named)


def test_a_local_folder_has_no_revision(bert):
    with pytest.raises(InvalidInputError, match="local path"):
        locate(bert, revision="main")
    with pytest.raises(InvalidInputError, match="two revisions"):
        locate("someone/encoder", revision=("a", "b"))
