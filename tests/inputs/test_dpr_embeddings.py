"""The embedding files that the paper published, read without unpickling."""

import datetime
import pickle
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.dpr_embeddings import read_embeddings
from tests.inputs.embedding_files import vectors, write


def failure(path):
    with pytest.raises(InvalidInputError) as caught:
        list(read_embeddings(path))
    assert str(caught.value).startswith(f"{path}: byte ")
    return str(caught.value)


class TestEmbeddings:
    @pytest.mark.parametrize("protocol", [3, 4, 5])
    @pytest.mark.parametrize("count", [1, 2, 2_500])
    def test_they_come_back(self, tmp_path, protocol, count):
        written = vectors(count)
        found = list(read_embeddings(write(tmp_path / "e.pkl", written, protocol)))
        assert [identity for identity, _ in found] == [identity for identity, _ in written]
        assert np.array_equal([vector for _, vector in found], [vector for _, vector in written])
        assert all(vector.dtype == np.float32 for _, vector in found)

    def test_files_of_older_numpy(self, tmp_path):
        content = pickle.dumps(vectors(3), 3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        assert b"cnumpy.core.multiarray\n" in content
        (tmp_path / "e.pkl").write_bytes(content)
        assert len(list(read_embeddings(tmp_path / "e.pkl"))) == 3

    def test_numbers_as_ids_and_an_empty_list(self, tmp_path):
        (item,) = read_embeddings(write(tmp_path / "e.pkl", [(70_000, np.ones(2, np.float32))]))
        assert item[0] == "70000"
        assert list(read_embeddings(write(tmp_path / "none.pkl", []))) == []

    @pytest.mark.parametrize(
        "value",
        [
            [("1", np.ones(2))],  # float64
            [("1", np.ones((2, 2), np.float32))],
            [("1", np.ones(2, ">f4"))],
            [("1", [1.0, 2.0])],
            [("1", "text")],
            ["1"],
            [("1", np.ones(2, np.float32), 3)],
            [[("1", np.ones(2, np.float32))]],
            {"1": np.ones(2, np.float32)},
            ("1", np.ones(2, np.float32)),
            np.ones(2, np.float32),
            [("1", np.array(["a", None], dtype=object))],
            [("1", OrderedDict())],
            [("1", datetime.date(2020, 1, 1))],
            [("1", np.float32(1))],
            7,
        ],
    )
    @pytest.mark.parametrize("protocol", [3, 4, 5])
    def test_anything_else_is_refused(self, tmp_path, value, protocol):
        assert "and nothing else is read" in failure(write(tmp_path / "e.pkl", value, protocol))

    @pytest.mark.parametrize("protocol", [0, 1, 2])
    def test_protocols_that_call_more_than_numpy(self, tmp_path, protocol):
        failure(write(tmp_path / "e.pkl", vectors(2), protocol))

    def test_nothing_in_a_file_is_run(self, tmp_path):
        made = tmp_path / "made"

        class Attack:
            def __reduce__(self):
                return open, (str(made), "w")

        for protocol in range(6):
            path = write(tmp_path / "e.pkl", [("1", Attack())], protocol)
            failure(path)
            assert not made.exists()
        pickle.loads(path.read_bytes())[0][1].close()
        assert made.exists()  # the file does what it is refused for

    @pytest.mark.parametrize(
        "content",
        [
            b"\x80\x04cos\nsystem\n(S'true'\ntR.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            b"\x80\x04cnumpy\nload\n.",
            b"\x80\x04cnumpy.core.multiarray\nscalar\n.",
            b"\x80\x04]\x94(e",
            b"\x80\x04]e.",
            b"\x80\x04R.",
            b"\x80\x04h\x07.",
            b"\x80\x04\x94.",
            b"\x80\x04.",
            b"\x80\x04]].",
            b"\x80\x04cnumpy\ndtype\n)R.",
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
            b"not a pickle",
            b"",
        ],
    )
    def test_made_by_hand(self, tmp_path, content):
        (tmp_path / "e.pkl").write_bytes(content)
        failure(tmp_path / "e.pkl")

    @given(st.data())
    def test_damage_is_refused_or_harmless(self, tmp_path_factory, data):
        """One byte of a file is another: an error of ours, or vectors; never anything else."""
        content = bytearray(pickle.dumps(vectors(2, 3), 4))
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("damaged") / "e.pkl"
        path.write_bytes(content)
        try:
            found = list(read_embeddings(path))
        except InvalidInputError:
            return
        assert all(isinstance(identity, str) and vector.dtype == np.float32 for identity, vector in found)

    def test_a_file_that_is_cut_short(self, tmp_path):
        path = write(tmp_path / "e.pkl", vectors(5))
        path.write_bytes(path.read_bytes()[:-40])
        assert "cut short" in failure(path)

    def test_passages_are_not_kept(self, tmp_path):
        path = write(tmp_path / "e.pkl", vectors(4_000, 768))
        tracemalloc.start()
        assert sum(1 for _ in read_embeddings(path)) == 4_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 7 << 20, peak  # of 12 MB, the thousand that are read together
