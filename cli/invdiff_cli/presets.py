"""`--preset`: how much time a reconstruction may take, by what was measured (docs/solvers.md)."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["fast", "balanced", "quality"]
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"solver": "diffpir", "samples": 4, "settings": {"steps": 8}},
    "balanced": {"solver": "diffpir", "samples": 8, "settings": {"steps": 12}},
    "quality": {"solver": "diffpir", "samples": 16, "settings": {"steps": 24}},
}
