"""Properties are held without a clock: no deadline for an example, and none is too slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("without a clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("without a clock")
