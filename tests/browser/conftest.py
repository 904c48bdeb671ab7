"""Chromium of the system, headless, with and without WebGL, and the pages that it opens."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import sync_playwright

from invdiff import volumes
from invdiff.files import sha256
from invdiff.volumes import Volume

ROOT = Path(__file__).parents[2]
SHAPE = (128, 96, 24)
# SwiftShader draws WebGL on the CPU.
FLAGS = {
    "webgl": ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    "plain": ["--disable-3d-apis", "--disable-gpu"],
}


def pytest_addoption(parser):
    parser.addoption("--update-references", action="store_true", help="write the screenshots that others are held to")


@dataclass
class Visit:
    """A page that was opened, all that it said, all that it asked for, and why that was refused."""

    page: object
    said: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    blocked: list = field(default_factory=list)

    def text(self, name):
        return self.page.locator(f"#viewer-{name}").inner_text()

    def settle(self):
        """Two frames: the browser has drawn what was asked for."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def box(self):
        """Where the canvas is on the screen, all of it in view."""
        canvas = self.page.locator("#viewer-canvas")
        canvas.scroll_into_view_if_needed()
        return canvas.bounding_box()

    def canvas(self):
        """What the viewer shows now, PNG."""
        self.settle()
        return self.page.locator("#viewer-canvas").screenshot()


@pytest.fixture(autouse=True)
def _no_network():
    """The driver talks to the browser through sockets of this machine; the pages are opened offline."""


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session", params=FLAGS)
def drawing(request):
    """How the viewer draws: by WebGL, or on a plain canvas where there is none."""
    return request.param


@pytest.fixture(scope="session")
def browsers(playwright):
    """Chromium by the way it draws, started when first asked for."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no Chromium: install Debian's package chromium, or name one by CHROMIUM="
    running = {}

    def get(drawing):
        if drawing not in running:
            flags = ["--no-sandbox", *FLAGS[drawing]]
            running[drawing] = playwright.chromium.launch(executable_path=path, args=flags)
        return running[drawing]

    yield get
    for browser in running.values():
        browser.close()


@pytest.fixture
def visit(browsers):
    """Open a page from its file, offline, after a script of the test, and wait for its viewer."""
    opened = []

    def go(path, drawing, *, width=800, height=800, before="", ready="yes", **options):
        context = browsers(drawing).new_context(viewport={"width": width, "height": height}, offline=True, **options)
        context.add_init_script(before)
        opened.append(context)
        found = Visit(context.new_page())
        network = context.new_cdp_session(found.page)
        network.send("Network.enable")
        network.on("Network.requestWillBeSent", lambda event: found.asked.append(event["request"]["url"]))
        network.on("Network.loadingFailed", lambda event: found.blocked.append(event.get("blockedReason")))
        found.page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.goto(path.as_uri())
        found.page.wait_for_selector(f"#viewer[data-ready={ready}]", timeout=120_000)
        found.settle()
        return found

    yield go
    for context in opened:
        context.close()


def invdiff(*args):
    done = subprocess.run([sys.executable, "-m", "invdiff_cli", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """The page of a smooth head with two bright spots, 128 x 96 x 24; its error and spread grow to the right."""
    folder = tmp_path_factory.mktemp("phantom")
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    head = (x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 1.1) ** 2 < 1
    truth = head * (400 + 200 * np.cos(4 * x) * np.cos(5 * y) + 100 * z)
    truth += 300 * (((x - 0.35) ** 2 + (y - 0.3) ** 2 < 0.02) | ((x + 0.3) ** 2 + (y + 0.35) ** 2 < 0.01)) * (z > 0)
    rng = np.random.default_rng(0)
    std = head * 30 * (1.1 + x)
    images = {
        "truth": truth,
        "zero_filled": truth + 80 * rng.normal(size=SHAPE),
        "recon": truth + std * rng.normal(size=SHAPE),
        "recon_std": std,
    }
    for name, data in images.items():
        tensor = torch.from_numpy(data.astype(np.float32)[None])
        volumes.save(folder / f"{name}.nii.gz", Volume(tensor, np.diag([2.0, 2.0, 3.0, 1.0])))
    sums = {path.name: sha256(path) for path in folder.iterdir()}
    metrics = {"zero_filled": {"psnr": 20.0}, "reconstruction": {"psnr": 28.0}}
    content = {"gives": "mean of 8 posterior samples", "warnings": ["a warning"], "solver": {"kind": "diffpir"}}
    (folder / "recon.json").write_text(json.dumps(content | {"metrics": metrics, "output_sha256": sums}))
    invdiff("report", folder)
    return folder / "report.html"


@pytest.fixture(scope="session")
def two_scans(phantom, tmp_path_factory):
    """A page of one subject with two scans; the second is the truth of the first, without a spread."""
    folder = tmp_path_factory.mktemp("batch")
    named = {"first": {"mean": "recon.nii.gz", "std": "recon_std.nii.gz"}, "second": {"mean": "truth.nii.gz"}}
    files = {name: {role: str(phantom.parent / file) for role, file in roles.items()} for name, roles in named.items()}
    results = [{"name": name, "subject": "01", "files": roles} for name, roles in files.items()]
    (folder / "run_report.json").write_text(json.dumps({"command": "batch", "results": results, "failures": []}))
    invdiff("report", folder)
    return folder / "report.html"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The page of `invdiff demo`: of what `make demo` left, or of a run now."""
    folder = tmp_path_factory.mktemp("demo")
    made = ROOT / "demo"
    if not (made / "recon.json").exists():
        made = folder / "demo"
        invdiff("demo", "-o", made)
    invdiff("report", made, "-o", folder / "report.html")
    return folder / "report.html"
