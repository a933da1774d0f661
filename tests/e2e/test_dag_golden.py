"""The plan of a slice as the documentation shows it, with and without complex tiles."""

import pytest

from tests.e2e.conftest import REPO, Project

PICTURES = REPO / "docs" / "pictures"


@pytest.mark.parametrize("complex_tiles", ["keep", "discard"])
def test_the_plan_is_the_one_in_the_documentation(raw, tmp_path, complex_tiles):
    steps = {"processing__complex": complex_tiles, "volume__enabled": True}
    project = Project(tmp_path, raw, steps)
    project.trigger("scan", "--assume-stable")
    path = tmp_path / "dag.svg"
    project.trigger("dag", "--slice", 1, "-o", path)
    golden = PICTURES / f"dag-{complex_tiles}.svg"
    # To accept a change of the pipeline: look at the new picture, then copy it there.
    assert path.read_text() == golden.read_text(), f"{path} differs from {golden}"
