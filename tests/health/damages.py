"""Random damages of a small table, and what a process that uses the table afterwards sees.

Run as a program it is that process: it reads a seed a line, damages a copy of the table and answers with what happened.
"""

import json
import random
import shutil
import subprocess
import sys
import threading
import traceback
import warnings
from collections import Counter
from pathlib import Path

from dpr_lance import DprLanceError, HashEncoder
from dpr_lance.table.index_policy import IndexPolicy
from tests import tables

ENCODER = HashEncoder(32)
WORDS = (
    *("river", "mountain", "glacier", "valley", "forest", "island", "desert"),
    *("canyon", "lake", "meadow", "stone", "water", "wind", "snow", "rain"),
)
QUESTIONS = ["river stone", "u77", "glacier valley u105"]
KINDS = ("flip", "flip", "truncate", "delete", "empty", "zero", "swap")
REBUILT = 4
"""Of so many damages one is rebuilt, which takes longer than all else."""
SECONDS = 60
"""After which a damage has hung, on a machine that is busy; the calls take a few tenths of a second."""


def documents(start, stop):
    choice = random.Random(start)
    for number in range(start, stop):
        text = " ".join([*choice.choices(WORDS, k=30), f"u{number}"])
        yield {"id": f"d{number}", "title": f"{choice.choice(WORDS)} t{number}", "text": text, "year": number}


def make_table(folder):
    """A table with every kind of file: several data files, deletions, all kinds of indexes, a small table."""
    with opened(folder) as retriever:
        retriever.add(documents(0, 80))
        retriever.optimize(filter_columns=["year"])
        retriever.add(documents(80, 100))
        retriever.delete(["d3", "d50", "d85"])
        retriever.add(documents(100, 110))
        retriever.calibrate(["river stone", "valley of snow"])


def opened(folder):
    """Open the table; a hundred rows have all indexes."""
    policy = IndexPolicy(vector_index_rows=60, rows_per_partition=16, scalar_index_rows=40)
    return tables.opened(folder, ENCODER, policy=policy, resident_bytes=0)


