"""deepinv's physics obey the laws when wrapped, and ours agree with them: `make oracles`."""

import deepinv
import pytest
import torch

from invdiff.operators import FFT, Coils, FromDeepinv
from invdiff.space import Space
from invdiff.testing.operators import check_dense, check_linear_operator

G = torch.Generator().manual_seed(0)
MASK = (torch.rand(16, 12, generator=G) < 0.4).float()
KERNEL = torch.rand(1, 1, 3, 5, generator=G)
MAPS = torch.randn(1, 3, 16, 12, dtype=torch.complex64, generator=G)
p = deepinv.physics
PHYSICS = {
    "inpainting": (lambda: p.Inpainting(img_size=(1, 16, 12), mask=MASK[None]), 1),
    "blur": (lambda: p.BlurFFT(img_size=(1, 16, 12), filter=KERNEL), 1),
    "downsampling": (lambda: p.Downsampling(img_size=(1, 16, 12), factor=2, filter=None), 1),
    "mri": (lambda: p.MRI(mask=MASK, img_size=(2, 16, 12)), 2),
    "coils": (lambda: p.MultiCoilMRI(mask=MASK, coil_maps=MAPS, img_size=(2, 16, 12)), 2),
    "tomography": (
        lambda: p.Tomography(angles=7, img_width=16, adjoint_via_backprop=True, normalize=False), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PHYSICS)
def test_laws(name):
    make, channels = PHYSICS[name]
    shape = (channels, 16, 16) if name == "tomography" else (channels, 16, 12)
    A = FromDeepinv(make(), Space(shape))
    check_linear_operator(A, 1e-5)
    check_dense(A, 1e-4)


def test_multi_coil_mri_is_ours():
    """Theirs has DC and the origin in the middle."""
    physics = FromDeepinv(PHYSICS["coils"][0](), Space((2, 16, 12)))
    x = torch.randn(2, 2, 16, 12, generator=G)
    theirs = physics(x)  # (B, 2, coils, H, W)
    theirs = torch.complex(theirs[:, 0], theirs[:, 1])

    def corner(a):
        return torch.fft.ifftshift(a, dim=(-2, -1))

    c = Space((1, 16, 12), torch.complex64)
    coils = Coils(c, corner(MAPS[0]))
    A = FFT(coils.range) @ coils
    ours = A(corner(torch.complex(x[:, :1], x[:, 1:])))
    torch.testing.assert_close(corner(MASK) * ours, corner(theirs), rtol=1e-4, atol=1e-5)
