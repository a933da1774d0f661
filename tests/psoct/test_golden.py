import numpy as np
import pytest

from opticstream_smk.psoct import (
    TileSettings,
    jones_to_volumes,
    process_jones,
    spectral_to_jones,
    unstack_jones,
)

from .golden_table import (
    CASES,
    COMPLEX,
    COMPLEX_DEEP,
    COMPLEX_EDGES,
    SPECTRAL,
    Row,
    golden_rows,
    load,
    relative,
    spectra_of,
    table,
)

ROWS = golden_rows()


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.case}: {row.stage}" for row in ROWS])
def test_stage_equals_the_toolbox(row: Row) -> None:
    assert row.ok, "\n" + table([row])


def test_a_row_without_a_number_is_not_ok() -> None:
    assert not Row("stage", "case", float("nan"), 1.0).ok


def test_the_nyquist_quirk_is_visible_in_the_golden_data() -> None:
    golden = load(SPECTRAL)
    clean, _ = spectral_to_jones(*spectra_of(golden), precision="double")
    off = np.abs(clean[:, :1] - golden["out_J1_b0"]).max(axis=(1, 2))
    off /= np.abs(golden["out_J1_b0"]).max()
    assert 1e-4 < off[0] < 1e-2
    assert 1e-6 < off[1:].max() < 1e-3
    # A clean reconstruction must fail the tolerance of the parity test.
    assert relative(clean[:, :1], golden["out_J1_b0"]) > 1e-9


@pytest.mark.parametrize(("case", "source"), [(SPECTRAL, "out_Jstack"), (COMPLEX, "in_V")])
def test_clean_orientation_is_the_toolboxs_brought_into_range(case: str, source: str) -> None:
    golden = load(case)
    toolbox = golden["out_O3D"]
    beyond = np.abs(toolbox) > 90
    assert beyond.any()
    clean = jones_to_volumes(*unstack_jones(golden[source])).o3d
    assert clean.min() > -90
    assert clean.max() <= 90
    np.testing.assert_allclose(clean[~beyond], toolbox[~beyond], atol=1e-4)
    brought = toolbox[beyond] - 180 * np.sign(toolbox[beyond])
    np.testing.assert_allclose(clean[beyond], brought, atol=1e-4)


@pytest.mark.parametrize("case", [COMPLEX, COMPLEX_DEEP, COMPLEX_EDGES])
def test_tiles_are_the_same_from_files_of_either_z_order(case: str) -> None:
    golden, options = load(case), CASES[case]
    settings = {
        "toolbox_quirks": True,
        "surface_spec": options.surface[0],
        "surface_args": options.surface[1],
        **options.window,
        **options.volumes,
    }
    raw = unstack_jones(golden["in_V"])
    flipped = unstack_jones(golden["in_V"][:, :, ::-1])
    expected = process_jones(*raw, TileSettings(**settings))
    np.testing.assert_array_equal(expected.surface, golden["out_surf"])
    # The tile with edge cases was made surface first, as older files are.
    other_flip = {**settings, "flip_z": not settings.get("flip_z", True)}
    for jones, changed in (
        (flipped, {**settings, "complex_z_order": "flipped"}),
        (raw, {**other_flip, "complex_z_order": "flipped"}),
        (flipped, other_flip),
    ):
        found = process_jones(*jones, TileSettings(**changed))
        np.testing.assert_array_equal(found.volumes.o3d, expected.volumes.o3d)
        np.testing.assert_array_equal(found.surface, expected.surface)
        for name, image in expected.enface.items():
            np.testing.assert_array_equal(found.enface[name], image)


def test_edge_cases_are_in_the_golden_data() -> None:
    jones1, jones2 = unstack_jones(load(COMPLEX_EDGES)["in_V"])
    assert np.isnan(jones1).any()
    assert ((jones1 == 0) & (jones2 == 0)).all(axis=2).any()
    assert ((jones1 != 0) & (jones2 == 0)).any()
    assert ((jones1 == 0) & (jones2 != 0)).any()
