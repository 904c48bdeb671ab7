"""Each mistake is planted and must be named; without it the same prior and volume must be found right."""

import dataclasses
import typing

import numpy as np
import pytest
import torch

import invdiff_datasets
from invdiff.errors import PriorError
from invdiff.priors import GaussianPrior, checkpoints, plausibility
from invdiff.priors.check import MARGIN, check, examine
from invdiff.priors.tables import table
from invdiff.volumes import Volume

N = 24
REPLACE = dataclasses.replace


def dct():
    k = torch.arange(N).double()
    M = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / (2 * N)) * (2 / N) ** 0.5
    M[0] /= 2**0.5
    return M.float()


def variances(rows, columns):
    """A spectrum that falls faster along the rows than along the columns, or the other way about."""
    f = torch.arange(N).float()
    c = 1 / (1 + (f[:, None] / rows) ** 2 + (f[None] / columns) ** 2) ** 2
    return c / c.mean()


class Exact(torch.nn.Module):
    """The network of a Gaussian prior in closed form: edm, vp-eps or flow, for images in `span`."""

    multiple_of = 1

    def __init__(
        self, kind="edm", schedule="linear", span=(0.0, 1.0), spectra=((2, 8),), slope=0.0, spread=0.02, mean_spread=1.0
    ):
        super().__init__()
        self.kind, self.levels, self.config = kind, table(schedule).levels, {"in_channels": len(spectra)}
        M, unit = dct(), span[1] - span[0]
        ramp = 0.5 + slope * torch.linspace(-1, 1, N)[:, None].expand(N, N)
        channels = len(spectra)
        mean = (ramp if channels == 1 else torch.zeros(N, N)).expand(channels, N, N)
        variance = spread * torch.stack([variances(*s) for s in spectra])
        variance[:, 0, 0] *= mean_spread
        maps = {"analysis": lambda x: M @ x @ M.T, "synthesis": lambda x: M.T @ x @ M}
        self.images = GaussianPrior(mean, variance, **maps)
        self.prior = GaussianPrior(span[0] + unit * mean, unit**2 * variance, **maps)

    def forward(self, x, label):
        if self.kind == "vp-eps":
            s = torch.from_numpy(np.interp(label, np.arange(len(self.levels)), self.levels.log())).float().exp()
        else:
            s = {"edm": (4 * label).exp(), "flow": label / (1 - label)}[self.kind]
        s = s[:, None, None, None]
        total = (s**2 + 0.25).sqrt()
        z = x * {"edm": total, "vp-eps": (1 + s**2).sqrt(), "flow": 1 + s}[self.kind]
        clean = self.prior.denoise(z, s.flatten())
        noise = (z - clean) / s
        return {
            "edm": (clean - 0.25 / total**2 * z) * total / (0.5 * s),
            "vp-eps": noise,
            "flow": noise - clean,
        }[self.kind]

    def volume(self, frames=1, spacing=2.0):
        """Draws from the prior, about 0 to 1, as slices along the third axis."""
        c = self.images.variance.sqrt()
        g = torch.Generator().manual_seed(3)
        draws = self.images.mean + self.images.synthesis(c * torch.randn(12, *c.shape, generator=g))
        return Volume(draws.movedim(0, -1)[:frames].contiguous(), np.diag([spacing] * 3 + [1.0]))


def card(net, **fields):
    usual = {"name": "exact", "config": net.config, "mean": 0.5, "std": 0.5, "sigma_max": 80.0}
    return checkpoints.Card(**(usual | fields))


def units(low, high, window=None):
    return {"window": window, "range": [low, high]}


def kinds(report):
    return [f.kind for f in report.findings]


def planted(net, right, wrong, kind, message, volume=None, wrong_volume=None, **how):
    """The right card and volume are clean; the wrong ones are found, by more than the margin, and named."""
    volume = net.volume() if volume is None else volume
    clean = examine(net, right, volume, **how)
    assert clean.ok, clean.findings
    assert max(clean.tried.values()) < MARGIN
    found = examine(net, wrong, volume if wrong_volume is None else wrong_volume, **how)
    assert kinds(found) == [kind], found.findings
    assert message in found.findings[0].text


@pytest.mark.parametrize("true", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)], ids=str)
@pytest.mark.parametrize("said", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)], ids=str)
def test_range(true, said):
    if true == said:
        return
    net = Exact("flow", span=true)
    how = {"parameterisation": "flow"}
    right, wrong = card(net, units=units(*true), **how), card(net, units=units(*said), **how)
    planted(net, right, wrong, "scale", f"convert it again with --range {true[0]:g} {true[1]:g}")


