"""`invdiff report`: what the pages hold, that they need nothing else, refusals. Browsers are in tests/browser."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from matplotlib import image as pictures

from invdiff import catalogue, volumes
from invdiff.files import sha256
from invdiff.volumes import Volume
from invdiff_cli.report import embed, leaves, measures, mosaic, sections, tables, views
from invdiff_cli.report.cases import Case, Run

SHAPE = (20, 18, 6)
# Stored axes: to the left, up, to the back; 2 x 3 x 2.5 mm.
AFFINE = np.array([[-2.0, 0, 0, 19], [0, 0, -2.5, 40], [0, 3, 0, -30], [0, 0, 0, 1]])
HOSTILE = "<script>alert(1)</script>"


def save(path, data, affine=AFFINE):
    volume = Volume(torch.from_numpy(np.asarray(data, np.float32)[None] if data.ndim == 3 else data), affine)
    volumes.save(path, volume)
    return path


def arrays(seed, shape=SHAPE):
    """A reference, an input, a mean and a spread whose size is that of the error."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    truth = 100 * np.exp(-2 * sum(g**2 for g in grid)) + 5 * grid[0]
    noise = rng.normal(size=shape)
    return {
        "reference": truth,
        "direct": truth + 10 * rng.normal(size=shape),
        "mean": truth + 3 * noise,
        "std": 3 + np.abs(rng.normal(size=shape)),
    }


def facts(**more):
    return {
        "command": "reconstruct",
        "solver": {"kind": "diffpir", "steps": 12, "ladder": None},
        "gives": "mean of 8 posterior samples",
        "prior": {"name": "brain-mr-complex", "sha256": "ab" * 32},
        "acquisition": {"kind": "mri", "acceleration": 4.0},
        "seeds": [0, 1, 2],
        "data_fit": {
            "mean": {"relative_residual": 0.0179, "chi2": 0.774},
            "first_sample": {"relative_residual": 0.0226, "chi2": 2.25},
        },
        "warnings": ["the image fits the measurement worse than its noise explains (chi2 = 2.25, expected 1)"],
        "versions": {"invdiff": "0.1.0"},
        "seconds": {"solve": 1.5, "plan": 0.25},
        "intended_use": "research only",
    } | more


def batch(folder, names, *, failures=(), subjects=None):
    """What `invdiff batch` leaves behind."""
    folder.mkdir()
    results = []
    for seed, name in enumerate(names):
        files = {}
        for role, x in arrays(seed).items():
            files[role] = f"scan{seed}_desc-{role}.nii.gz"
            save(folder / files[role], x)
        files["reference"] = str(folder / files["reference"])
        files["sidecar"] = f"scan{seed}_desc-mean.json"
        (folder / files["sidecar"]).write_text(json.dumps(facts()))
        row = {"frame": 0, "psnr": 30.0 + seed, "ssim": 0.9, "nrmse": 0.1, "chi2": 1.05, "ssim_mode": "2d"}
        subject = subjects[seed] if subjects else None
        results.append({"name": name, "subject": subject, "key": "0" * 64, "input": "scan.nii.gz", "files": files})
        results[-1] |= {"metrics": [row], "warnings": facts()["warnings"], "seconds": 12.3}
    report = {
        "command": "batch",
        "command_line": "batch scans -o out",
        "intended_use": "research only",
        "settings": {"stages": ["simulate", "reconstruct", "evaluate"], "acquisition": {"kind": "mri"}, "samples": 8},
        "versions": {"invdiff": "0.1.0", "torch": "2.13.0"},
        "machine": {"device": "cpu"},
        "seconds": 123.4,
        "protocol": {"name": "invdiff", "hash": "c0ffee"},
        "results": results,
        "failures": list(failures),
        "citations": [{"key": "zhu", "title": "A paper", "authors": "Zhu et al.", "year": 2023, "venue": "CVPR-W"}],
    }
    (folder / "run_report.json").write_text(json.dumps(report))
    return folder


