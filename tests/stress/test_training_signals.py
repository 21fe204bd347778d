"""SIGTERM to a training of its own process: the step is finished, kept, and said."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.trainer.conftest import place, tiny
from tests.trainer.tiny_runs import steps_in

pytestmark = pytest.mark.stress
__all__ = ["place", "tiny"]  # fixtures


def test_sigterm_ends_the_command_with_its_step_kept(place, tmp_path):
    """A process of its own: the command line, a real signal, and the same command again."""
    config = tmp_path / "run.toml"
    config.write_text(
        f'out = "{tmp_path}/out"\nquestions = ["{place}/questions.jsonl"]\ntable = "{place}/table.lance"\n'
        f'encoder = "{place}/encoder"\nprecision = "fp32"\nvalidation_questions = 3\nvalidation_passages = 20\n'
        f'[recipe]\nsteps = 2000\nbatch_size = 4\nevaluate_every = 2000\ncompute = "fp32"\n'
    )
    environment = os.environ | {"LANCEDB_LOG": "error", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "dpr_lance.cli.app", "train", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("training: step 1 of"):
                time.sleep(0.2)
                process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 143, said
    assert any("the same command continues from there" in line for line in said), said
    (step,) = steps_in(tmp_path / "out-training")
    assert 0 < step < 2000
