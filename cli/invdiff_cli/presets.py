"""`--preset`: how much time a reconstruction may take, by what was measured (docs/solvers.md)."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["fast", "balanced", "quality"]
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"solver": "pnp", "samples": 1, "settings": {}},
    "balanced": {"solver": "diffpir", "samples": 8, "settings": {"steps": 12}},
    "quality": {"solver": "daps", "samples": 8, "settings": {"steps": 50, "sigma_max": 1.0}},
}
