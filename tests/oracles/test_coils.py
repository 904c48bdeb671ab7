"""ESPIRiT against sigpy's: `make oracles`."""

import nibabel
import numpy as np
import torch
from sigpy.mri.app import EspiritCalib

from invdiff import coilmaps
from invdiff.operators import Coils
from invdiff.space import Space


def test_espirit_spans_what_sigpys_does(epi_path):
    """Both find maps up to a phase at each voxel: their magnitudes, and their overlap, where there is signal."""
    x = torch.from_numpy(np.asarray(nibabel.load(epi_path).dataobj[:, :, 12, 0]).astype(np.float32))
    x = x / x.max()
    true = coilmaps.simulate(6, x.shape, (2.0, 2.2), 3)
    image = torch.polar(x, torch.linspace(0, 2, 96).expand(x.shape))[None, None]
    k = torch.fft.fft2(Coils(Space((1, *x.shape), torch.complex64), true)(image), norm="ortho")
    ours = coilmaps.estimate(k, torch.ones(x.shape, dtype=torch.bool), "espirit")[0]
    # sigpy has DC in the middle of k-space and the origin in the middle of the image.
    coils = torch.fft.ifftshift(torch.fft.ifft2(k, norm="ortho"), dim=(2, 3))
    centred = torch.fft.fftshift(torch.fft.fft2(coils, norm="ortho"), dim=(2, 3))[0].numpy()
    how = {"calib_width": 24, "thresh": 0.02, "kernel_width": 6, "crop": 0.95}
    theirs = torch.from_numpy(np.asarray(EspiritCalib(centred, **how, show_pbar=False).run()))
    signal = (x > 0.1) & (torch.linalg.vector_norm(theirs, dim=0) > 0.5) & (torch.linalg.vector_norm(ours, dim=0) > 0.5)
    assert int(signal.sum()) > 0.8 * int((x > 0.1).sum())
    overlap = (ours.conj() * theirs).sum(0).abs()[signal]
    assert float(overlap.min()) > 0.98
    assert float(overlap.mean()) > 0.999
