"""How many slices fit into the memory at once."""

import pytest
import torch

from paravert.network.architecture import Architecture
from paravert.network.memory import MOST_AT_ONCE, slices_at_once
from paravert.network.predict import TOGETHER

GIB = 2**30


@pytest.fixture
def gpu_of(monkeypatch):
    """Let the GPU have so many bytes free and so many that are kept for us."""

    def free(free_bytes, kept_bytes=0):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 80 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: kept_bytes)

    return free


def on_gpu(width, grid=(224, 224), threads=2):
    return slices_at_once(Architecture(width=width), grid, torch.device("cuda"), threads)


def test_the_batches_of_all_threads_fit_into_half_of_a_gpu(gpu_of):
    for free_gib in (2, 8, 24):
        gpu_of(free_gib * GIB)
        for width in (16, 64):
            first_level = width * 224 * 224 * 4
            assert 2 * on_gpu(width) * 8 * first_level <= free_gib * GIB / 2
            if on_gpu(width) < MOST_AT_ONCE:
                assert 2 * (on_gpu(width) + 1) * 8 * first_level > free_gib * GIB / 2


def test_memory_that_is_kept_for_us_counts_as_free(gpu_of):
    gpu_of(8 * GIB)
    expected = on_gpu(64)
    gpu_of(2 * GIB, 6 * GIB)
    assert on_gpu(64) == expected


def test_a_large_gpu_takes_no_more_than_keeps_it_busy_and_a_full_one_a_slice(gpu_of):
    gpu_of(80 * GIB)
    assert on_gpu(8) == MOST_AT_ONCE
    gpu_of(0)
    assert on_gpu(64) == 1


def test_on_the_processor_the_number_does_not_depend_on_memory():
    assert slices_at_once(Architecture(), (512, 512), torch.device("cpu"), 8) == TOGETHER