def damage(folder, choice):
    """Do one thing to one file; return what, and the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    # Each folder is as likely as the others, however many files it has.
    groups = {}
    for path in files:
        groups.setdefault(path.relative_to(folder).parts[:2], []).append(path)
    path = choice.choice(groups[choice.choice(sorted(groups))])
    kind, content = choice.choice(KINDS), bytearray(path.read_bytes())
    if kind == "flip":
        for _ in range(choice.choice([1, 1, 8])):
            content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
        path.write_bytes(content)
    elif kind == "zero":
        start = choice.randrange(len(content))
        content[start : start + 64] = bytes(len(content[start : start + 64]))
        path.write_bytes(content)
    elif kind == "truncate":
        path.write_bytes(content[: choice.randrange(len(content))])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "delete":
        path.unlink()
    else:
        other = choice.choice(
            [file for file in files if file.parent == path.parent] if choice.random() < 0.7 else files
        )
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    return kind, path.relative_to(folder)


def shown(hits):
    return [(hit.id, hit.title, hit.text, dict(hit.metadata), round(hit.score, 3)) for hit in hits]


def readings(retriever):
    """What is read, and must be what it was: name and call."""
    for mode in ("bm25", "dense", "hybrid"):
        yield mode, lambda mode=mode: [shown(hits) for hits in retriever.search(QUESTIONS, 8, mode=mode)]
    yield "where", lambda: shown(retriever.search("river", 5, where="year < 50"))
    yield "get", lambda: [(passage.id, passage.text) for passage in retriever.get(["d7", "d90", "d105"])]
    yield "count", lambda: len(retriever)
    yield "passages", lambda: sorted((passage.id, passage.text) for passage in retriever.passages())
    yield "info", lambda: retriever.info().passages


def writings(retriever):
    """What changes the table."""
    yield "add", lambda: retriever.add([{"id": "new", "text": "river x", "year": 3}])
    yield "delete", lambda: retriever.delete("d8")
    yield "optimize", retriever.optimize
    yield "search afterwards", lambda: retriever.search(QUESTIONS, 3)


def used(folder, expected, *, rebuild):
    """Open, read, check and change the table; return what happened, as JSON holds it."""
    seen = {"named": [], "bare": [], "wrong": [], "found": [], "healed": None}

    def tried(name, call):
        try:
            return call()
        except DprLanceError as error:
            seen["named"].append(f"{name}: {type(error).__name__}: {error}")
        except BaseException as error:  # noqa: BLE001 - a panic is no Exception
            seen["bare"].append(
                f"{name}: {type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}"
            )
        return None

    retriever = tried("open", lambda: opened(folder))
    if retriever is None:
        return seen
    with retriever:
        for name, call in readings(retriever):
            result = tried(name, call)
            if result is not None and expected is not None and result != expected[name]:
                seen["wrong"].append(name)
        report = tried("check", retriever.check)
        if report is not None:
            seen["found"] = [str(finding) for finding in report.findings]
        findings = report.findings if report is not None and rebuild else ()
        if findings and all("rebuild=True" in finding.remedy for finding in findings):
            seen["healed"] = healed(folder, expected, tried)
        for name, call in writings(retriever):
            tried(name, call)
    return seen


def healed(folder, expected, tried):
    """Rebuild a copy; return what is still wrong with it then."""
    copy = folder.with_name(f"{folder.name}-again")
    shutil.copytree(folder, copy)
    left = []
    with opened(copy) as retriever:
        if tried("rebuild", lambda: retriever.optimize(rebuild=True)) is None:
            return ["rebuild fails"]
        left += [str(finding) for finding in retriever.check().findings]
        for name, call in readings(retriever):
            result = tried(f"rebuilt, {name}", call)
            # λ and the mode that calibrate() has chosen may be lost, and BM25 scores are exact only now.
            if name in ("get", "count", "passages") and result != expected[name]:
                left.append(f"{name} differs")
    shutil.rmtree(copy)
    return left


def work(table):
    """Answer seeds from standard input."""
    warnings.simplefilter("ignore")
    with opened(table) as retriever:
        expected = {name: call() for name, call in readings(retriever)}
    for line in sys.stdin:
        copy = table.with_name(f"copy-{line.strip()}")
        shutil.copytree(table, copy)
        kind, path = damage(copy, random.Random(int(line)))
        seen = used(copy, expected, rebuild=int(line) % REBUILT == 0)
        shutil.rmtree(copy)
        print(json.dumps({"seed": int(line), "what": f"{kind} {path}", **seen}), flush=True)  # noqa: T201


class Worker:
    """The process that damages and uses copies of a table; another one takes its place when it hangs or dies."""

    def __init__(self, table):
        self.table = table
        self.process = None

    def ask(self, seed):
        if self.process is None:
            command = [sys.executable, "-m", "tests.health.damages", str(self.table)]
            root = Path(__file__).parents[2]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, cwd=root, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        timer = threading.Timer(SECONDS, self.process.kill)
        timer.start()
        answer = self.process.stdout.readline()
        hung = not timer.is_alive()
        timer.cancel()
        if answer:
            return json.loads(answer)
        code = self.close()
        return {"seed": seed, "what": "", "ended": "hung" if hung else f"died with {code}"}

    def close(self):
        """End the process; return its exit code."""
        if self.process is None:
            return None
        self.process.kill()
        code = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None
        return code


def tally(table, seeds):
    """Damage copies of the table; return how many did what, and those that must not be."""
    worker, counts, failures = Worker(table), Counter(), []
    for seed in seeds:
        seen = worker.ask(seed)
        if seen.get("ended") or seen["bare"] or (seen["wrong"] and not seen["found"]) or seen["healed"]:
            failures.append(seen)
        elif seen["named"]:
            counts["named"] += 1
        elif seen["wrong"]:
            counts["wrong hits, found by check"] += 1
        elif seen["found"]:
            counts["harmless, found by check"] += 1
        else:
            counts["harmless"] += 1
        counts["rebuilt"] += seen.get("healed") == []
    worker.close()
    return counts, failures


if __name__ == "__main__":
    work(Path(sys.argv[1]))
