import os

import pytest

from opticstream_smk.report.tail import Follower, last_lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.log"


@pytest.mark.parametrize(
    ("content", "n", "lines"),
    [
        (b"", 5, []),
        (b"a\nb\nc\n", 2, ["b", "c"]),
        (b"a\nb\nc", 2, ["b", "c"]),
        (b"a\n", 5, ["a"]),
        (b"a\nb\n", 0, []),
        (b"\n\n\n", 2, ["", ""]),
        (b"a\r\n\xff\n", 2, ["a", "\ufffd"]),
        ("one\u2028line\n".encode(), 3, ["one\u2028line"]),
    ],
)
def test_the_last_lines(path, content, n, lines):
    path.write_bytes(content)
    assert last_lines(path, n) == lines


def test_lines_longer_than_a_block(path):
    long = "x" * 200_000
    path.write_text(f"first\n{long}\nlast\n")
    assert last_lines(path, 2) == [long, "last"]


def test_a_huge_file_is_read_from_its_end_only(path, monkeypatch):
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # sparse: 50 GB that nobody can hold in memory
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")
    n_bytes = []

    def pread(*args, original=os.pread):
        content = original(*args)
        n_bytes.append(len(content))
        return content

    monkeypatch.setattr(os, "pread", pread)
    assert last_lines(path, 2) == ["last but one", "last"]
    assert sum(n_bytes) < 100_000


def followed(follower):
    return [(path.name, line) for path, lines in follower.look() for line in lines]


def test_following_goes_on_behind_the_last_lines(path):
    path.write_text("a\nb\nhalf")
    follower = Follower(lambda: [path])
    assert follower.begin(1) == [(path, ["b"])]
    assert followed(follower) == []
    with path.open("a") as file:
        file.write(" a line\nc")
    assert followed(follower) == [("a.log", "half a line")]
    with path.open("a") as file:
        file.write("\n")
    assert followed(follower) == [("a.log", "c")]


def test_truncated_replaced_removed_and_new_files(path, tmp_path):
    path.write_text("old content\n")
    follower = Follower(lambda: sorted(tmp_path.glob("*.log")))
    follower.begin(0)
    path.write_text("new\n")  # the next attempt of a stage truncates its log
    assert followed(follower) == [("a.log", "new")]
    other = tmp_path / "b.tmp"
    other.write_text("rotated, and longer than before\n")
    other.replace(path)
    assert followed(follower) == [("a.log", "rotated, and longer than before")]
    path.unlink()
    assert followed(follower) == []
    (tmp_path / "z.log").write_text("of another host\n")
    path.write_text("back\n")
    assert followed(follower) == [("a.log", "back"), ("z.log", "of another host")]


def test_a_file_that_vanishes_between_two_looks(path):
    follower = Follower(lambda: [path])
    assert follower.begin(5) == []
    assert followed(follower) == []
