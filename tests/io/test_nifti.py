import errno

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, ServiceError
from opticstream_smk.io import nifti, pictures
from opticstream_smk.io.atomic import atomic_path, write_bytes

GEOMETRY = nifti.Geometry((0.01, 0.02, 0.5), (1.0, -2.0, 0.5))


def test_volumes_keep_their_axes_and_units(tmp_path):
    path = tmp_path / "v.nii"
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    nifti.write_array(path, array, GEOMETRY, description="what it is")
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.dataobj, array)
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.get_qform(), GEOMETRY.affine, atol=1e-6)
    np.testing.assert_allclose(image.get_sform(), GEOMETRY.affine, atol=1e-6)
    np.testing.assert_allclose(image.header.get_zooms(), GEOMETRY.voxel_mm, rtol=1e-6)
    assert image.header["descrip"].item() == b"what it is"
    assert path.stat().st_size == 352 + 24 * 4


def test_images_are_transposed_in_files_only(tmp_path):
    path = tmp_path / "i.nii"
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    nifti.write_image(path, image, GEOMETRY)
    assert nibabel.load(path).shape == (3, 2)
    np.testing.assert_array_equal(nifti.read_image(path, shape_yx=(2, 3)), image)
    assert nibabel.load(path).header["pixdim"][3] == pytest.approx(0.5)


def test_images_with_one_layer_are_images(tmp_path):
    path = tmp_path / "i.nii"
    nifti.write_array(path, np.zeros((3, 2, 1), np.float32), GEOMETRY)
    assert nifti.read_image(path).shape == (2, 3)


def test_long_axes_become_nifti_2(tmp_path):
    path = tmp_path / "l.nii"
    nifti.write_image(path, np.zeros((2, 40000), np.uint8), GEOMETRY)
    assert isinstance(nibabel.load(path), nibabel.Nifti2Image)
    assert nifti.read_image(path).shape == (2, 40000)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "i.nii"
    with pytest.raises(IncompleteInputError, match=r"i\.nii does not exist"):
        nifti.read_array(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CorruptInputError, match="cannot be read as NIfTI"):
        nifti.read_array(path)
    nifti.write_image(path, np.zeros((20, 30), np.float32), GEOMETRY)
    with pytest.raises(CorruptInputError, match=r"shape \(30, 20\), expected \(9, 20\)"):
        nifti.read_image(path, shape_yx=(20, 9))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptInputError, match="cannot be read as NIfTI"):
        nifti.read_array(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a" / "x.bin"
    write_bytes(path, b"old")

    def fail(code):
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(code, "as it happens")

    with pytest.raises(ServiceError, match="disk is full"):
        fail(errno.ENOSPC)
    with pytest.raises(ServiceError, match="read-only"):
        fail(errno.EROFS)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.bin"]


def test_tiff_holds_the_values_and_the_pixel_size(tmp_path):
    path = tmp_path / "i.tiff"
    image = np.linspace(-90, 90, 12, dtype=np.float32).reshape(3, 4)
    pictures.write_tiff(path, image, pixel_mm=(0.01, 0.02))
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), image)
        tags = tiff.pages[0].tags
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == 1000  # per cm
        assert tags["YResolution"].value[0] / tags["YResolution"].value[1] == 500


def test_windows_ignore_what_is_not_covered():
    image = np.array([[0.0, 10.0], [20.0, 1e9]])
    covered = np.array([[True, True], [True, False]])
    pixels = pictures.window_to_uint8(image, covered, (0, 100))
    assert pixels.tolist() == [[0, 127], [255, 0]]
    assert not pictures.window_to_uint8(image, np.zeros((2, 2), bool), (0, 100)).any()


def test_constant_and_nan_images_have_pictures():
    covered = np.ones((2, 2), bool)
    assert not pictures.window_to_uint8(np.full((2, 2), 5.0), covered, (1, 99)).any()
    assert not pictures.window_to_uint8(np.full((2, 2), np.nan), covered, (1, 99)).any()


def test_orientation_wraps_to_the_same_colour():
    degrees = np.array([[-90.0, 90.0, 0.0, np.nan]])
    rgb = pictures.orientation_to_rgb(degrees, np.ones(degrees.shape, bool))
    assert rgb[0, 0].tolist() == rgb[0, 1].tolist()
    assert rgb[0, 0].tolist() != rgb[0, 2].tolist()
    assert rgb[0, 3].tolist() == [0, 0, 0]


def test_large_pictures_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "JPEG_LONGEST_SIDE", 10)
    path = tmp_path / "p.jpg"
    pictures.write_jpeg(path, np.zeros((25, 7), np.uint8))
    with Image.open(path) as image:
        assert image.size == (3, 9)
