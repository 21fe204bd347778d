"""Children of a process in which LanceDB works are refused at once, whatever the threads were doing; others work."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import dpr_lance
from dpr_lance import HashEncoder, TableError

CHILDREN = 15
PATIENCE = 30
"""Seconds after which a child counts as hanging."""


def exit_codes(*works):
    """The exit codes of forked children, one for each of these calls; -9 for one that hangs.

    42 is a refusal because of the fork, 0 a return.
    """
    children = []
    for work in works:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python and LanceDB warn of forking itself, which is what this is about
            child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except TableError as error:
                code = 42 if "was forked from one in which LanceDB was in use" in str(error) else 2
            finally:
                os._exit(code)
        children.append(child)
    until = time.monotonic() + PATIENCE
    return [waited(child, until) for child in children]


def waited(child, until):
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def searched(retriever, documents):
    """A retriever that three threads search all the time."""
    retriever.add(documents)
    over = threading.Event()

    def search():
        while not over.is_set():
            retriever.search("river", 3)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield retriever
    over.set()
    for thread in threads:
        thread.join()


def test_every_call_in_a_forked_child_is_refused_at_once(searched, folder):
    calls = [
        lambda: searched.search("river"),
        lambda: searched.search(["river", "alps"], mode="dense"),
        lambda: searched.add([{"text": "x"}]),
        searched.embed,
        lambda: searched.reembed(HashEncoder(dimension=8)),
        lambda: searched.delete("alps"),
        lambda: searched.get("alps"),
        lambda: searched.context("alps#0"),
        lambda: len(searched),
        lambda: next(searched.passages()),
        searched.optimize,
        searched.calibrate,
        searched.info,
        searched.warm,
        lambda: dpr_lance.connect(folder),
    ]
    assert len(calls) == CHILDREN
    assert exit_codes(*calls) == [42] * CHILDREN
    assert len(searched.search("river")) == 4


def test_closing_in_a_forked_child_does_not_wait(searched):
    assert exit_codes(*[searched.close] * CHILDREN) == [0] * CHILDREN
    assert len(searched.search("river")) == 4


def in_process(source, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_process_forked_before_anything_is_opened_may_connect(tmp_path):
    source = """
import os, sys, dpr_lance
child = os.fork()
if child == 0:
    with dpr_lance.connect(sys.argv[1], encoder=dpr_lance.HashEncoder(16)) as retriever:
        retriever.add([{"text": "a river"}])
        print(len(retriever.search("river")))
    sys.exit()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = in_process(source, tmp_path / "t")
    assert done.stdout.split() == ["1", "0"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which threads a process has")
def test_a_fork_beside_plain_lancedb_is_refused_too(tmp_path):
    source = """
import os, sys, lancedb, dpr_lance
from dpr_lance import connect
lancedb.connect(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        connect(sys.argv[1])
    except dpr_lance.TableError as error:
        print(error)
    sys.exit()
os.waitpid(child, 0)
"""
    assert "forked" in in_process(source, tmp_path / "t").stdout


def test_forked_children_end_as_other_processes_do(tmp_path):
    source = """
import os, sys, threading, dpr_lance
retriever = dpr_lance.connect(sys.argv[1], encoder=dpr_lance.HashEncoder(16))
retriever.add([{"text": "a river"}])
threading.Thread(target=lambda: [retriever.search("river") for _ in range(50)]).start()
for _ in range(8):
    child = os.fork()
    if child == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(retriever))
"""
    done = in_process(source, tmp_path / "t")
    assert done.stdout.split() == ["7"] * 8 + ["1"], done.stderr