@pytest.mark.parametrize(
    ("kind", "schedule", "said"),
    [
        ("vp-eps", "linear", {"parameterisation": "flow"}),
        ("flow", "linear", {"parameterisation": "vp-eps"}),
        ("edm", "linear", {"parameterisation": "vp-eps"}),
        ("vp-eps", "linear", {"parameterisation": "vp-eps", "schedule": "cosine"}),
        ("vp-eps", "cosine", {"parameterisation": "vp-eps", "schedule": "linear"}),
        ("vp-eps", "scaled_linear", {"parameterisation": "vp-eps", "schedule": "linear"}),
    ],
)
def test_schedule_and_parameterisation(kind, schedule, said):
    net = Exact(kind, schedule)
    right = {"parameterisation": kind, "schedule": schedule}
    flags = f"--parameterisation {kind}" + (f" --schedule {schedule}" if kind == "vp-eps" else "")
    planted(net, card(net, **right), card(net, **said), "schedule", f"convert it again with {flags}")


def test_transposed():
    net = Exact()
    volume = net.volume()
    turned = Volume(volume.data.transpose(1, 2).contiguous(), volume.affine)
    planted(net, card(net), card(net), "orientation", "with rows and columns swapped", wrong_volume=turned)


def test_upside_down():
    net = Exact(slope=0.3, spread=0.012)
    turned = Volume(net.volume().data.flip(1), net.volume().affine)
    planted(net, card(net), card(net), "orientation", "with the rows reversed", wrong_volume=turned)


def test_wrong_plane_by_the_noise_removed():
    """Slices along the third axis follow the prior; along the others they are white across slices."""
    net = Exact(spectra=((2, 3),))
    data = torch.cat([net.volume().data, net.volume().data.flip(3)], dim=3)
    volume = Volume(data, net.volume().affine)
    named = card(net, planes="coronal")
    assert kinds(examine(net, REPLACE(named, planes="axial"), volume)) == []
    moved = Volume(data.movedim(3, 1).contiguous(), volume.affine)
    report = examine(net, REPLACE(named, planes="other"), moved)
    assert "plane" in kinds(report)
    assert "use --axis 0" in report.findings[-1].text


@pytest.mark.parametrize(
    ("planes", "codes", "axis", "right"),
    [
        ("axial", "RAS", 2, None),
        ("axial", "RAS", 0, 2),
        ("axial", "LIP", 2, 1),
        ("coronal", "LIP", 2, None),
        ("sagittal", "PSR", 0, 2),
        ("1", "RAS", 1, None),
        ("1", "RAS", 2, 1),
        ("all", "RAS", 0, None),
    ],
)
def test_wrong_plane_by_the_header(planes, codes, axis, right):
    ends = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, code in enumerate(codes):
        row, sign = ends[code]
        affine[row, column] = sign
    volume = Volume(torch.zeros(1, 2, 3, 4), affine)
    assert volume.orientation == codes
    message = plausibility.plane(card(Exact(), planes=planes), volume, axis)
    assert message == "" if right is None else message.endswith(f"use --axis {right}")


def test_swapped_channels():
    net = Exact(spectra=((2, 2), (12, 12)), spread=0.07)
    volume = net.volume(frames=2)
    swapped = Volume(volume.data.flip(0), volume.affine)
    it = card(net, mean=0.0)
    planted(net, it, it, "channel", "with its two channels swapped", volume, swapped, parts=True)


@pytest.fixture(scope="module")
def brain():
    return checkpoints.load(checkpoints.find("brain-mr"))


@pytest.fixture(scope="module")
def epi():
    volume = invdiff_datasets.epi_2mm()
    return volume.crop((32, 16, 8), (64, 64, 8))


QUICK = {"slices": 1}


def test_the_shipped_prior_fits_a_scan_it_never_saw(epi):
    report = check(checkpoints.find("brain-mr"), invdiff_datasets.epi_2mm(), slices=2)
    assert report.ok, report.findings
    for level in report.levels:
        assert level.removed > level.blur + 3
        assert abs(level.bias) < 0.05
    assert max(report.tried.values()) < MARGIN / 2


def test_a_magnitude_prior_measures_its_scale(brain, epi):
    """A factor is no mistake for it: the 99.9th percentile takes it out."""
    report = examine(*brain, epi.like(epi.data * 255), **QUICK)
    assert report.ok, report.findings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"units": units(-1.0, 1.0)}, "scale: --range 0 1"),
        ({"parameterisation": "vp-eps"}, "schedule: --parameterisation edm"),
    ],
    ids=str,
)
def test_a_falsified_card_of_real_weights(brain, epi, wrong, message):
    net, right = brain
    report = examine(net, REPLACE(right, **wrong), epi, **QUICK)
    kind, flags = message.split(": ")
    assert kinds(report) == [kind]
    assert report.findings[0].text.endswith(f"convert it again with {flags}")


