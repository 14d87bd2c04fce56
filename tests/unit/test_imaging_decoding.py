"""A decoder that dies of a damaged file takes no other subject with it."""

import multiprocessing
import os
from functools import cache

import pytest

from paravert.imaging import decoding


def decode(file):
    return decoding._decoded_apart(file, "1.2.840.10008.1.2.4.70", [0], "gdcm")


class Line:
    """Stands for the line to a decoding process; the process dies of what it is told."""

    def __init__(self, deadly):
        self.deadly = deadly

    def send(self, request):
        self.request = request

    def recv(self):
        if self.deadly(self.request):
            raise EOFError


def use_line(monkeypatch, line):
    @cache
    def apart(of_process):
        return line

    monkeypatch.setattr(decoding, "_apart", apart)


def test_a_decoder_that_dies_of_a_file_tells_that_it_is_damaged(tmp_path, monkeypatch):
    use_line(monkeypatch, Line(lambda request: bool(request)))
    assert decode(tmp_path / "file") is None


def test_a_process_that_cannot_live_at_all_is_no_fault_of_the_data(tmp_path, monkeypatch):
    use_line(monkeypatch, Line(lambda request: True))
    with pytest.raises(EOFError):
        decode(tmp_path / "file")


def test_a_process_that_died_is_replaced(tmp_path):
    decoding._ask()
    first = decoding._apart(os.getpid())
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    assert decode(tmp_path / "file") is None
    assert decoding._apart(os.getpid()) is not first
    assert decoding._ask() is None


def test_a_file_that_cannot_be_opened_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent")
