"""How hard hypothesis tries: the same examples every time in CI, new ones at a desk."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, max_examples=100, **_COMMON)
settings.register_profile("desk", max_examples=60, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "desk")
