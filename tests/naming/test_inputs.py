import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk import naming
from opticstream_smk.errors import ConfigError, NamingError
from opticstream_smk.naming.inputs import PRODUCTS, InputNames, ParsedName

PATTERN = "sub-{subject}_sample-slice{slice}_chunk-{image}_acq-{acq}_{modality}{extension}"
NORMAL = "sub-MF283_sample-slice037_chunk-0041_acq-normal0deg_spectral.nii"
LEGACY = "mosaic_001_image_0041_spectral_0041.nii"

ids = st.integers(1, 99999)
products = st.sampled_from(PRODUCTS)


# ------------------------------------------------------------------------ templates of the user
@pytest.mark.parametrize(
    ("name", "mosaic", "image"),
    [
        (NORMAL, 73, 41),
        (NORMAL.replace("0041", "0050"), 73, 50),
        (NORMAL.replace("0041", "0050").replace("normal0deg", "tilted15deg"), 74, 50),
    ],
)
@pytest.mark.parametrize("names", [InputNames(filename_pattern=PATTERN), InputNames(preset="bids")])
def test_a_full_template(names, name, mosaic, image):
    parsed = names.parse(name)
    assert parsed == ParsedName("spectral", image, 37, 2 - mosaic % 2, mosaic)
    assert not names.is_continuous


@pytest.mark.parametrize("source", [{"filename_pattern": PATTERN}, {"preset": "bids"}])
def test_own_words_and_labels(source):
    names = InputNames(
        **source,
        acquisition_mosaic_map={"normal7deg": 1},
        filename_modality_map={"rawscan": "spectral"},
    )
    name = "sub-X_sample-slice001_chunk-0001_acq-normal7deg_rawscan.nii.gz"
    assert names.parse(name) == ParsedName("spectral", 1, 1, 1, 1, suffix=".nii.gz")
    assert names.parse(name.replace("rawscan", "spectral")) == names.parse(name)
    assert names.parse(name.replace("normal7deg", "normal0deg")) is None
    assert names.parse(name.replace("rawscan", "dark")) is None
    assert names.parse("unrelated.txt") is None


def test_the_default_modality():
    names = InputNames(filename_pattern="s{slice}_i{image}_{acq}.nii")
    assert names.parse("s1_i2_normal0deg.nii") == ParsedName("spectral", 2, 1, 1, 1)
    volumes = InputNames(
        filename_pattern="v{image}",
        filename_default_modality="vol",
        filename_modality_map={"vol": "dBI"},
    )
    assert volumes.parse("v7.nii") == ParsedName("processed", 7, modality="dBI")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("spectral.nii", "no {image}"),
        ("", "no {image}"),
        ("{image}_{tile}.nii", "unknown placeholder {tile}"),
        ("{image}_{}.nii", "unknown placeholder {}"),
        ("{image.real}.nii", "unknown placeholder"),
        ("{image}_{image}.nii", "twice"),
        ("{image:04d}.nii", "has a format"),
        ("{image!r}.nii", "has a format"),
        ("{image.nii", "filename_pattern '{image.nii'"),
        ("raw/{image}.nii", "without folders"),
        ("{slice}{image}.nii", "cannot be told apart"),
    ],
)
def test_templates_that_cannot_be_used(pattern, message):
    with pytest.raises(ConfigError) as error:
        InputNames(filename_pattern=pattern)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"acquisition_mosaic_map": {"normal": 0}}, "'normal': 0"),
        ({"acquisition_mosaic_map": {"normal": 3}}, "1 to 2"),
        ({"acquisition_mosaic_map": {"normal": True}}, "'normal': True"),
        ({"acquisition_mosaic_map": {"normal": "1"}}, "'normal': '1'"),
        ({"acquisition_mosaic_map": {"": 1}}, "expected a label"),
        ({"acquisition_mosaic_map": {}}, "expected labels"),
        ({"acquisition_mosaic_map": {"Tilt": 1, "tilt": 2}}, "labels that differ"),
        ({"filename_modality_map": {"rawscan": "raw"}}, "one of spectral"),
        ({"filename_modality_map": {"": "spectral"}}, "expected a word"),
        ({"filename_default_modality": "rawscan"}, "filename_modality_map"),
        ({"preset": "human"}, "legacy, cropped_focus, macaque, bids"),
        ({"preset": "bids", "filename_pattern": "{image}"}, "one of the two"),
        ({"fixed_position": 3}, "mosaic 3"),
    ],
)
def test_values_that_cannot_be_used(values, message):
    with pytest.raises(ConfigError, match=message):
        InputNames(**values)


