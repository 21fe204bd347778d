"""The error tree: every error can be handed from one process to another."""

import importlib
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import dpr_lance
from dpr_lance import DprLanceError, MissingExtraError
from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.table.contention import SupersededError

MADE = {
    MissingExtraError: lambda: MissingExtraError("a plot", "eval"),
    UnencodableError: lambda: UnencodableError("no vector", {3: "it is blank"}),
}
"""Errors that are not made of a message alone."""


def tree(kind):
    yield kind
    for below in kind.__subclasses__():
        if below.__module__.startswith("dpr_lance"):
            yield from tree(below)


def every_error():
    for module in pkgutil.walk_packages(dpr_lance.__path__, "dpr_lance."):
        if not module.name.startswith(("dpr_lance.trainer", "dpr_lance.integrations.")):
            importlib.import_module(module.name)
    return {*tree(DprLanceError), SupersededError}


@pytest.mark.parametrize("kind", sorted(every_error(), key=lambda kind: kind.__name__))
def test_an_error_survives_pickling_with_all_that_it_says(kind):
    error = MADE.get(kind, lambda: kind("what, where, and what to do"))()
    error.add_note("a hint")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert (str(copy), copy.args) == (str(error), error.args)
        assert vars(copy) == vars(error)


def plot():
    raise MissingExtraError("a plot", "eval")


def test_an_error_comes_out_of_a_pool_of_processes():
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(MissingExtraError, match=r"a plot needs packages.*dpr-lance\[eval\]") as caught,
    ):
        pool.submit(plot).result()
    assert caught.value.extra == "eval"
