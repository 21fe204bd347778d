"""Killed processes and processes that write over one another leave a whole table: the short form.

The long form, with more kills and more writers, is in tests/stress; it runs the same code.
"""

import lancedb
import pyarrow as pa
import pytest

from dpr_lance import WordSplitter
from tests.stress import crowds, table_checks
from tests.stress import scripted_writer as writer
from tests.stress.kills import Killing
from tests.stress.scripted_writer import Journal
from tests.stress.table_checks import DamageError


def test_killed_at_random_moments_nothing_is_lost_doubled_or_encoded_twice(tmp_path):
    killing = Killing(tmp_path, seed=7)
    killing.run(kills=3)
    assert killing.kills == 3
    assert killing.checked_encodings >= 5


def test_two_writers_an_optimiser_and_a_reader_at_once(tmp_path):
    outcome = crowds.crowd(tmp_path, writers=2, calls=6, seed=7)
    assert outcome.adds == 12
    assert min(outcome.optimised, outcome.reads) >= 1


# That the checks see damage


@pytest.fixture
def journal(tmp_path):
    """The first step of a script done without a kill."""
    journal = Journal(tmp_path / "journal")
    retriever, encoder = writer.open_table(tmp_path / "table")
    step, _, _ = writer.states(3, 0)
    with retriever:
        writer.perform(retriever, step, lambda _: None)
    journal.write("begin", step=0, kind=step.kind)
    journal.write("done", step=0, kind=step.kind, encoded=encoder.passages, seconds=1.0)
    return journal


def test_the_script_is_what_the_table_holds(tmp_path, journal):
    _, observed = table_checks.check(tmp_path / "table", 3, journal, None)
    assert observed == writer.states(3, 0)[2]
    assert journal.read()[-1]["encoded"] == sum(len(document.blocks) for document in observed.values())


def test_a_lost_document_is_seen(tmp_path, journal, lance_table):
    lance_table.delete("position = 0")
    with pytest.raises(DamageError, match=r"has the passages|is gone"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_a_doubled_passage_is_seen(tmp_path, journal, lance_table):
    lance_table.add(lance_table.to_arrow().slice(0, 1))
    with pytest.raises(DamageError, match="1 ids are stored more than once"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_a_lost_vector_is_seen(tmp_path, journal, lance_table):
    row = lance_table.to_arrow().slice(0, 1)
    field = row.schema.field("vector")
    empty = row.set_column(row.schema.get_field_index("vector"), field, pa.nulls(1, field.type))
    lance_table.merge_insert("id").when_matched_update_all().execute(empty, on_bad_vectors="null")
    with pytest.raises(DamageError, match=r"is neither as before nor as after|has lost vectors"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_a_vector_of_another_text_is_seen(tmp_path, journal, lance_table):
    lance_table.update(where="position = 0", values={"vector": [1.0] + [0.0] * 31})
    with pytest.raises(DamageError, match="has the vector of another text"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_a_mix_of_states_is_seen(tmp_path, journal, lance_table):
    lance_table.update(where="position = 1", values={"document_hash": "other"})
    with pytest.raises(DamageError, match="is a mix of states"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_an_old_text_is_seen(tmp_path, journal):
    retriever, _ = writer.open_table(tmp_path / "table")
    name = min(writer.states(3, 0)[2])
    with retriever:
        retriever.add([{"id": name, "text": "not what the script says", "year": 0}], splitter=WordSplitter(8))
    with pytest.raises(DamageError, match=f"{name} is neither as before nor as after"):
        table_checks.check(tmp_path / "table", 3, journal, None)


def test_the_last_write_of_some_writer_wins():
    mine, theirs = crowds.written_by(0, 0, 7), crowds.written_by(1, 0, 7)
    crowds.check_states(mine | theirs, 2, 1, 7)
    name = min(mine)
    with pytest.raises(DamageError, match=f"{name} is .* which no writer wrote last"):
        crowds.check_states(
            mine | theirs | {name: crowds.written_by(2, 0, 7).get(name, mine[sorted(mine)[1]])}, 2, 1, 7
        )
    with pytest.raises(DamageError, match="are missing or too many"):
        crowds.check_states(mine, 2, 1, 7)


@pytest.fixture
def lance_table(tmp_path, journal):
    return lancedb.connect(tmp_path / "table").open_table("passages")