def test_case_tells_labels_of_a_template_apart():
    labels = {"Tilt": 1, "tilt": 2}
    names = InputNames(filename_pattern="s{slice}_{acq}_{image}", acquisition_mosaic_map=labels)
    assert [names.parse(f"s1_{label}_1.nii").mosaic for label in labels] == [1, 2]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mat", ".raw"])
@pytest.mark.parametrize("pattern", ["t{image}_{modality}", "t{image}_{modality}{extension}"])
def test_an_extension_left_open(pattern, suffix):
    names = InputNames(filename_pattern=pattern)
    assert names.parse(f"t3_spectral{suffix}") == ParsedName("spectral", 3, suffix=suffix)
    assert names.parse(f"t3_spectral{suffix}.tmp") is None
    assert names.parse("t3_spectral.json") is None
    assert names.parse("t3_spectral") is None


def test_a_literal_extension_is_the_only_one():
    names = InputNames(filename_pattern="t{image}.nii.gz")
    assert names.parse("t3.nii.gz") == ParsedName("spectral", 3, suffix=".nii.gz")
    assert names.parse("t3.nii") is None
    assert names.parse("t3.nii.gz.nii") is None


def test_the_whole_name_must_match_with_its_case():
    names = InputNames(filename_pattern="Spectral_{image}.nii")
    assert names.parse("Spectral_0041.nii") == ParsedName("spectral", 41)
    for name in ("spectral_0041.nii", "Spectral_0041.NII", "xSpectral_0041.nii", "Spectral_x.nii"):
        assert names.parse(name) is None


def test_what_is_special_in_an_expression_is_literal_in_a_template():
    names = InputNames(filename_pattern="a+(b).{{c}}_{image}.nii")
    assert names.parse("a+(b).{c}_2.nii") == ParsedName("spectral", 2)
    assert names.parse("aa(b).{c}_2.nii") is None
    assert names.build(2) == "a+(b).{c}_0002.nii"


def test_a_label_may_contain_the_separator():
    names = InputNames(
        filename_pattern="s{slice}_{acq}_{image}_{modality}",
        acquisition_mosaic_map={"tilted": 1, "tilted_15": 2},
        filename_modality_map={"raw_scan": "spectral"},
    )
    assert names.parse("s2_tilted_15_7_raw_scan.nii") == ParsedName("spectral", 7, 2, 2, 4)
    assert names.parse("s2_tilted_15_raw_scan.nii") == ParsedName("spectral", 15, 2, 1, 3)


def test_the_longest_label_that_fits_is_read():
    labels = {"tilted": 1, "tilted_15": 2}
    names = InputNames(filename_pattern="{acq}_{subject}_{image}", acquisition_mosaic_map=labels)
    assert names.parse("tilted_15_MF283_7.nii").position == 2
    assert names.parse("tilted_MF283_7.nii").position == 1


def test_any_padding_is_read():
    names = InputNames(
        filename_pattern="p_slice-{slice}_tile-{image}_acq-{acq}_OCT.nii.gz",
        acquisition_mosaic_map={"normal": 1, "tilted": 2},
    )
    parsed = ParsedName("spectral", 41, 3, 1, 5, suffix=".nii.gz")
    assert names.parse("p_slice-0003_tile-0041_acq-normal_OCT.nii.gz") == parsed
    assert names.parse("p_slice-3_tile-41_acq-normal_OCT.nii.gz") == parsed
    assert names.parse("p_sample-slice0003_acq-normal_proc-aip_OCT.nii.gz") is None  # no tile


# ------------------------------------------------------------------------------------- filters
def test_what_a_name_lacks_is_filled_in():
    names = InputNames(filename_pattern="spectral_{image}.nii")
    assert names.is_continuous
    assert names.parse("spectral_0041.nii") == ParsedName("spectral", 41)
    placed = names.only(37, 2).parse("spectral_0041.nii")
    assert placed == ParsedName("spectral", 41, 37, 2, 74)
    assert names.only(slice_=37).parse("spectral_0041.nii") == ParsedName("spectral", 41, 37)


