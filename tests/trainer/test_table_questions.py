"""Questions for a table: which tables there are."""

from contextlib import ExitStack

import pytest
from dpr_lance.trainer.table_questions import open_table

import dpr_lance
from dpr_lance import InvalidInputError


@pytest.mark.parametrize("form", ["~/{name}", "file://{home}/{name}", "{home}/{name}"])
def test_a_table_is_found_under_each_form_of_its_address(tmp_path, monkeypatch, form):
    monkeypatch.setenv("HOME", str(tmp_path))
    with dpr_lance.connect(tmp_path / "there") as retriever:
        retriever.add([{"id": "alps", "text": "a mountain range"}], embed=False)
    with ExitStack() as stack:
        assert len(open_table(stack, form.format(home=tmp_path, name="there"), "passages")) == 1
    with ExitStack() as stack, pytest.raises(InvalidInputError, match="has no table 'passages': make it with"):
        open_table(stack, form.format(home=tmp_path, name="nowhere"), "passages")
    assert not (tmp_path / "nowhere").exists()