def test_a_shifted_magnitude(brain, epi):
    report = examine(*brain, epi.like(2 * epi.data / epi.data.max() - 1), **QUICK)
    assert kinds(report) == ["values"]
    assert "this volume was shifted, e.g. to [-1, 1]; add 1 to it" in report.findings[0].text


def test_a_missing_channel(brain, epi):
    """The real part alone, of an image whose phase runs once around."""
    phase = torch.linspace(-3, 3, 64)[None, :, None, None]
    report = examine(*brain, epi.like(epi.data * phase.cos()), **QUICK)
    assert kinds(report)[-1] == "values"
    assert "negative, which no magnitude is" in report.findings[-1].text or "begin at zero" in report.findings[-1].text


WINDOWED = {
    "x255": (lambda x: 255 * x, "when the volume's values are divided by 255"),
    "[0, 1]": (lambda x: (x + 1000) / 2000, "when the volume's [0, 1] is taken as the window -1000 to 1000"),
    "[-1, 1]": (lambda x: x / 1000, "when the volume's [-1, 1] is taken as the window -1000 to 1000"),
    "[0, 255]": (lambda x: (x + 1000) / 2000 * 255, "when the volume's [0, 255] is taken as the window"),
    "+1000": (lambda x: x + 1000, "when 1000 is subtracted from the volume"),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window(name):
    change, message = WINDOWED[name]
    net = Exact("flow", mean_spread=0.02)  # in a body the mean is well known, or no shift would show
    it = card(net, parameterisation="flow", units=units(0.0, 1.0, [-1000.0, 1000.0]))
    volume = net.volume()
    hounsfield = volume.like(2000 * volume.data - 1000)
    planted(net, it, it, "values", message, hounsfield, volume.like(change(hounsfield.data)))


def test_voxels_far_from_the_training(brain, epi):
    report = examine(*brain, Volume(epi.data, np.diag([8, 8, 2, 1])), **QUICK)
    assert kinds(report) == ["spacing"]
    assert "the voxels are 8 x 8 mm in the plane, the prior was trained on 0.5 to 3 mm" in report.findings[0].text


@pytest.mark.parametrize(("mm", "good"), [(0.3, False), (0.46, True), (2.0, True), (7.7, True), (8.0, False)])
def test_voxel_sizes(mm, good):
    volume = Volume(torch.zeros(1, 2, 3, 4), np.diag([99, mm, mm, 1]))
    assert (plausibility.spacing(card(Exact(), spacing=[0.5, 7.0]), volume, 0) == "") == good
    assert plausibility.spacing(card(Exact(), spacing=[]), volume, 0) == ""


def test_two_mistakes_at_once():
    net = Exact("flow", span=(-1.0, 1.0))
    turned = Volume(net.volume().data.transpose(1, 2).contiguous(), net.volume().affine)
    report = examine(net, card(net, parameterisation="flow"), turned)
    assert sorted(kinds(report)) == ["orientation", "scale"]


def test_images_that_the_prior_does_not_know():
    net, stranger = Exact(spectra=((1, 1),)), Exact(spectra=((30, 30),))
    smooth = Exact(spectra=((1, 1),))
    assert examine(net, card(net), smooth.volume()).ok
    report = examine(stranger, card(stranger), smooth.volume())
    assert "denoising" in kinds(report)
    assert "the prior does not know such images" in report.findings[0].text


class Unknown(torch.nn.Module):
    config: typing.ClassVar = {"in_channels": 3}
    multiple_of = 1


def test_messages():
    net = Exact()
    flat = net.volume().like(torch.ones_like(net.volume().data))
    with pytest.raises(PriorError, match="the slices are constant"):
        examine(net, card(net), flat)
    with pytest.raises(PriorError, match="need 2 channels and 2 frames; the prior has 1 and the volume 1"):
        examine(net, card(net), net.volume(), parts=True)
    with pytest.raises(PriorError, match="the prior has 3 channels"):
        examine(Unknown(), card(Unknown()), net.volume())


def test_the_noise_is_seeded():
    net = Exact()
    one, same, other = (examine(net, card(net), net.volume(), seed=s) for s in (0, 0, 1))
    assert one.levels == same.levels
    assert one.levels != other.levels
