import numpy as np
import pytest

from tests.registration.golden_table import THRUPLANE_CASES, golden_rows, load, solve

ROWS = golden_rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.case}-{row.quantity}")
def test_golden(row):
    assert row.ok, f"{row.error:.3g} > {row.tolerance:.3g}"


@pytest.mark.parametrize("case", THRUPLANE_CASES)
def test_the_repair_changes_the_sign_of_some_alphas_and_only_between_45_and_90_degrees(case):
    golden = load(case)
    kept, repaired = (solve(golden, toolbox_quirks=quirks) for quirks in (True, False))
    changed = np.abs(kept.alpha_rad - repaired.alpha_rad) > 1e-3
    assert changed.sum() > 10
    assert (kept.phi_n[changed] >= np.pi / 4).all()
