"""The report in a real browser: silent, offline, by keyboard, on a phone, in the dark; held to screenshots."""

import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

REFERENCES = Path(__file__).parent / "references"
TOLERANCE = 0.01  # share of pixels that may differ by more than an eighth of the grey scale
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const paper = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!words || !e.checkVisibility() || e.closest("svg, select, .unseen")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(paper(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


def pixels(png):
    return imread(io.BytesIO(png), format="png")[..., :3]


def difference(png, other):
    """Share of pixels that differ visibly; 1 for pictures of other sizes."""
    a, b = pixels(png), pixels(other)
    return float((np.abs(a - b).max(-1) > 1 / 8).mean()) if a.shape == b.shape else 1.0


def held_to(png, name, folder):
    """Fail where too much differs from the screenshot of that name; what was seen is kept in the folder."""
    path = REFERENCES / f"{name}.png"
    share = difference(png, path.read_bytes())
    if share > TOLERANCE:
        (folder / path.name).write_bytes(png)
        pytest.fail(f"{share:.1%} of the pixels differ from {path}; seen: {folder / path.name}")


@pytest.fixture
def held(request, tmp_path):
    """`held_to`, or write the reference when asked to."""

    def to(png, name):
        if request.config.getoption("--update-references"):
            REFERENCES.mkdir(exist_ok=True)
            (REFERENCES / f"{name}.png").write_bytes(png)
        held_to(png, name, tmp_path)

    return to


@pytest.mark.parametrize("report", ["demo", "phantom"])
def test_opens_without_a_word_or_a_request(report, drawing, visit, request):
    path = request.getfixturevalue(report)
    assert path.stat().st_size < 5e6
    seen = visit(path, drawing)
    assert seen.said == []
    assert seen.asked[0] == path.as_uri()
    assert [url for url in seen.asked[1:] if not url.startswith(("data:", "blob:"))] == []
    how = seen.text("how")
    expected = "Drawn by NiiVue with WebGL 2" if drawing == "webgl" else "Plain slices: the 3-D view needs WebGL 2"
    assert how.startswith(expected)
    assert "Research use only" in seen.page.locator("header").inner_text()
    broken = seen.page.evaluate("[...document.images].filter((i) => !i.naturalWidth).length")
    assert (broken, seen.page.locator(".mosaic img").count()) == (0, 6 if report == "demo" else 5)


def test_the_policy_lets_nothing_out(phantom, visit):
    seen = visit(phantom, "plain")
    for url in ("https://example.org/", "data:text/plain,a"):
        with pytest.raises(Exception, match="Failed to fetch"):
            seen.page.evaluate("(url) => fetch(url)", url)
    seen.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))")
    seen.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=data:x onerror=\"window.ran = 1\">')")
    script = "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    seen.page.evaluate(script)
    seen.page.wait_for_timeout(300)
    assert seen.page.evaluate("window.ran") is None
    assert "csp" in seen.blocked
    assert sum("Content Security Policy" in said for said in seen.said) >= 5


def test_a_slice_scrolls_by_keyboard_alone(demo, drawing, visit):
    seen = visit(demo, drawing)
    keyboard = seen.page.keyboard
    start, first = seen.text("axial-value"), seen.canvas()
    assert start == "13 of 24"
    for _ in range(20):  # from the top of the page, as without a mouse
        keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.id") == "viewer-stage":
            break
    assert seen.page.evaluate("document.activeElement.id") == "viewer-stage"
    assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keyboard.press("ArrowUp")
    assert seen.text("axial-value") == "14 of 24"
    second = seen.canvas()
    assert difference(first, second) > TOLERANCE
    keyboard.press("PageDown")
    assert seen.text("axial-value") == "9 of 24"
    for key, name, value in (
        ("ArrowRight", "sagittal", 65),
        ("[", "coronal", 45),
        ("Home", "axial", 1),
        ("End", "axial", 24),
    ):
        keyboard.press(key)
        assert seen.text(f"{name}-value").startswith(f"{value} of ")
    keyboard.press("End")
    keyboard.press("ArrowUp")
    assert seen.text("axial-value") == "24 of 24"
    keyboard.press("Tab")  # to the first slider
    assert seen.page.evaluate("document.activeElement.id") == "viewer-axial"
    last = seen.canvas()
    keyboard.press("ArrowLeft")
    assert seen.text("axial-value") == "23 of 24"
    assert difference(last, seen.canvas()) > TOLERANCE
    assert seen.page.locator("#viewer-axial").get_attribute("aria-valuetext") == "23 of 24"


