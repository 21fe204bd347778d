"""Searches are the same where LanceDB hides from us what it does not publish, on real tables."""

import json
import subprocess
import sys

import dpr_lance
from dpr_lance import HashEncoder

HIDDEN = '''
import sys
import lancedb.background_loop
from lancedb.table import LanceTable

class Hidden:
    """LanceDB's own code still finds its table, ours does not."""

    def __set__(self, table, inner):
        table.__dict__["_table"] = inner

    def __get__(self, table, owner):
        if sys._getframe(1).f_globals["__name__"].startswith("dpr_lance"):
            raise AttributeError("_table")
        return self if table is None else table.__dict__["_table"]

LanceTable._table = Hidden()  # the private part that is hidden here
del lancedb.background_loop.LOOP
'''

SEARCHED = """
import json, threading
import dpr_lance
from dpr_lance import DprLanceError, HashEncoder

def found(retriever):
    questions = ["mountain range", "a river in the Alps"]
    modes = ("hybrid", "dense", "bm25")
    return [[[hit.id, hit.score] for hit in hits] for mode in modes for hits in retriever.search(questions, mode=mode)]

folder = sys.argv[1]
with dpr_lance.connect(folder, encoder=HashEncoder(dimension=64), resident_bytes=0) as retriever:
    before = found(retriever)
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=64)) as writer:
        writer.add([{"id": "jura", "text": "The Jura is a mountain range"}])
    filtered = len(retriever.search("river", where="year > 2004"))
    answers = {"before": before, "after": found(retriever), "filtered": filtered}
answers["threads"] = [thread.name for thread in threading.enumerate() if thread.name == "dpr_lance-reads"]
try:
    with dpr_lance.connect("memory://", encoder=HashEncoder(dimension=64)) as retriever:
        retriever.add([{"text": "one"}])
        retriever.search("one")
except DprLanceError as error:
    answers["memory"] = str(error)
print(json.dumps(answers))
"""


def searched(folder, *, hidden):
    code = (HIDDEN if hidden else "import sys") + SEARCHED
    done = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_without_the_private_parts_the_public_ones_find_the_same(tmp_path, documents):
    answers = {}
    for hidden in (False, True):
        folder = tmp_path / str(hidden)
        with dpr_lance.connect(folder, encoder=HashEncoder(dimension=64)) as retriever:
            retriever.add(documents)
        answers[hidden] = searched(folder, hidden=hidden)
    private, public = answers[False], answers[True]
    assert (private.pop("threads"), public.pop("threads")) == ([], ["dpr_lance-reads"])
    assert "use a folder" in public.pop("memory")
    assert private == public
    assert len(public["after"][0]) == len(documents) + 1
