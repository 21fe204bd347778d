"""A training loads no more than it needs."""

import subprocess
import sys


def test_training_loads_no_lancedb():
    code = "import sys, dpr_lance.trainer.training; assert not any(n.startswith('lancedb.') for n in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mining_loads_no_torch():
    code = "import sys, dpr_lance.trainer.table_questions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
