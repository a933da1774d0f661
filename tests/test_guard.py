import pytest

from opticstream_smk.stages.guard import enter_stage


@pytest.mark.parametrize(
    ("status", "force", "skip_if_running", "entry"),
    [
        ("pending", False, False, "started"),
        ("pending", True, False, "started"),
        ("ready", False, True, "started"),
        ("failed", False, False, "started"),
        ("failed", True, True, "started"),
        ("done", False, False, "skipped"),
        ("done", True, False, "restarted"),
        ("running", False, True, "skipped"),
        ("running", True, True, "restarted"),
        ("running", False, False, "started"),
    ],
)
def test_guard_table(status, force, skip_if_running, entry):
    assert enter_stage(status, force=force, skip_if_running=skip_if_running) == entry
