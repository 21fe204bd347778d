"""The encoder without weights: the contract, the same vectors everywhere, and similar ones for similar wordings."""

import os
import subprocess
import sys

import pytest

from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.errors import InvalidInputError
from tests.contracts.encoder_contract import EncoderContract


class TestHashEncoderContract(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return HashEncoder()


def test_similar_wordings_have_similar_hash_vectors():
    encoder = HashEncoder(128)
    passages = [("", "The cat sat on the mat."), ("", "Interest rates rose in March."), ("Cats", "Cats sit on mats.")]
    scores = encoder.encode_questions(["where did the cat sit?", "did interest rates rise?"]) @ (
        encoder.encode_passages(passages).T
    )
    assert scores[0, 0] > scores[0, 1]
    assert scores[0, 2] > scores[0, 1]
    assert scores[1].argmax() == 1


def test_hash_vectors_are_the_same_in_every_process():
    program = "from dpr_lance import HashEncoder; print(HashEncoder(16).encode_questions(['Hello 東京']).tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {(str(HashEncoder(16).encode_questions(["Hello 東京"]).tolist()) + os.linesep).encode()}


def test_the_dimension_of_a_hash_encoder_must_be_positive():
    with pytest.raises(InvalidInputError, match="dimension=0: at least 1 is needed"):
        HashEncoder(0)
    assert HashEncoder(3).card.fingerprint != HashEncoder(4).card.fingerprint
