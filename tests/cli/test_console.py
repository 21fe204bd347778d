"""What people see: names and values in two columns."""

from dpr_lance.cli.console import print_facts
from dpr_lance.cli.output import size


def test_facts_are_shown_as_people_read_them(capsys):
    print_facts({"a": 1234567, "long name": None, "b": True, "c": 0.5, "d": {"x": "int64"}, "e": ["p", "q\n"]})
    assert capsys.readouterr().out.splitlines() == [
        "a           1,234,567",
        "long name   –",
        "b           yes",
        "c           0.5",
        "d           x (int64)",
        "e           p",
        "            q ",
    ]
    assert [size(count) for count in (None, 999, 1500, 2_500_000, 3 * 10**12)] == [
        "unknown", "999 bytes", "1.5 kB", "2.5 MB", "3000.0 GB",
    ]  # fmt: skip
