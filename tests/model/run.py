"""Runs random steps on a table and its model, and reports the fewest steps that fail, to be replayed.

replay([("add", {...}), ("optimize", {"by": 0})])  # with the names of tests/model/values.py and of Python's modules
"""

import contextlib
import pprint
import random
import tempfile
import time
from pathlib import Path

from dpr_lance.ingest import ingestion
from tests.model.choices import Choices
from tests.model.plain_steps import STEPS
from tests.model.world import BATCH, World

SHRINK_SECONDS = 60


@contextlib.contextmanager
def batches_of_few_documents():
    """Let `add` commit few documents at once."""
    size = ingestion.BATCH_DOCUMENTS
    try:
        ingestion.BATCH_DOCUMENTS = BATCH
        yield
    finally:
        ingestion.BATCH_DOCUMENTS = size


@contextlib.contextmanager
def new_world():
    """Yield a world in a folder of its own."""
    with batches_of_few_documents(), tempfile.TemporaryDirectory(prefix="dpr-lance-") as place:
        world = World(Path(place))
        try:
            yield world
        finally:
            world.close()


def replay(steps):
    """Take these steps on a new table."""
    with new_world() as world:
        for name, arguments in steps:
            STEPS[name](world, **arguments)


def run(seed, steps, *, leave_out=(), shrink_seconds=SHRINK_SECONDS):
    """Take `steps` random steps on one table and return them.

    Raises `AssertionError` with the steps that fail, as few as `shrink_seconds` are enough to find.
    """
    choices = Choices(random.Random(seed), leave_out=leave_out)
    taken = []
    with new_world() as world:
        try:
            for _ in range(steps):
                taken.append(choices.step(world))
                STEPS[taken[-1][0]](world, **taken[-1][1])
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what is looked for
            failure = error
        else:
            return taken
    fewer = shrunk(taken, failure, shrink_seconds)
    shown = pprint.pformat(fewer, width=140, sort_dicts=False)
    raise AssertionError(f"seed {seed}, step {len(taken)} ({taken[-1][0]}): {failure!r}\nreplay({shown})") from failure


def shrunk(steps, failure, seconds):
    """Return fewer steps, with fewer documents, that go wrong in the same way."""
    until = time.monotonic() + seconds
    last = steps[-1]
    steps = [*_fewer(steps[:-1], lambda left: _fails_alike([*left, last], failure), until), last]
    for number, (name, arguments) in enumerate(steps):
        if "documents" in arguments:

            def fails(documents, number=number, name=name, arguments=arguments):
                tried = name, arguments | {"documents": documents}
                return bool(documents) and _fails_alike([*steps[:number], tried, *steps[number + 1 :]], failure)

            steps[number] = name, arguments | {"documents": _fewer(arguments["documents"], fails, until)}
    return steps


def _fewer(items, fails, until):
    """Return some of the items with which it still fails, leaving out ever smaller parts of them."""
    part = len(items)
    while part and time.monotonic() < until:
        start = 0
        while start < len(items) and time.monotonic() < until:
            fewer = items[:start] + items[start + part :]
            if fails(fewer):
                items = fewer
            else:
                start += part
        part //= 2
    return items


def _fails_alike(steps, failure):
    try:
        replay(steps)
    except Exception as error:  # noqa: BLE001
        return type(error) is type(failure) and _place(error) == _place(failure)
    return False


def _place(error):
    """Return where the tests or the library were when it went wrong."""
    trace, last = error.__traceback__, None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/tests/" in name or "/dpr_lance/" in name:
            last = name, trace.tb_lineno
        trace = trace.tb_next
    return last