def single(folder, name="recon", **more):
    """What `invdiff reconstruct` leaves behind."""
    folder.mkdir(exist_ok=True)
    x = arrays(0)
    files = [save(folder / f"{name}.nii.gz", x["mean"]), save(folder / f"{name}_std.nii.gz", x["std"])]
    sums = {path.name: sha256(path) for path in files}
    (folder / f"{name}.json").write_text(json.dumps(facts(output_sha256=sums) | more))
    return folder


class Page(HTMLParser):
    """The elements of a page, its text outside scripts, and the cells of its tables."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.tags, self.words, self.scripts, self.rows, self._inside = [], [], [], [], []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "link", "br"):
            self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside[-1:] == ["script"]:
            self.scripts.append(data)
        elif "style" not in self._inside:
            self.words.append(data)
            if {"td", "th"} & set(self._inside):
                self.rows[-1][-1] += data.strip()

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def payload(self):
        found = re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', self.source, re.S)
        return json.loads(found[1])

    def volumes(self, scan=0):
        """The NIfTI files that the page carries, by role."""
        images = self.payload()["scans"][scan]["images"]
        raw = {i["role"]: gzip.decompress(base64.b64decode(i["nifti"])) for i in images}
        return {role: nibabel.Nifti1Image.from_bytes(content) for role, content in raw.items()}


def asks_for_nothing(page):
    """Every address is a place in the page, data inside it, or a page beside it; scripts are the ones allowed."""
    for attribute in ("src", "href", "srcset", "poster", "action", "xlink:href"):
        for _, attrs in page.tags:
            value = attrs.get(attribute) or ""
            assert re.match(r"$|#|data:|[\w.-]+\.html(#|$)", value), value
    assert not page.all("link") + page.all("iframe") + page.all("object") + page.all("base")
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert "connect-src" not in rules
    assert "unsafe" not in rules["script-src"]
    run = [body for body, attrs in zip(page.scripts, page.all("script"), strict=True) if "type" not in attrs]
    for body in run:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


@pytest.fixture
def demo_like(tmp_path):
    """What `invdiff demo` leaves behind, small."""
    folder, x = tmp_path / "demo", arrays(0)
    folder.mkdir()
    named = {"truth": "reference", "zero_filled": "direct", "tv": "direct", "recon": "mean", "recon_std": "std"}
    paths = [save(folder / f"{name}.nii.gz", x[role]) for name, role in named.items()]
    rows = {
        m: measures.evaluate(x[r], x["reference"]) for m, r in (("zero_filled", "direct"), ("reconstruction", "mean"))
    }
    sums = {path.name: sha256(path) for path in paths}
    content = facts(metrics=rows, output_sha256=sums, total_seconds=99.5)
    (folder / "recon.json").write_text(json.dumps(content))
    return folder


def test_a_batch_has_a_page_of_all_and_one_per_subject(tmp_path, cli):
    failures = [{"name": "sub-03_T1w", "input": "c.nii.gz", "kind": "FileError", "reason": "c.nii.gz: truncated"}]
    names = ["sub-01_T1w", "sub-01_T2w", "sub-02_T1w"]
    folder = batch(tmp_path / "out", names, failures=failures, subjects=["01", "01", "02"])
    done = cli("report", folder)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"report: {folder / 'report.html'} and 2 beside it\n"
    assert sorted(p.name for p in folder.glob("*.html")) == ["report.html", "report_sub-01.html", "report_sub-02.html"]
    first = Page(folder / "report.html")
    assert first.rows[0] == ["picture", "scan", "PSNR / dB", "SSIM", "NRMSE", "chi²", "seconds", "warnings"]
    assert [row[1:] for row in first.rows[1:4]] == [
        [name, f"{30 + n}.00", "0.9000", "0.1000", "1.05", "12.3", "1"] for n, name in enumerate(names)
    ]
    assert ["sub-03_T1w", "c.nii.gz", "FileError", "c.nii.gz: truncated"] in first.rows
    links = [a["href"] for a in first.all("a")][1:]
    assert links == ["report_sub-01.html#scan-1", "report_sub-01.html#scan-2", "report_sub-02.html#scan-1"]
    for said in (
        "batch of 4 scans", "Research use only", "chi2 = 2.25, expected 1", "acquisition.kind mri", "samples 8",
        "stages simulate, reconstruct, evaluate", "protocol.hash c0ffee", "versions.torch 2.13.0", "machine.device cpu",
        "command_line batch scans -o out", "Zhu et al.: A paper, CVPR-W, 2023",
    ):  # fmt: skip
        assert said in first.text, said
    assert 'id="viewer"' not in first.source
    second = Page(folder / "report_sub-01.html")
    assert [s["name"] for s in second.payload()["scans"]] == names[:2]
    assert {"scan-1", "scan-2"} <= {a.get("id") for a in second.all("article")}
    assert [a["href"] for a in second.all("a")] == ["#main", "report.html"]
    for said in ("solver.steps 12", f"prior.sha256 {'ab' * 32}", "first sample 0.0226 2.25", "Zhu et al."):
        assert said in second.text, said
    assert "solver.ladder" not in second.text
    assert "The sample fits the measurement worse than its noise explains." in second.text
    for page in (first, second):
        asks_for_nothing(page)


def test_a_batch_of_one_scan_has_one_page_with_all(tmp_path, cli):
    folder = batch(tmp_path / "out", ["t1"])
    cli("report", folder, "-o", tmp_path / "one.html")
    assert [p.name for p in tmp_path.glob("*.html")] == ["one.html"]
    page = Page(tmp_path / "one.html")
    assert page.all("h1")
    titles = ["Reference", "Input", "Reconstruction", "|Error|", "Uncertainty"]
    assert [i["title"] for i in page.payload()["scans"][0]["images"]] == titles
    alts = [i["alt"] for i in page.all("img")]
    assert [alt.split(",")[0] for alt in alts] == titles
    for said in (
        "t1",
        "PSNR / dB 30.00",
        "samples 8",
        "protocol.hash c0ffee",
        "ssim mode: 2d",
        "Zhu et al.",
        "20 x 18 x 6 voxels of 2 x 3 x 2.5 mm, stored LSP",
    ):
        assert said in page.text, said
    asks_for_nothing(page)


def test_scans_that_all_failed_still_have_a_report(tmp_path, cli):
    failures = [{"name": "a", "input": "a.nii", "kind": "GeometryError", "reason": "singular"}]
    folder = batch(tmp_path / "out", [], failures=failures)
    assert cli("report", folder).code == 0
    assert ["a", "a.nii", "GeometryError", "singular"] in Page(folder / "report.html").rows


def test_volumes_in_the_page_are_those_of_the_files_in_the_same_place(tmp_path, cli):
    folder = batch(tmp_path / "out", ["t1"])
    cli("report", folder)
    page = Page(folder / "report.html")
    found, scan = page.volumes(), page.payload()["scans"][0]
    stored = arrays(0)
    stored["error"] = np.abs(np.float32(stored["mean"]) - np.float32(stored["reference"]))
    windows = {i["role"]: (i["low"], i["high"]) for i in scan["images"]}
    assert windows["mean"] == windows["reference"] == windows["direct"]
    assert windows["mean"] == pytest.approx(np.quantile(np.float32(stored["reference"]), (0.005, 0.995)), rel=1e-6)
    assert windows["error"] == windows["std"] == pytest.approx((0, np.quantile(stored["error"], 0.995)), rel=1e-5)
    for role, image in found.items():
        source = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.float32(stored[role]), AFFINE))
        low, high = windows[role]
        np.testing.assert_allclose(image.affine, source.affine, atol=1e-6)
        expected = np.clip(source.get_fdata(), low, high)
        assert np.abs(image.get_fdata() - expected).max() <= 0.501 * (high - low) / 255
    assert scan["shape"] == list(found["mean"].shape) == [20, 6, 18]
    np.testing.assert_allclose(scan["affine"], found["mean"].affine, atol=1e-6)
    assert scan["spacing"] == pytest.approx([2, 2.5, 3])


def test_the_same_inputs_give_the_same_bytes(tmp_path, cli):
    folder, written = batch(tmp_path / "out", ["a"]), []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert cli("report", folder, "-o", tmp_path / name / "r.html").code == 0
        written.append((tmp_path / name / "r.html").read_bytes())
    assert written[0] == written[1]


def test_what_files_say_is_never_markup(tmp_path, cli):
    failures = [{"name": HOSTILE, "input": HOSTILE, "kind": HOSTILE, "reason": HOSTILE}]
    folder = batch(tmp_path / "out", [HOSTILE, f"</script>{HOSTILE}"], failures=failures)
    record = json.loads((folder / "run_report.json").read_text())
    record["settings"][HOSTILE] = HOSTILE
    record["citations"][0]["title"] = HOSTILE
    record["results"][0]["warnings"] = [HOSTILE]
    record["results"][0]["metrics"][0][HOSTILE] = 1.0
    record["results"][1]["metrics"][0]["$x"] = 2.0
    (folder / "run_report.json").write_text(json.dumps(record))
    (folder / "scan0_desc-mean.json").write_text(json.dumps(facts(gives=HOSTILE, solver={"kind": HOSTILE})))
    assert cli("report", folder).code == 0
    pages = [Page(path) for path in sorted(folder.glob("*.html"))]
    assert len(pages) == 3
    for page in pages:
        assert HOSTILE in page.text
        assert HOSTILE not in page.source
        assert "alert(1)" not in "".join(s for s in page.scripts if not s.startswith("{"))
        asks_for_nothing(page)
    assert {p.name for p in folder.glob("*.html")} == {
        "report.html", "report__script_alert_1_script_.html", "report__script_script_alert_1_script_.html"
    }  # fmt: skip


def test_the_demo_compares_its_methods_and_cites_the_solver(demo_like, cli):
    done = cli("report", demo_like, "-o", demo_like / "r.html")
    assert done.err == f"report: {demo_like / 'r.html'}\n"
    page = Page(demo_like / "r.html")
    titles = ["Reference", "Input", "Total variation", "Reconstruction", "|Error|", "Uncertainty"]
    assert [i["title"] for i in page.payload()["scans"][0]["images"]] == titles
    x = arrays(0)
    psnr = measures.evaluate(x["mean"], x["reference"])["psnr"]
    assert page.rows[0] == ["image", "PSNR / dB", "SSIM", "NRMSE", "HFEN"]
    assert page.rows[2][:2] == ["reconstruction", f"{psnr:.2f}"]
    for said in (
        "invdiff demo",
        f"PSNR / dB {psnr:.2f}",
        "seconds 99.5",
        catalogue.find("solvers", "diffpir")["paper"],
    ):
        assert said in page.text, said
    asks_for_nothing(page)


def test_a_reconstruction_for_real_then_with_a_reference(y, small_volume, tmp_path, cli):
    folder = tmp_path / "out"
    folder.mkdir()
    assert cli("reconstruct", y, "-o", folder / "recon.nii", "--solver", "adjoint").code == 0
    page_at = tmp_path / "r.html"
    assert cli("report", folder, "-o", page_at).code == 0
    page = Page(page_at)
    (scan,) = page.payload()["scans"]
    assert [i["role"] for i in scan["images"]] == ["mean"]
    assert "solver.kind adjoint" in page.text
    assert "PSNR" not in page.text
    assert cli("report", folder, "-o", page_at, "--reference", small_volume, "--force").code == 0
    page = Page(page_at)
    assert set(page.volumes()) == {"reference", "mean", "error"}
    evaluated = json.loads(cli("evaluate", folder / "recon.nii", "--reference", small_volume, "--json").out)[0]
    assert page.rows[1] == [
        "reconstruction",
        *(tables.number(evaluated[m], m) for m in ("psnr", "ssim", "nrmse", "hfen")),
    ]


def test_several_reconstructions_have_a_page_each(tmp_path, cli):
    folder = single(tmp_path / "out", "a")
    single(folder, "b", warnings=[])
    (folder / "other.json").write_text('{"of": "another program"}')
    (folder / "list.json").write_text("[]")
    assert cli("report", folder).code == 0
    assert sorted(p.name for p in folder.glob("*.html")) == ["report.html", "report_a.html", "report_b.html"]
    page = Page(folder / "report.html")
    assert "2 reconstructions" in page.text
    assert [row[1:] for row in page.rows[1:]] == [["a", "1.8", "1"], ["b", "1.8", ""]]


def test_a_frame_of_a_denoised_series(tmp_path, cli):
    folder = tmp_path / "out"
    folder.mkdir()
    x = arrays(0)["mean"]
    path = save(folder / "recon.nii", np.stack([x, 2 * x]).astype(np.float32))
    denoised = facts(solver=None, method={"kind": "difusion"}, seconds=3.5, output_sha256={"recon.nii": sha256(path)})
    (folder / "recon.json").write_text(json.dumps(denoised))
    assert cli("report", folder, "--frame", 1).code == 0
    page = Page(folder / "report.html")
    assert "seconds 3.5" in page.text
    assert catalogue.find("denoising", "difusion")["paper"] in page.text
    assert "Of 2 frames, number 1 is shown, counted from 0." in page.text
    window = page.payload()["scans"][0]["images"][0]
    assert window["high"] == pytest.approx(np.quantile(np.float32(2 * x), 0.995), rel=1e-6)


def test_images_that_cannot_be_compared_are_said_so(tmp_path):
    x = arrays(0)
    mean = save(tmp_path / "mean.nii", x["mean"])
    other = save(tmp_path / "other.nii", x["reference"][:, :-1])
    moved = save(tmp_path / "moved.nii", x["direct"], AFFINE + np.diag([0.1, 0, 0, 0]))
    scan = views.load(Case("a", {"reference": other, "direct": moved, "mean": mean}))
    assert list(scan.images) == ["direct", "mean"]
    assert scan.notes == [
        "Reference: its grid is (20, 17, 6), that of the reconstruction (20, 18, 6); it is not shown.",
        "Input: its affine is another; it is shown voxel by voxel, in the place of the reconstruction.",
    ]


def test_planes_have_the_front_and_the_head_up_and_the_right_at_the_right():
    x = np.zeros((5, 6, 7), np.float32)
    x[4, :, :], x[:, 5, :], x[:, :, 6] = 1, 2, 3  # right, front, top; later ones win
    axial, coronal, sagittal = (mosaic.plane(x, axis, 2) for axis in (2, 1, 0))
    assert axial.shape == (6, 5)
    assert (axial[0] == 2).all()  # front in the first row
    assert (axial[1:, -1] == 1).all()  # right in the last column
    assert (coronal[0] == 3).all()
    assert (coronal[1:, -1] == 1).all()
    assert (sagittal[0] == 3).all()
    assert (sagittal[1:, -1] == 2).all()


def test_a_picture_shows_the_planes_in_millimetres_in_one_window(tmp_path):
    """A bright corner at the left, back and bottom of the head lies there in each plane of the picture."""
    x = np.zeros(SHAPE, np.float32)
    x[10:, :9, 3:] = 100  # stored axes run to the left, up and to the back
    scan = views.load(Case("a", {"mean": save(tmp_path / "a.nii", x)}))
    picture = mosaic.picture(scan, scan.images["mean"])
    pixels = pictures.imread(BytesIO(base64.b64decode(picture.split(",")[1])), format="webp")[..., 0]
    height, width = pixels.shape
    # 40 mm to the right, 15 to the front, 54 upwards; the widest plane fills the width.
    scale = width / 40
    expected = scale * (15 + 54 + 54) + (2 * mosaic.GAP + mosaic.BAR) * mosaic.DPI
    assert height == pytest.approx(expected, abs=2)
    axial, coronal = pixels[: int(15 * scale)], pixels[int(17 * scale) : int(69 * scale)]
    for plane in (axial, coronal):
        h, w = plane.shape
        quarters = [plane[: h // 2, : w // 2], plane[: h // 2, w // 2 :], plane[h // 2 :, : w // 2]]
        corner = plane[h // 2 :, : w // 2]
        assert np.median(corner) > 200
        assert np.median(quarters[0]) < 50
        assert np.median(quarters[1]) < 50


def test_psnr_and_sizes_of_slices(tmp_path):
    x = arrays(3)
    x["mean"][..., 2] = x["reference"][..., 2]
    x["reference"][..., 4] = 7
    paths = {role: save(tmp_path / f"{role}.nii", v) for role, v in x.items()}
    scan = views.load(Case("a", paths))
    x = {role: np.float32(v).astype(float) for role, v in x.items()}
    error = x["mean"] - x["reference"]
    span = np.ptp(x["reference"], axis=(0, 1))
    with np.errstate(divide="ignore"):
        expected = 10 * np.log10(span**2 / np.square(error).mean((0, 1)))
    expected[[2, 4]] = np.nan  # infinite, and without a range
    np.testing.assert_allclose(measures.psnr_of_slices(scan)["mean"], expected, rtol=1e-5)
    sizes = measures.sizes_of_slices(scan)
    np.testing.assert_allclose(sizes["error"], np.sqrt(np.square(error).mean((0, 1))), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sizes["std"], np.sqrt(np.square(x["std"]).mean((0, 1))), rtol=1e-5)


def test_large_volumes_are_averaged_over_blocks_in_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "MAX_VOXELS", 300)
    x = np.zeros(SHAPE, np.float32)
    x[5:9, 4:8, 2:4] = 100
    scan = views.load(Case("a", {"mean": save(tmp_path / "a.nii", x)}))
    assert embed.reduction(scan) == (2, 2, 2)  # the finest first: 2 mm, 2.5 mm, then 3 mm
    content = embed.payload("a", scan)
    small = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(content["images"][0]["nifti"])))
    assert content["shape"] == small.shape == (10, 3, 9)

    def centre(data, affine):
        return affine[:3] @ [*(np.average(i, weights=data) for i in np.indices(data.shape)), 1]

    np.testing.assert_allclose(centre(small.get_fdata(), small.affine), centre(x, AFFINE), atol=0.1)
    assert all(0 <= k < n for k, n in zip(content["start"], content["shape"], strict=True))


def test_pages_are_named_for_any_file_system(tmp_path):
    run = Run("r", [Case(name, {}) for name in ("a b", "a/b", "A_b", "../x", "é")])
    files = [leaf.file for leaf in leaves.leaves(run, tmp_path / "r.html")]
    assert files == ["r_a_b.html", "r_a_b-2.html", "r_A_b-3.html", "r_.._x.html", "r__.html"]


def test_numbers_are_as_precise_as_they_deserve():
    cells = [("psnr", 31.868), ("ssim", 0.83967), ("chi2", 1.23256), ("chi2", None), ("psnr", np.inf), ("mask", False)]
    assert [tables.number(v, k) for k, v in cells] == ["31.87", "0.8397", "1.233", "n/a", "∞", "no"]
    assert tables.number(294912) == "294912"
    assert tables.flat({"a": {"b": [1, 2.5], "c": None}, "d": True}) == [("a.b", "1, 2.5"), ("d", "true")]


def test_chi2_is_put_in_words():
    assert sections.verdict(None) == ""
    assert sections.verdict(2.1) == "The sample fits the measurement worse than its noise explains."
    assert sections.verdict(0.4).endswith("closer than its noise allows: it follows the noise.")
    assert (
        sections.verdict(0.6)
        == sections.verdict(1.9)
        == ("The sample fits the measurement as closely as its noise allows.")
    )


def test_the_bundle_is_the_one_that_the_lock_file_pins():
    root = Path(__file__).parents[2]
    lock = json.loads((root / "cli" / "viewer" / "package-lock.json").read_text())
    pinned = lock["packages"]["node_modules/@niivue/niivue"]
    assert pinned["integrity"].startswith("sha512-")
    assets = root / "cli" / "invdiff_cli" / "report" / "assets"
    bundle = (assets / "niivue.min.js").read_text()
    assert f'version:"{pinned["version"]}"' in bundle.replace("'", '"')
    assert not re.search(r"WebAssembly|\beval\(|new Function|new Worker|\bimport\(", bundle)
    licences = (assets / "niivue.LICENSE.txt").read_text()
    for name in ("Copyright (c) 2021, Niivue", "Arjun Barrett", "Brandon Jones", "RII-UTHSCSA", "Luke Edwards"):
        assert name in licences


# Refusals


def test_refuses_what_is_no_run(tmp_path, refused):
    message = refused(4, "report", tmp_path / "none", "-o", tmp_path / "r.html")
    assert "none is no folder; name the output folder of `invdiff batch`, `demo` or `reconstruct`" in message
    (tmp_path / "empty").mkdir()
    message = refused(4, "report", tmp_path / "empty")
    assert (
        "empty holds no volumes and no record of a run (run_report.json, or a .json beside a volume); name" in message
    )
    (tmp_path / "only").mkdir()
    save(tmp_path / "only" / "a.nii", arrays(0)["mean"])
    assert "only holds volumes, but no record of a run (run_report.json, or" in refused(4, "report", tmp_path / "only")


def test_refuses_a_batch_that_is_damaged(tmp_path, refused):
    folder = batch(tmp_path / "out", ["t1"])
    record = folder / "run_report.json"
    content = json.loads(record.read_text())
    (folder / "scan0_desc-std.nii.gz").rename(folder / "moved.nii.gz")
    message = refused(4, "report", folder)
    assert "scan0_desc-std.nii.gz (std of t1), which is not there; run the batch again, or put it back" in message
    (folder / "moved.nii.gz").rename(folder / "scan0_desc-std.nii.gz")
    for change, said in (
        ({"results": [], "failures": []}, "run_report.json lists no scan, finished or failed; there is nothing to"),
        ({"results": [{"name": "t1", "files": {}}]}, "run_report.json lists no mean for t1; run the batch again"),
        ({"results": [{"files": {}}]}, "run_report.json is no record of a batch (KeyError('name')); name the output"),
        ({"results": 3}, "run_report.json is no record of a batch (TypeError("),
    ):
        record.write_text(json.dumps(content | change))
        assert said in refused(4, "report", folder)
    content["results"][0]["files"]["reference"] = str(tmp_path / "gone.nii")
    record.write_text(json.dumps(content))
    assert "gone.nii (reference of t1), which is not there; pass the folder that holds it" in refused(
        4, "report", folder
    )
    record.write_text("[]")
    assert "run_report.json is no record of a batch (TypeError(" in refused(4, "report", folder)
    record.write_text("{")
    assert "run_report.json is not JSON (Expecting property name" in refused(4, "report", folder)


def test_refuses_a_reconstruction_that_is_not_whole(tmp_path, refused):
    folder = single(tmp_path / "out")
    save(folder / "other.nii.gz", arrays(1)["std"])
    std = folder / "recon_std.nii.gz"
    kept = std.read_bytes()
    std.write_bytes((folder / "other.nii.gz").read_bytes())
    message = refused(4, "report", folder)
    assert "recon_std.nii.gz is not the file that " in message
    assert "recon.json tells of (checksum differs); run it again" in message
    std.unlink()
    assert "recon.json lists recon_std.nii.gz, which is not there; reconstruct again, or put" in refused(
        4, "report", folder
    )
    std.write_bytes(kept)
    (folder / "recon.json").write_text(json.dumps(facts(output_sha256={})))
    assert "recon.json lists no volume recon.nii.gz; reconstruct again" in refused(4, "report", folder)


def test_refuses_outputs_and_flags(tmp_path, refused, cli):
    folder = single(tmp_path / "out")
    message = refused(2, "report", folder, "-o", tmp_path / "r.htm")
    assert "r.htm: a report is written as .html; choose this ending" in message
    assert "no/r.html: the folder " in refused(4, "report", folder, "-o", tmp_path / "no" / "r.html")
    assert f"--frame 2: {folder / 'recon.nii.gz'} has 1, counted from 0" in refused(2, "report", folder, "--frame", 2)
    message = refused(4, "report", folder, "--reference", tmp_path / "no.nii")
    assert "no.nii: no such file; check the name" in message
    assert cli("report", folder).code == 0
    assert "report.html exists; pass --force to replace it" in refused(2, "report", folder)
    assert cli("report", folder, "--force").code == 0
    single(folder, "b")
    message = refused(2, "report", folder, "--input", folder / "b.nii.gz", "-o", tmp_path / "r.html")
    assert f"--reference and --input belong to one scan, {folder} holds 2" in message
    (tmp_path / "r_b.html").write_text("mine")
    assert "r_b.html exists; pass --force to replace it" in refused(2, "report", folder, "-o", tmp_path / "r.html")
