"""`invdiff import`: real files as measurements, and DICOM series as volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invdiff.config import parse_noise
from invdiff.errors import ConfigError
from invdiff.files import check_outputs, sha256
from invdiff_cli.flags import assignments
from invdiff_cli.images import check_name, checked

if TYPE_CHECKING:
    from invdiff.importers.kspace import KSpace
    from invdiff.measurements import Measurement

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Raw k-space, projections and images as measurements; DICOM series.",
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Measurement file to write, .h5.", show_default=False)]
Maps = Annotated[Literal["espirit", "adaptive"], typer.Option(help="How coil maps are found in the middle of k-space.")]
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Noise per real component in the file's numbers. [from noise scans, else estimated]", show_default=False
    ),
]
Noise = Annotated[
    str | None,
    typer.Option(
        help="The same as a fraction of the image's 99.9th percentile (sinogram: of mean |y|).", show_default=False
    ),
]
Voxel = Annotated[
    str | None,
    typer.Option(help="Voxel size in mm along phase encoding, readout, slice: 0.7,0.7,3.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]


def fastmri(
    file: Annotated[Path, typer.Argument(help="fastMRI file, .h5.", show_default=False)],
    output: Output,
    maps: Maps = "espirit",
    sigma: Sigma = None,
    noise: Noise = None,
    voxel: Voxel = None,
    force: Force = False,
) -> None:
    """Cartesian k-space in fastMRI's format."""
    sizes = _voxel(voxel)

    def read() -> KSpace:
        from invdiff.importers import fastmri

        return fastmri.read(file, voxel=sizes)

    _kspace(read, output, maps, sigma, noise, force=force)


def ismrmrd(
    file: Annotated[Path, typer.Argument(help="ISMRMRD file, .h5.", show_default=False)],
    output: Output,
    maps: Maps = "espirit",
    sigma: Sigma = None,
    noise: Noise = None,
    force: Force = False,
) -> None:
    """Cartesian k-space in ISMRMRD's format; noise measurements whiten the coils."""

    def read() -> KSpace:
        from invdiff.importers import ismrmrd

        return ismrmrd.read(file)

    _kspace(read, output, maps, sigma, noise, force=force)


def twix(
    file: Annotated[Path, typer.Argument(help="Siemens raw data, meas.dat.", show_default=False)],
    output: Output,
    maps: Maps = "espirit",
    sigma: Sigma = None,
    noise: Noise = None,
    force: Force = False,
) -> None:
    """Siemens raw data; the noise scan in the file whitens the coils."""

    def read() -> KSpace:
        from invdiff.importers import twix

        return twix.read(file)

    _kspace(read, output, maps, sigma, noise, force=force)


def cfl(
    stem: Annotated[Path, typer.Argument(help="STEM of BART's STEM.hdr and STEM.cfl.", show_default=False)],
    output: Output,
    maps: Maps = "espirit",
    sigma: Sigma = None,
    noise: Noise = None,
    voxel: Voxel = None,
    force: Force = False,
) -> None:
    """Cartesian k-space in BART's format, which knows no voxel size: give --voxel."""
    sizes = _voxel(voxel) or (1.0, 1.0, 1.0)

    def read() -> KSpace:
        from invdiff.importers import cfl

        return cfl.read(stem, voxel=sizes)

    _kspace(read, output, maps, sigma, noise, force=force)


def sinogram(
    file: Annotated[
        Path,
        typer.Argument(
            help="Projections, .npy, .tif or .h5: (views, cells) or (slices, views, cells).", show_default=False
        ),
    ],
    output: Output,
    geometry: Annotated[Path, typer.Option(help="How they were measured, .yaml.", show_default=False)],
    sigma: Sigma = None,
    noise: Noise = None,
    force: Force = False,
) -> None:
    """CT projections: attenuation, or counts."""

    def measured() -> Measurement:
        from invdiff.importers import sinogram
        from invdiff.importers.level import Level

        return sinogram.measurement(file, geometry, level=Level(sigma, _fraction(noise)))

    _write(measured, output, sigma, noise, force=force)


