"""Settings of all tests."""

from __future__ import annotations

import os

import hypothesis
import pytest

from flantune.tasks.sources import cache, digests

# How long an example takes depends on what else the machine does, and says nothing about what is tested.
hypothesis.settings.register_profile("flantune", deadline=None)
hypothesis.settings.load_profile("flantune")


@pytest.fixture(autouse=True, scope="session")
def rows_of_tests(tmp_path_factory):
    """Keeps made-up rows out of the user's cache, where the embedded model lies."""
    folder = tmp_path_factory.mktemp("cache")

    def elsewhere(name, usual):
        return lambda: usual() if "FLANTUNE_CACHE" in os.environ else folder / name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "rows_folder", elsewhere("rows", cache.rows_folder))
        patch.setattr(digests, "digests_folder", elsewhere("digests", digests.digests_folder))
        yield