def test_a_slice_or_a_label_alone_is_half_of_the_place():
    slices = InputNames(filename_pattern="s{slice}_{image}.nii")
    assert slices.parse("s37_1.nii") == ParsedName("spectral", 1, 37)
    assert slices.only(position=2).parse("s37_1.nii").mosaic == 74
    labels = InputNames(filename_pattern="{acq}_{image}.nii")
    assert labels.parse("tilted15deg_1.nii") == ParsedName("spectral", 1, None, 2)
    assert labels.only(slice_=37).parse("tilted15deg_1.nii").mosaic == 74
    assert not slices.is_continuous
    assert not labels.is_continuous


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (InputNames(filename_pattern=PATTERN), NORMAL),
        (InputNames(preset="legacy"), "mosaic_073_image_0041_spectral_0041.nii"),
    ],
)
def test_names_outside_of_what_is_fixed_are_not_taken(names, name):
    parsed = names.parse(name)
    assert parsed.mosaic == 73
    assert names.only(slice_=38).parse(name) is None
    assert names.only(position=2).parse(name) is None
    assert names.only(acquisition="tilted15deg").parse(name) is None
    assert names.only(slice_=37, acquisition="normal0deg").parse(name) == parsed


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        ({}, (None, None)),
        ({"slice_": 37, "acquisition": "tilted15deg"}, (37, 2)),
        ({"position": 2}, (None, 2)),
        ({"position": 2, "acquisition": "tilted15deg"}, (None, 2)),
    ],
)
def test_resolve(asked, resolved):
    assert InputNames().resolve(**asked) == resolved


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"acquisition": "tilted20deg"}, "normal0deg, tilted15deg"),
        ({"position": 3}, "1 to 2"),
        ({"position": 0}, "1 to 2"),
        ({"position": 1, "acquisition": "tilted15deg"}, "is mosaic 2 of its slice"),
        ({"slice_": 0}, "slice 0"),
    ],
)
def test_resolve_refuses(asked, message):
    for ask in (InputNames().resolve, InputNames().only):
        with pytest.raises(ConfigError, match=message):
            ask(**asked)


# ------------------------------------------------------------------------------------- presets
@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (LEGACY, ParsedName("spectral", 41, 1, 1, 1)),
        ("mosaic_4_image_7_spectral_0.nii", ParsedName("spectral", 7, 2, 2, 4)),
        (
            "MOSAIC_001_Image_0041_SPECTRAL_0041.RAW",
            ParsedName("spectral", 41, 1, 1, 1, suffix=".raw"),
        ),
        ("mosaic_001_image_0041_processed.nii", ParsedName("complex", 41, 1, 1, 1)),
        ("mosaic_001_image_0041_processed_cropped.nii", ParsedName("complex", 41, 1, 1, 1)),
        ("mosaic_001_image_0041_complex.nii", ParsedName("complex", 41, 1, 1, 1)),
        *(
            (
                f"mosaic_001_image_0041_{product}.nii",
                ParsedName("processed", 41, 1, 1, 1, modality=product),
            )
            for product in ("aip", "mip", "ori", "ret", "surf", "biref", "dBI", "R3D", "O3D")
        ),
        (
            "mosaic_001_image_0041_dbi.nii",
            ParsedName("processed", 41, 1, 1, 1, modality="dBI"),
        ),
        ("mosaic_001_image_0041_processed_cropped_focus.nii", None),
        ("mosaic_001_image_0041_spectral.nii", None),
        ("mosaic_001_image_0041_note.nii", None),
        ("mosaic_001_image_0041_aip.nii.gz", None),
        ("mosaic_001_image_0041_processed_0041.raw", None),
        (LEGACY + ".tmp", None),
        (".tmp-" + LEGACY, None),
        ("mosaic_000_image_0041_spectral_0041.nii", None),
        ("mosaic_001_image_0000_spectral_0000.nii", None),
        ("moſaic_001_image_0041_spectral_0041.nii", None),
        ("mosaic_001_image_٤_spectral_0041.nii", None),
        ("unrelated.txt", None),
        ("", None),
    ],
)
def test_legacy(name, parsed):
    assert InputNames().parse(name) == parsed
    assert InputNames(preset="legacy").parse(f"/raw/aip/{name}") == parsed


