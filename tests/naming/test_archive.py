import string
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.config.archive import ArchiveSection
from opticstream_smk.errors import NamingError
from opticstream_smk.naming.archive import (
    PLACEHOLDERS,
    archive_name,
    check_template,
    manifest_name,
    subject_label,
    with_kind,
)

OWN, DANDISET = (ArchiveSection.model_fields[key].default for key in ("name", "dandiset_name"))


def values(**given):
    return {
        "project_name": "I55",
        "subject": "I55",
        "slice_id": 3,
        "mosaic_id": 6,
        "tile_id": 41,
        "acq": "tilted",
        **given,
    }


def test_names_are_those_of_the_design():
    assert archive_name(OWN, **values()) == PurePosixPath(
        "I55_sample-slice03_chunk-0041_acq-tilted_OCT.nii.gz"
    )
    assert archive_name(DANDISET, **values()) == PurePosixPath(
        "rawdata/sub-I55/sample-slice-003_chunk-0041_acq-tilted_OCT.nii.gz"
    )
    assert manifest_name("I55", 3, "tilted") == "I55_sample-slice03_acq-tilted_manifest.csv"


def test_a_name_says_what_the_file_holds():
    name = archive_name(OWN, **values())
    stem = "I55_sample-slice03_chunk-0041_acq-tilted"
    assert with_kind(name, ".nii", None).name == f"{stem}_OCT.nii.gz"
    assert with_kind(name, ".raw", None).name == f"{stem}_OCT.raw.gz"
    assert with_kind(name, ".nii", "complex").name == f"{stem}_proc-complex_OCT.nii.gz"
    own = PurePosixPath("a/b/41.nii.gz")
    assert with_kind(own, ".nii", "complex") == PurePosixPath("a/b/41_proc-complex.nii.gz")


tiles = st.tuples(
    st.integers(1, 9999), st.integers(1, 99999), st.sampled_from(["normal", "tilted", "tiltNeg"])
)


@given(tiles, tiles)
@pytest.mark.parametrize("template", [OWN, DANDISET])
def test_two_tiles_have_two_names(template, one, other):
    def name(slice_id, tile_id, acq):
        return archive_name(template, **values(slice_id=slice_id, tile_id=tile_id, acq=acq))

    assert (name(*one) == name(*other)) == (one == other)


@pytest.mark.parametrize(
    "template",
    [
        OWN,
        DANDISET,
        "m{mosaic_id}_t{tile_id}.nii.gz",
        "{project_name}/slice {slice_id:03d}/{acq}/{tile_id:04d}.nii.gz",
    ],
)
def test_templates_that_work(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("s{slice_id}_{acq}.nii.gz", "lacks {tile_id} in the name of the file"),
        ("s{slice_id}_{acq}/{tile_id}/raw.nii.gz", "lacks {tile_id} in the name of the file"),
        ("t{tile_id}_{acq}.nii.gz", "lacks {slice_id}"),
        ("t{tile_id}_s{slice_id}.nii.gz", "lacks {acq}"),
        ("t{tile}.nii.gz", "'tile'"),
        ("t{tile_id:x.y}.nii.gz", "cannot be used"),
        ("t{}.nii.gz", "cannot be used"),
        ("t{tile_id.nii.gz", "cannot be used"),
        ("t{tile_id}_m{mosaic_id}.nii", "expected a name in .nii.gz"),
        ("/t{tile_id}_m{mosaic_id}.nii.gz", "expected a path below the archive"),
        ("../t{tile_id}_m{mosaic_id}.nii.gz", "expected a path below the archive"),
        ("a/.t{tile_id}_m{mosaic_id}.nii.gz", "without hidden folders"),
        ("t{tile_id}\n_m{mosaic_id}.nii.gz", "control characters"),
        ("t{tile_id}\\_m{mosaic_id}.nii.gz", "backslashes"),
        ("x" * 230 + "t{tile_id}_m{mosaic_id}.nii.gz", "expected at most 240"),
    ],
)
def test_templates_that_do_not(template, why):
    with pytest.raises(NamingError) as error:
        check_template(template)
    assert why in str(error.value)


def test_every_placeholder_is_known():
    used = {
        name for template in (OWN, DANDISET) for _, name, _, _ in string.Formatter().parse(template)
    }
    assert used - {None} <= set(PLACEHOLDERS) == set(values())


def test_a_subject_is_letters_and_digits():
    assert subject_label("I-55 block_2") == "I55block2"
