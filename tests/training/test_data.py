"""Sources of crops: what is held out stays out, phases are smooth and forgotten, contrasts keep air at zero."""

import nibabel
import numpy as np
import pytest
import torch

from invdiff.errors import DatasetError
from invdiff.rng import generator
from invdiff.training.crops import Crops, Mixed, WithPhase
from invdiff_datasets.phantoms import Ellipses
from invdiff_datasets.synthesis import LabelCrops
from invdiff_datasets.training import sources


def draws_the_same(source, channels):
    a, b = (source.draw(5, 24, generator("crops")) for _ in range(2))
    assert a.shape == (5, channels, 24, 24)
    assert a.dtype == torch.float32
    assert torch.equal(a, b)
    assert not torch.equal(a, source.draw(5, 24, generator("others")))
    assert torch.isfinite(a).all()
    return a


def ramp(shape=(40, 36, 34)):
    """Each slice of the third axis has a value of its own."""
    return torch.arange(1.0, shape[2] + 1).expand(shape)[None] / shape[2]


def test_crops_are_reproducible_and_of_all_planes():
    source = Crops([ramp()], [(1.0, 1.0, 1.0)])
    draws_the_same(source, 1)
    assert len(source.stacks) == 6, "three planes, two resolutions"
    thick = Crops([ramp()], [(1.0, 1.0, 5.0)])
    assert [tuple(s.shape) for s in thick.stacks] == [(34, 1, 40, 36), (34, 1, 20, 18)], "no plane across thick slices"
    with pytest.raises(ValueError, match="no plane of these volumes has 16 x 16 voxels"):
        Crops([ramp()], [(1.0, 1.0, 5.0)], planes=0)


def test_a_window_leaves_intensities_alone():
    x = draws_the_same(Crops([ramp()], [(1.0, 1.0, 1.0)], contrast=False, planes=2), 1)
    flat = x.flatten(1)
    inner = flat[(flat.amin(1) == flat.amax(1))]  # crops that were cut, not warped: one slice, one value
    assert len(inner) > 0
    levels = set(ramp().unique().tolist()) | set(torch.nn.functional.avg_pool3d(ramp()[None], 2).unique().tolist())
    assert all(min(abs(float(v) - w) for w in levels) < 1e-5 for v in inner[:, 0])


def test_what_is_held_out_is_never_drawn(tmp_path):
    """A volume whose held-out slab alone is bright: training crops stay dark, validation crops are bright."""
    image = np.full((32, 32, 40), 100.0, np.float32)
    image[:, :, 18:22] = 1000.0
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "v.nii")
    data = sources([tmp_path / "v.nii"], window=(0.0, 1000.0), holdout=0.1, planes=2)
    train, held = data.train.draw(60, 16, generator(0)), data.validation.draw(20, 16, generator(0))
    assert float(train.max()) < 0.2
    assert float(held.max()) > 0.9
    assert data.spacing == [1.0, 2.0], "full and half resolution"
    assert [s["file"] for s in data.scans] == ["v.nii"]


def test_mixtures_keep_their_shares():
    dark, bright = (Crops([torch.full((1, 20, 20, 20), v)], [(1.0, 1.0, 1.0)], contrast=False) for v in (0.2, 0.8))
    x = Mixed([dark, bright], [1, 3]).draw(400, 16, generator(0))
    assert x.shape == (400, 1, 16, 16)
    share = float((x.amax((1, 2, 3)) > 0.5).float().mean())
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5


def test_a_phase_keeps_the_magnitude_and_is_smooth():
    magnitudes = Crops([torch.ones((1, 40, 40, 40))], [(1.0, 1.0, 1.0)], contrast=False, planes=0)
    z = WithPhase(magnitudes).draw(50, 32, generator(1))
    x = magnitudes.draw(50, 32, generator(1))
    torch.testing.assert_close(torch.linalg.vector_norm(z, dim=1), x[:, 0].abs(), atol=1e-5, rtol=1e-5)
    full = x.amin((1, 2, 3)) > 0.99
    z = torch.complex(z[full, 0], z[full, 1])
    steps = torch.angle(z[:, 1:] * z[:, :-1].conj()).abs()
    assert float(steps.mean()) < 0.12
    assert float(steps.max()) < 1.0
    constant = torch.angle(z.mean((1, 2)))
    assert constant.min() < -1.5
    assert constant.max() > 1.5


def test_painted_labels():
    labels = torch.zeros((40, 40, 40))
    labels[8:32, 8:32, 8:32] = 1
    labels[14:26, 14:26, 14:26] = 2
    x = draws_the_same(LabelCrops([labels]), 1)
    assert float(x.min()) >= 0
    assert len({round(float(v), 2) for v in x.amax((1, 2, 3))}) > 1, "each crop has intensities of its own"


def test_ellipses_follow_their_recipe():
    x = draws_the_same(Ellipses(), 1)
    x = Ellipses().draw(12, 96, generator(3))
    assert float(x.min()) == 0
    torch.testing.assert_close(x.amax((1, 2, 3)), torch.ones(12))
    corner = x[:, :, :6, :6]
    assert float(corner.abs().max()) == 0, "centres lie within half of the field"
    values = x[0].unique()
    assert len(values) > 50, "piecewise constant, many overlapping pieces"


def test_messages(tmp_path, small_volume):
    with pytest.raises(DatasetError, match=r"no \.nii or \.nii\.gz volumes in .*; name files or another folder"):
        sources([tmp_path])
    with pytest.raises(DatasetError, match=r"small\.nii\.gz has 1 frame\(s\), not a real and an imaginary one"):
        sources([small_volume], channels=2, phase="frames")
    with pytest.raises(DatasetError, match="no plane of these volumes"):
        sources([small_volume], planes=0)