def test_legacy_agrees_with_the_names_of_this_project():
    names = InputNames()
    assert names.build(41, 1) == LEGACY
    assert naming.tile_stem(1, 3) == "mosaic_001_image_0003"
    for modality in ("complex", "dBI", "aip", "surf"):
        assert names.parse(naming.tile_product_name(1, 3, modality)).image == 3


def test_three_mosaics_per_slice():
    names = InputNames(mosaics_per_slice=3)
    assert names.parse("mosaic_006_image_0001_aip.nii").slice == 2
    assert names.parse("mosaic_006_image_0001_aip.nii").position == 3
    assert names.only(position=3).parse("mosaic_005_image_0001_aip.nii") is None


@pytest.mark.parametrize(
    ("name", "kind", "modality"),
    [
        ("mosaic_001_image_0041_processed_cropped_focus.nii", "complex", None),
        ("mosaic_001_image_0041_cropped_focus.nii", "complex", None),
        ("MOSAIC_001_IMAGE_0041_CROPPED_FOCUS_2-a.NII", "complex", None),
        ("mosaic_001_image_0041_spectral_cropped_focus_0041.nii", "spectral", None),
        ("mosaic_001_image_0041_processed_cropped_focus_aip.nii", "processed", "aip"),
        ("mosaic_001_image_0041_cropped_focus_retina.nii", "complex", None),
    ],
)
def test_cropped_focus(name, kind, modality):
    parsed = InputNames(preset="cropped_focus").parse(name)
    assert parsed == ParsedName(kind, 41, 1, 1, 1, modality)


@pytest.mark.parametrize(
    "name",
    [
        "mosaic_001_image_0041_processed.nii",
        "mosaic_001_image_0041_processed_cropped.nii",
        "mosaic_001_image_0041_cropped_focus.nii.gz",
        "cropped_focus.nii",
        LEGACY,
    ],
)
def test_no_cropped_focus(name):
    assert InputNames(preset="cropped_focus").parse(name) is None


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("spectral_0001.nii", ParsedName("spectral", 1)),
        ("/x/y/spectral/spectral_12345.NII", ParsedName("spectral", 12345)),
        ("processed_0123.nii", ParsedName("complex", 123)),
        ("/x/y/spectral/processed_0007.nii", ParsedName("complex", 7)),
        ("processed_0007_cropped.nii", ParsedName("complex", 7)),
        ("processed_0007cropped.nii", ParsedName("complex", 7)),
        ("processed_0007_aip.nii", ParsedName("processed", 7, modality="aip")),
        ("spectral_0001_cropped.nii", None),
        ("spectral_0000.nii", None),
        ("processed_0007.tmp.nii", None),
        (LEGACY, None),
    ],
)
def test_macaque(name, parsed):
    names = InputNames(preset="macaque", mosaics_per_slice=3)
    assert names.parse(name) == parsed
    assert names.is_continuous
    assert names.subfolders == (".", "spectral")


def test_only_macaque_has_a_subfolder():
    others = (InputNames(), InputNames(preset="bids"), InputNames(filename_pattern="{image}"))
    assert [names.subfolders for names in others] == [(".",)] * 3
    assert [names.is_continuous for names in others] == [False, False, True]


def test_bids_is_read_without_regard_to_case():
    names = InputNames(preset="bids")
    upper = names.parse(NORMAL.upper())
    assert upper == names.parse(NORMAL)
    assert names.parse(NORMAL.replace("spectral.nii", "AIP.nii.gz")).modality == "aip"
    assert names.parse(NORMAL.replace(".nii", ".json")) is None
    # A subject may hold anything, also what separates the other parts.
    assert names.parse(NORMAL.replace("MF283", "a_sample-slice1")) == names.parse(NORMAL)


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("legacy", "mosaic_001_image_0041_processed.nii"),
        ("cropped_focus", "mosaic_001_image_0041_processed_cropped_focus.nii"),
        ("macaque", "processed_0041.nii"),
        ("bids", NORMAL.replace("spectral", "processed")),
    ],
)
def test_processed_may_stand_for_a_volume(preset, name):
    names = InputNames(preset=preset, filename_modality_map={"processed": "dBI"})
    parsed = names.parse(name)
    assert (parsed.kind, parsed.modality) == ("processed", "dBI")


