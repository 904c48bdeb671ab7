"""Cards of priors as text."""

from __future__ import annotations

from typing import Any

Card = dict[str, Any]


def line(card: Card) -> str:
    """What a prior or a bridge is for, in one line."""
    what = f"bridge for {trained_for(card)}" if card.get("bridge") else "prior"
    seen = f"{card['planes']} planes, {voxels(card)}, from {len(card['scans'])} scans"
    return f"{kind(card)}, {what}, {seen}. {card['note']}"


def kind(card: Card) -> str:
    """Magnitude, complex, or the window of stored values."""
    window, channels = card["units"]["window"], card["config"]["in_channels"]
    if card.get("bridge") and card["bridge"]["conditional"]:
        channels //= 2
    if window:
        return f"window {window[0]:g} to {window[1]:g}"
    return {1: "magnitude", 2: "complex"}.get(channels, f"{channels} channels")


def trained_for(card: Card) -> str:
    """The family of acquisitions of a bridge."""
    family = card["bridge"]["family"]
    return " ".join([family["kind"], *(f"{k}={v}" for k, v in family["settings"].items()), f"noise={family['noise']}"])


def voxels(card: Card) -> str:
    """Voxel sizes of the training."""
    sizes = card["spacing"]
    return f"{min(sizes):g} to {max(sizes):g} mm" if sizes else "voxel size unknown"


def text(card: Card, facts: dict[str, Any]) -> str:
    """A card in full.

    Args:
        card: its fields.
        facts: of the file: where, file, bytes, sha256; those that are known.
    """
    low, high = card["units"]["range"]
    window = card["units"]["window"]
    ends = f"stored values {window[0]:g} to {window[1]:g}" if window else "zero to the 99.9th percentile"
    predicts = card["parameterisation"]
    predicts += f", schedule {card['schedule']}" if predicts.startswith("vp") else ""
    settings = ", ".join(f"{k} {v}" for k, v in card["training"].items())
    rows = {
        "images": f"{kind(card)}, {ends} as {low:g} to {high:g}",
        "mean, spread": f"{card['mean']:g}, {card['std']:g}",
        "noise levels": None if card.get("bridge") else f"{card['sigma_min']:g} to {card['sigma_max']:g}",
        "bridge": _way(card["bridge"]) if card.get("bridge") else None,
        "trained for": trained_for(card) if card.get("bridge") else None,
        "planes": card["planes"],
        "voxels": voxels(card),
        "network": f"{card['architecture']}, predicts {predicts}",
        "licence": card["licence"] or "not stated",
        "note": card["note"],
        "file": ", ".join(f"{k} {v}" for k, v in _file(facts).items()),
        "sha256": facts.get("sha256"),
        "training": settings or "not stated",
    }
    lines = [
        f"{card['name']} ({'bridge' if card.get('bridge') else 'prior'})",
        *(f"  {k}: {v}" for k, v in rows.items() if v),
    ]
    return "\n".join([*lines, *_scans(card["scans"]), *_quality(card["quality"])])


def _way(bridge: dict[str, Any]) -> str:
    way = {k: v for k, v in bridge.items() if k not in ("family", "conditional")}
    shown = "shown" if bridge["conditional"] else "not shown"
    return ", ".join([*(f"{k} {v}" for k, v in way.items()), f"x1 {shown}"])


def _file(facts: dict[str, Any]) -> dict[str, Any]:
    size = {"size": f"{facts['bytes'] / 1e6:.1f} MB"} if "bytes" in facts else {}
    return {k: facts[k] for k in ("where", "path") if k in facts} | size


def _scans(scans: list[dict[str, str]]) -> list[str]:
    if not scans:
        return ["  trained on: no scans named"]
    known = sources()
    lines = ["  trained on:"]
    for scan in scans:
        told = scan | known.get(scan.get("sha256", ""), {})
        words = [told[k] for k in ("title", "source", "licence") if told.get(k)]
        lines.append(f"    {scan.get('file', 'a scan')}: {'; '.join(words) or 'source not stated'}")
    return lines


def _quality(quality: dict[str, Any]) -> list[str]:
    return ["  measured:", *_tree(quality, "    ")] if quality else []


def _tree(values: dict[str, Any], indent: str) -> list[str]:
    """Nested figures, the innermost ones on one line."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            lines += [f"{indent}{name}:", *_tree(value, indent + "  ")]
        else:
            told = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            lines.append(f"{indent}{name}: {told}")
    return lines


def sources() -> dict[str, dict[str, str]]:
    """Title, source and licence of the scans that invdiff has cards of, by checksum."""
    import invdiff_datasets

    return {
        c.sha256: {"title": c.title, "source": c.source, "licence": c.licence}
        for c in invdiff_datasets.cards().values()
    }
