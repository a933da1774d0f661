import errno
import os

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from opticstream_smk.errors import ServiceError
from opticstream_smk.io import nifti
from opticstream_smk.io.image_rows import ImageRows, RowBits
from opticstream_smk.io.pictures import JpegRows, write_jpeg, write_tiff

GEOMETRY = nifti.Geometry((0.01, 0.02, 0.4), (1.0, -2.0, 0.8))


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "out" / "image.nii", tmp_path / "out" / "image.tiff"


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_files_are_those_of_the_whole_image(paths, tmp_path, dtype):
    image = (np.arange(35 * 23).reshape(35, 23) % 251).astype(dtype)
    with ImageRows(*paths, image.shape, dtype, GEOMETRY, description="a test") as file:
        for start in (20, 0, 10, 30):
            file.write(start, image[start : start + 10])
        assert (file.read(5, 33) == image[5:33]).all()
        assert [start for start, _ in file.bands(16)] == [0, 16, 32]
        assert not paths[0].exists()
    nifti.write_image(tmp_path / "whole.nii", image, GEOMETRY, description="a test")
    write_tiff(tmp_path / "whole.tiff", image, pixel_mm=(0.01, 0.02))
    assert paths[0].read_bytes() == (tmp_path / "whole.nii").read_bytes()
    assert paths[1].read_bytes() == (tmp_path / "whole.tiff").read_bytes()
    assert (nifti.read_image(paths[0]) == image).all()
    assert (tifffile.imread(paths[1]) == image).all()
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["image.nii", "image.tiff"]


def test_an_image_too_long_for_nifti_1(paths):
    with ImageRows(*paths, (2, 40_000), np.float32, GEOMETRY) as file:
        file.write(0, np.ones((2, 40_000)))
    found = nibabel.load(paths[0])
    assert isinstance(found, nibabel.Nifti2Image)
    assert found.shape == (40_000, 2)
    assert (np.asarray(found.dataobj) == 1).all()


def test_nothing_is_left_of_a_failure(paths):
    def fail():
        with ImageRows(*paths, (4, 5), np.float32, GEOMETRY) as file:
            file.write(0, np.zeros((4, 5)))
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert list(paths[0].parent.iterdir()) == []


def test_a_full_disk_names_the_file(paths, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with ImageRows(*paths, (4, 5), np.float32, GEOMETRY) as file:
            file.write(0, np.zeros((4, 5)))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ServiceError, match=r"image\.nii.*the disk is full"):
        write()
    assert list(paths[0].parent.iterdir()) == []


def test_bits_of_rows():
    mask = np.random.default_rng(0).random((20, 13)) > 0.5
    bits = RowBits(mask.shape)
    bits.set(8, mask[8:])
    bits.set(0, mask[:8])
    assert (bits.get(3, 17) == mask[3:17]).all()


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("longest", [100, 9, 5])
def test_a_picture_of_rows_is_that_of_the_whole(tmp_path, monkeypatch, colour, longest):
    monkeypatch.setattr("opticstream_smk.io.pictures.JPEG_LONGEST_SIDE", longest)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (31, 17, 3) if colour else (31, 17), np.uint8)
    picture = JpegRows((31, 17), colour=colour)
    for start in (0, 4, 20):
        picture.add(start, pixels[start : {0: 4, 4: 20, 20: 31}[start]])
    picture.save(tmp_path / "rows.jpg")
    write_jpeg(tmp_path / "whole.jpg", pixels)
    step = -(-31 // longest)
    Image.fromarray(pixels[::step, ::step]).save(tmp_path / "plain.jpg", quality=90)
    assert (tmp_path / "rows.jpg").read_bytes() == (tmp_path / "plain.jpg").read_bytes()
    assert (tmp_path / "whole.jpg").read_bytes() == (tmp_path / "plain.jpg").read_bytes()