def nifti(
    image: Annotated[Path, typer.Argument(help="NIfTI image that is the measurement.", show_default=False)],
    output: Output,
    acquisition: Annotated[
        str,
        typer.Option(help="How it was measured: lowres, thickslices, blur, denoise, inpaint, ...", show_default=False),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the acquisition; repeatable.")
    ] = None,
    sigma: Sigma = None,
    noise: Noise = None,
    axis: Annotated[int, typer.Option(help="Stored axis that counts the slices.", min=0, max=2)] = 2,
    force: Force = False,
) -> None:
    """A coarse, blurred, noisy or incomplete image, taken as what an acquisition measured."""
    pairs = {k.removeprefix("acquisition."): v for k, v in assignments(set_ or []).items()}
    settings = checked(acquisition, pairs)

    def measured() -> Measurement:
        from invdiff_cli.images import measured

        m = measured(image, settings, axis=axis, sigma=sigma, noise=_fraction(noise))
        m.facts.update(source=image.name, source_sha256=sha256(image))
        return m

    _write(measured, output, sigma, noise, force=force)


def dicom(
    folder: Annotated[Path, typer.Argument(help="Folder of a DICOM series.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Volume, .nii or .nii.gz.", show_default=False)],
    series: Annotated[
        str | None, typer.Option(help="SeriesInstanceUID, of a folder with several.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """A DICOM series as a NIfTI volume, in rescaled units (CT: Hounsfield)."""
    check_name(output)
    check_outputs([output], force=force)
    from invdiff import volumes
    from invdiff.importers import dicom

    volumes.save(output, dicom.read(folder, series=series), force=force)


def _kspace(
    read: Callable[[], KSpace],
    output: Path,
    maps: Literal["espirit", "adaptive"],
    sigma: float | None,
    noise: str | None,
    *,
    force: bool,
) -> None:
    def measured() -> Measurement:
        from invdiff.importers.common import measurement
        from invdiff.importers.level import Level

        return measurement(read(), maps=maps, level=Level(sigma, _fraction(noise)))

    _write(measured, output, sigma, noise, force=force)


def _write(
    measured: Callable[[], Measurement], output: Path, sigma: float | None, noise: str | None, *, force: bool
) -> None:
    """Check what can be checked without work, then work and write."""
    if sigma is not None and noise is not None:
        raise ConfigError("--noise and --sigma both give the noise level; give one of them")
    _fraction(noise)
    if output.suffix != ".h5":
        raise ConfigError(f"{output}: a measurement is written as .h5; choose this ending")
    check_outputs([output], force=force)
    from invdiff import measurements

    measurements.save(output, measured(), force=force)


def _fraction(noise: str | None) -> float | None:
    return None if noise is None else parse_noise(noise)


def _voxel(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, z = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"--voxel takes three sizes in mm such as 0.7,0.7,3, got {text!r}") from None
    if not min(x, y, z) > 0:
        raise ConfigError(f"--voxel takes sizes above 0 mm, got {text!r}")
    return x, y, z


for _command, _example in (
    (fastmri, "fastmri file1000000.h5 -o y.h5"),
    (ismrmrd, "ismrmrd scan.h5 -o y.h5 --maps adaptive"),
    (twix, "twix meas.dat -o y.h5"),
    (cfl, "cfl kspace -o y.h5 --voxel 1,1,3"),
    (sinogram, "sinogram sinogram.npy -o y.h5 --geometry geometry.yaml"),
    (nifti, "nifti scan.nii.gz -o y.h5 --acquisition lowres --set factor=2"),
    (dicom, "dicom series -o scan.nii.gz"),
):
    app.command(_command.__name__, epilog=f"Example: invdiff import {_example}")(_command)