def test_the_pixels_of_a_slice_are_those_of_the_volume(phantom, visit):
    """Where the page says that the cross is, the plain canvas has the grey of that voxel."""
    seen = visit(phantom, "plain")
    seen.page.select_option("#viewer-view", "axial")
    seen.page.locator("#viewer-overlay").uncheck()
    seen.page.select_option("#viewer-image", "reference")
    content = json.loads(seen.page.locator("#viewer-data").text_content())["scans"][0]
    box = seen.box()
    for fx, fy in ((0.42, 0.3), (0.55, 0.6), (0.6, 0.45)):
        seen.page.mouse.click(box["x"] + fx * box["width"], box["y"] + fy * box["height"])
        at = [int(seen.text(f"{axis}-value").split(" of ")[0]) - 1 for axis in ("sagittal", "coronal", "axial")]
        said = float(re.search(r"Reference ([-\d.e+]+)", seen.text("place"))[1])
        low, high = (content["images"][0][end] for end in ("low", "high"))
        shown = pixels(seen.canvas())
        y, x = round(fy * shown.shape[0]), round(fx * shown.shape[1])
        around = shown[y + 5 : y + 7, x + 5 : x + 7]  # beside the cross, in the same or the next voxel
        assert np.ptp(around[0, 0]) < 0.02, "grey"
        assert around.mean() == pytest.approx((said - low) / (high - low), abs=0.06), at


def test_the_overlay_goes_and_comes_back(phantom, drawing, visit, held):
    seen = visit(phantom, drawing)
    overlaid = seen.canvas()
    held(overlaid, f"{drawing}-overlay")
    seen.page.locator("#viewer-overlay").focus()
    seen.page.keyboard.press("Space")
    assert not seen.page.locator("#viewer-overlay").is_checked()
    bare = seen.canvas()
    held(bare, f"{drawing}-bare")
    seen.page.locator("#viewer-stage").focus()
    seen.page.keyboard.press("u")
    assert seen.page.locator("#viewer-overlay").is_checked()
    assert difference(seen.canvas(), overlaid) == 0
    seen.page.locator("#viewer-opacity").fill("0")
    assert difference(seen.canvas(), bare) < 0.001


def test_the_comparison_of_screenshots_can_fail(phantom, drawing, visit, tmp_path):
    """It sees a missing overlay, the next slice and another image."""
    seen = visit(phantom, drawing)
    reference = (REFERENCES / f"{drawing}-overlay.png").read_bytes()
    seen.page.locator("#viewer-overlay").uncheck()
    assert difference(seen.canvas(), reference) > 5 * TOLERANCE
    with pytest.raises(pytest.fail.Exception, match="of the pixels differ from"):
        held_to(seen.canvas(), f"{drawing}-overlay", tmp_path)
    seen.page.locator("#viewer-overlay").check()
    held_to(seen.canvas(), f"{drawing}-overlay", tmp_path)
    seen.page.select_option("#viewer-image", "direct")
    assert difference(seen.canvas(), reference) > 5 * TOLERANCE


