"""Keeps the garbage collector away from what all tests share."""

import gc


def pytest_collection_finish():
    """Leave the modules that are imported, and the tests, out of every later garbage collection.

    statsmodels runs a full collection at each correction of p values.
    """
    gc.collect()
    gc.freeze()
