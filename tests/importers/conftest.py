"""A scan of the small volume by four coils, and writers of the formats that it may come in."""

import contextlib
import io
import struct
from dataclasses import dataclass

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
import twixtools
from scipy.ndimage import gaussian_filter
from twixtools.mdb import Mdb_local

from invdiff import coilmaps, volumes
from invdiff_cli.app import app

XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>128000000</H1resonanceFrequency_Hz></experimentalConditions>
  <acquisitionSystemInformation>
    <relativeReceiverNoiseBandwidth>{bandwidth}</relativeReceiverNoiseBandwidth>
  </acquisitionSystemInformation>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{n[0]}</x><y>{n[1]}</y><z>{n[2]}</z></matrixSize>
      <fieldOfView_mm><x>{fov[0]}</x><y>{fov[1]}</y><z>{fov[2]}</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{half}</x><y>{n[1]}</y><z>{n[2]}</z></matrixSize>
      <fieldOfView_mm><x>{recon}</x><y>{fov[1]}</y><z>{fov[2]}</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1>
        <minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
      </kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>{trajectory}</trajectory>
    <parallelImaging>
      <accelerationFactor><kspace_encoding_step_1>1</kspace_encoding_step_1>
        <kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>
      <calibrationMode>{calibration}</calibrationMode>
    </parallelImaging>
  </encoding>
</ismrmrdHeader>"""


def header(n, fov, *, oversampling=2, trajectory="cartesian", bandwidth=1.0, calibration="embedded", centre=None):
    return XML.format(
        n=n, fov=fov, half=n[0] // oversampling, recon=fov[0] / oversampling, trajectory=trajectory, last=n[1] - 1,
        bandwidth=bandwidth, calibration=calibration, centre=n[1] // 2 if centre is None else centre,
    )  # fmt: skip


def centred_fft(x, axes):
    """The transform of scanners' files: the middle of the image and DC are both in the middle."""
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


def oversampled(images, axis, factor=2):
    """Images with empty space around them along one axis."""
    n = images.shape[axis]
    out = np.zeros([m * factor if a == axis % images.ndim else m for a, m in enumerate(images.shape)], images.dtype)
    start = n * factor // 2 - n // 2
    index = [slice(None)] * images.ndim
    index[axis % images.ndim] = slice(start, start + n)
    out[tuple(index)] = images
    return out


@dataclass
class Scan:
    """The truth, and what coils see of it.

    image: (slices, H, W) complex, phase encoding first. coils: (slices, coils, H, W). spacing in mm of H, W, slices.
    """

    image: np.ndarray
    coils: np.ndarray
    spacing: tuple[float, float, float]

    def kspace(self, sigma=0.0, factor=2, seed=0):
        """(slices, coils, readout, phase), DC in the middle."""
        k = centred_fft(oversampled(self.coils, -1, factor), (-2, -1)).swapaxes(-1, -2)
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((2, *k.shape))
        return (k + sigma * (noise[0] + 1j * noise[1])).astype(np.complex64)

    @property
    def fov(self):
        """Encoded, with a readout twice oversampled: along readout, phase, slice."""
        h, w = self.image.shape[1:]
        return 2 * w * self.spacing[1], h * self.spacing[0], self.spacing[2]


@pytest.fixture
def cli(capfd):
    """Run a command that must succeed without a word."""

    def run(*args):
        with pytest.raises(SystemExit) as e:
            app([str(a) for a in args])
        out, err = capfd.readouterr()
        assert (e.value.code or 0, out) == (0, ""), err

    return run


@pytest.fixture(scope="session")
def scan(small_volume):
    """Smoothed, lest the scan's own noise count as that of the coils, and faded out before its borders."""
    volume = volumes.load(small_volume)
    smooth = gaussian_filter(volume.data[0].permute(2, 0, 1).double().numpy(), (0, 1.2, 1.2))
    h, w = smooth.shape[1:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    body = torch.sigmoid(20 * (0.75 - (x**2 + y**2).sqrt()))
    magnitude = body * torch.from_numpy(smooth)
    image = torch.polar(magnitude, (0.5 + x - 0.7 * y * x).double())
    maps = coilmaps.simulate(4, (h, w), volume.spacing[:2], seed=0).to(torch.complex128)
    return Scan(image.numpy(), (image[:, None] * maps).numpy(), volume.spacing)


@pytest.fixture
def xml(scan):
    """The header of the scan, with other settings on request."""

    def write(partitions=1, fov=None, **settings):
        h, w = scan.image.shape[1:]
        return header((2 * w, h, partitions), fov or scan.fov, **settings)

    return write


@pytest.fixture
def fastmri(tmp_path):
    """Write a fastMRI file."""

    def write(kspace, xml, *, mask=None, **fields):
        path = tmp_path / "file1.h5"
        with h5py.File(path, "w") as f:
            f["kspace"] = kspace
            if xml is not None:
                f["ismrmrd_header"] = xml.encode()
            if mask is not None:
                f["mask"] = mask
            f.attrs["acquisition"] = "AXT1"
            f.attrs["patient_id"] = "secret"
        return path

    return write


@pytest.fixture
def write_ismrmrd(tmp_path):
    """Write acquisitions: (data (coils, samples), settings of the header, flags)."""

    def write(lines, xml):
        path = tmp_path / "scan.h5"
        path.unlink(missing_ok=True)
        with ismrmrd.Dataset(str(path), mode="w") as f:
            f.write_xml_header(xml.encode())
            for data, settings, flags in lines:
                idx = settings.pop("idx", {})
                a = ismrmrd.Acquisition.from_array(data.astype(np.complex64), **settings)
                for name, value in idx.items():
                    setattr(a.idx, name, value)
                for flag in flags:
                    a.set_flag(flag)
                f.append_acquisition(a)
        return path

    return write


@pytest.fixture
def write_twix(tmp_path):
    """Write measurements, each (lines, protocol), a line being (data (coils, samples), counters, flags)."""

    def write(measurements):
        path = tmp_path / "meas.dat"
        path.unlink(missing_ok=True)
        scans = []
        for lines, settings in measurements:
            blocks = []
            for data, counters, flags in lines:
                block = Mdb_local(data.astype(np.complex64))
                counters = dict(counters)
                position, quaternion = counters.pop("place", ((0, 0, 0), (0, 0, 0, 0)))
                for name, value in zip(("Sag", "Cor", "Tra"), position, strict=True):
                    setattr(block.mdh.SliceData.SlicePos, name, value)
                block.mdh.SliceData.Quaternion[:] = quaternion
                for name, value in counters.items():
                    target = block.mdh.Counter if hasattr(block.mdh.Counter, name) else block.mdh
                    setattr(target, name, value)
                for flag in flags:
                    block.add_flag(flag)
                blocks.append(block)
            scans.append({"hdr_str": protocol(**settings), "mdb": blocks})
        with contextlib.redirect_stdout(io.StringIO()):
            twixtools.write_twix(scans, str(path))
        return path

    return write


def protocol(**settings):
    """Siemens' header: one buffer of ASCII settings, as twixtools reads it."""
    text = "".join(f"{name.replace('__', '.')} = {value}\n" for name, value in settings.items())
    text = f"### ASCCONV BEGIN ###\n{text}\n### ASCCONV END ###\n"
    body = struct.pack("<I", 1) + b"MeasYaps\0" + struct.pack("<I", len(text)) + text.encode()
    body += b"\0" * (-(len(body) + 4) % 32 + 64)
    return np.frombuffer(struct.pack("<I", len(body) + 4) + body, "S1")