def test_every_image_and_view_is_shown(phantom, drawing, visit):
    seen = visit(phantom, drawing)
    options = "(id) => [...document.getElementById(id).options].map((o) => o.value)"
    images = seen.page.evaluate(options, "viewer-image")
    assert images == ["reference", "direct", "mean", "error", "std"]
    views = seen.page.evaluate(options, "viewer-view")
    assert views == ["planes", "axial", "coronal", "sagittal"] + ["3d"] * (drawing == "webgl")
    seen.page.locator("#viewer-overlay").uncheck()
    for name, values in (("image", images), ("view", views)):
        shown = []
        for value in values:
            seen.page.select_option(f"#viewer-{name}", value)
            shown.append(seen.canvas())
            assert pixels(shown[-1]).std() > 0.05, f"{value} is empty"
        for n, one in enumerate(shown):
            for other in shown[:n]:
                assert (pixels(one) != pixels(other)).mean() > 0.01, (name, values[n])
    assert seen.said == []


def test_pointer_and_wheel_move_the_cross(phantom, drawing, visit):
    seen = visit(phantom, drawing)
    seen.page.select_option("#viewer-view", "axial")
    seen.settle()
    box = seen.box()
    seen.page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    assert int(seen.text("sagittal-value").split()[0]) > 70
    assert int(seen.text("coronal-value").split()[0]) > 52
    before = seen.text("axial-value")
    seen.page.mouse.wheel(0, 100)
    seen.settle()
    assert seen.text("axial-value") != before


def test_another_scan_of_the_subject(two_scans, drawing, visit):
    seen = visit(two_scans, drawing)
    first = seen.canvas()
    seen.page.select_option("#viewer-scan", "1")
    seen.page.wait_for_selector("#viewer-overlay:disabled")
    assert difference(seen.canvas(), first) > TOLERANCE
    seen.page.select_option("#viewer-scan", "0")
    seen.page.wait_for_selector("#viewer-overlay:enabled")
    assert difference(seen.canvas(), first) < 0.001
    assert seen.said == []


def test_goes_on_without_webgl_when_it_is_lost(phantom, visit):
    seen = visit(phantom, "webgl")
    seen.page.keyboard.press("Tab")
    seen.page.locator("#viewer-stage").focus()
    seen.page.keyboard.press("PageUp")
    lose = (
        "document.getElementById('viewer-canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    seen.page.evaluate(lose)
    seen.page.wait_for_selector("#viewer-how:has-text('Plain slices')")
    assert seen.text("axial-value") == "18 of 24"
    assert pixels(seen.canvas()).std() > 0.05
    seen.page.keyboard.press("ArrowDown")
    assert seen.text("axial-value") == "17 of 24"


def test_says_so_in_a_browser_that_is_too_old(phantom, visit):
    seen = visit(phantom, "plain", before="delete window.DecompressionStream", ready="no")
    assert not seen.page.locator("#viewer-stage").is_visible()
    assert "The viewer does not run in this browser (DecompressionStream is not defined)" in seen.text("how")
    assert seen.page.locator(".mosaic img").first.is_visible()
    assert seen.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_fits_a_phone_and_reads_in_light_and_dark(scheme, width, demo, phantom, visit):
    for path in (demo, phantom):
        seen = visit(path, "plain", width=width, color_scheme=scheme)
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        paper = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == (scheme == "dark")
        contrasts = seen.page.evaluate(CONTRAST)
        assert len(contrasts) > 60
        assert [(round(c, 1), text) for c, text in contrasts if c < 4.5] == []
        ink = seen.page.evaluate("getComputedStyle(document.querySelector('.plot text')).fill")
        assert ink == seen.page.evaluate("getComputedStyle(document.body).color")


def test_every_control_has_a_name_and_the_order_of_headings_holds(demo, visit):
    seen = visit(demo, "plain")
    unnamed = seen.page.evaluate(
        "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
    )
    assert unnamed == 0
    levels = seen.page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = seen.page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    targets = seen.page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map((e) => e.hash.slice(1))")
    assert set(targets) <= set(ids)


def test_prints_the_pictures_but_not_the_viewer(phantom, visit):
    seen = visit(phantom, "plain", color_scheme="dark")
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#viewer").is_visible()
    assert seen.page.locator(".mosaic img").first.is_visible()
    assert seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