# --------------------------------------------------------------------------------------- build
@st.composite
def told(draw, kinds=("spectral", "complex", "processed"), suffixes=(".nii",)):
    kind = draw(st.sampled_from(kinds))
    return {
        "kind": kind,
        "modality": draw(products) if kind == "processed" else None,
        "suffix": draw(st.sampled_from(suffixes)),
    }


def assert_round_trip(names, image, mosaic, values):
    parsed = names.parse(names.build(image, mosaic, **values))
    slice_, position = (None, None)
    if mosaic is not None:
        slice_, position = naming.slice_of_mosaic(mosaic, names.mosaics_per_slice)
    assert parsed == ParsedName(
        image=image, slice=slice_, position=position, mosaic=mosaic, **values
    )


@given(
    ids,
    ids,
    st.one_of(told(), told(kinds=("spectral",), suffixes=(".raw",))),
    st.sampled_from([2, 3]),
    st.sampled_from([{}, {"processed": "dBI"}, {"raw": "spectral", "Int": "aip"}]),
)
def test_legacy_round_trip(image, mosaic, values, per_slice, words):
    names = InputNames(mosaics_per_slice=per_slice, filename_modality_map=words)
    assert_round_trip(names, image, mosaic, values)


@given(ids, ids, told())
def test_cropped_focus_round_trip(image, mosaic, values):
    assert_round_trip(InputNames(preset="cropped_focus"), image, mosaic, values)


@given(ids, told())
def test_macaque_round_trip(image, values):
    assert_round_trip(InputNames(preset="macaque", mosaics_per_slice=3), image, None, values)


@given(
    ids,
    ids,
    told(suffixes=(".nii", ".nii.gz", ".mat", ".raw")),
    st.sampled_from(
        [{"preset": "bids"}, {"filename_pattern": PATTERN}, {"filename_pattern": PATTERN[:-11]}]
    ),
    st.sampled_from([{}, {"processed": "dBI"}, {"rawscan": "spectral", "vol": "dBI"}]),
)
def test_template_round_trip(image, mosaic, values, source, words):
    names = InputNames(**source, filename_modality_map=words)
    assert_round_trip(names, image, mosaic, values)


@given(st.text(max_size=60), st.sampled_from(["legacy", "cropped_focus", "macaque", "bids"]))
def test_any_text_can_be_parsed(text, preset):
    assert InputNames(preset=preset).parse(text) is None


def test_build_writes_the_words_of_the_source():
    names = InputNames(preset="bids", filename_modality_map={"rawscan": "spectral"})
    name = "sub-MF283_sample-slice037_chunk-0041_acq-tilted15deg_rawscan.nii.gz"
    assert names.build(41, 74, suffix=".nii.gz", subject="MF283") == name
    assert InputNames(preset="macaque").build(7, kind="complex") == "processed_0007.nii"
    cropped = InputNames(preset="cropped_focus").build(41, 1, kind="complex")
    assert cropped == "mosaic_001_image_0041_processed_cropped_focus.nii"


@pytest.mark.parametrize(
    ("names", "mosaic", "values"),
    [
        (InputNames(), None, {}),  # the name tells the mosaic
        (InputNames(preset="macaque"), 1, {}),  # the name cannot tell it
        (InputNames(preset="bids", acquisition_mosaic_map={"flat": 1}), 2, {}),
        (InputNames(), 1, {"kind": "complex", "suffix": ".raw"}),
        (InputNames(), 1, {"kind": "processed", "modality": "phase"}),
        (InputNames(preset="bids"), 1, {"subject": "a/b"}),
        (InputNames().only(slice_=2), 1, {}),
        (
            InputNames(preset="macaque", filename_modality_map={"processed": "dBI"}),
            None,
            {"kind": "complex"},
        ),
    ],
)
def test_no_name_is_built_that_would_be_read_differently(names, mosaic, values):
    with pytest.raises(NamingError):
        names.build(1, mosaic, **values)


def test_a_built_name_can_be_read_with_what_is_fixed():
    names = InputNames(preset="macaque").only(slice_=37, position=2)
    assert names.build(41, 74) == "spectral_0041.nii"
    with pytest.raises(NamingError, match="would be read as"):
        names.build(41, 73)


def test_input_names_are_values():
    assert InputNames() == InputNames()
    assert hash(InputNames().only(2)) == hash(InputNames(fixed_slice=2))
