"""Settings of all tests."""

from __future__ import annotations

import hypothesis

# How long an example takes depends on what else the machine does, and says nothing about what is tested.
hypothesis.settings.register_profile("flantune", deadline=None)
hypothesis.settings.load_profile("flantune")
