import io
import os
from collections import Counter
from functools import partial

import pytest

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, ServiceError
from opticstream_smk.plan import Plan, project_layout, project_state
from opticstream_smk.state.places import Place, flag_path, present_states
from tests.history import History

BATCH, QC, MOSAIC, SLICE = "batch", "qc", "mosaic", "slice"


@pytest.fixture
def history(make_config):
    return History(make_config())


def again(history) -> Plan:
    return Plan(history.config, history.layout)


def asked(targets) -> set[tuple[str, str]]:
    return {(target.goal, target.path) for target in targets}


def batch(mosaic, number, state):
    goal = QC if state == "qc" else BATCH
    return (goal, f"mosaic-{mosaic:02d}/state/batch-{number:03d}.{state}")


def stitched(mosaic):
    return (MOSAIC, f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}.stitched")


# ------------------------------------------------------------------------------ what is startable
def test_a_ready_batch_is_asked_for_and_a_processed_one_for_its_sheet(history):
    history.enter(1, 1, 2)
    for state in ("complex", "processed"):
        history.write(history.place(1, 2), state)
    assert asked(again(history).startable(1)) == {batch(1, 1, "processed"), batch(1, 2, "qc")}
    assert again(history).batch_states(1) == {
        1: {"ready"},
        2: {"ready", "complex", "processed"},
    }


def test_what_is_not_made_in_this_configuration_is_not_asked_for(make_config):
    history = History(make_config(processing__tile_qc=False, processing__complex="discard"))
    history.enter(1, 1, 2)
    history.write(history.place(1, 2), "processed")
    assert asked(again(history).startable(1)) == {batch(1, 1, "processed")}
    flags = again(history).flags()
    assert {state for _, state in flags} == {"processed", "coordinates", "stitched", "solved"}


def test_batches_beyond_the_grid_are_not_asked_for(history):
    history.enter(1, 3)
    assert again(history).startable(1) == []


def test_the_template_mosaic_goes_first_and_alone(history):
    history.process(1)
    history.process(3)
    assert asked(again(history).startable(1)) == {stitched(1)}
    assert again(history).startable(3) == []
    history.solve(1)
    assert asked(again(history).startable(3)) == {stitched(3)}


def test_no_mosaic_before_its_last_batch(history):
    history.process(1)
    flag_path(history.layout, history.place(1, 2), "processed").unlink()
    assert asked(again(history).startable(1)) == {batch(1, 2, "processed")}
    # `all` may ask for everything at once, in one run.
    assert (history.place(1), "stitched") in again(history).flags()


def test_a_configured_template_slice_is_waited_for(make_config):
    history = History(make_config(mosaic__template_slice=2))
    history.process(1)
    assert again(history).startable(1) == []
    history.process(3)
    assert asked(again(history).startable(3)) == {stitched(3)}


def test_several_template_slices_are_solved_with_the_last_of_them(make_config):
    history = History(make_config(mosaic__template_slices=[1, 3]))
    for mosaic in (1, 3):
        history.process(mosaic)
    assert again(history).startable(1) == []
    assert "template slice 3, whose normal mosaic is not complete" in again(history).waiting()[0]
    history.enter(1, 1)
    history.process(5)
    flag_path(history.layout, history.place(1, 2), "processed").unlink()
    # One run makes the template on its way, from batches that are all there.
    assert stitched(5) not in asked(again(history).startable(5))
    history.process(1)
    assert asked(again(history).startable(5)) == {stitched(5)}
    assert again(history).startable(1) == again(history).startable(3) == []
    history.solve(5)
    assert asked(again(history).startable(3)) == {stitched(3)}


def test_coordinates_are_made_on_the_way_and_listed_by_themselves(history):
    history.process(1)
    history.solve(1)
    coordinates = (history.place(1), "coordinates")
    assert coordinates in again(history).flags()
    assert coordinates in again(history).inputs(history.place(1), "stitched")
    assert asked(again(history).startable(1)) == {stitched(1)}
    history.write(*coordinates)
    assert asked(again(history).startable(1)) == {stitched(1)}


def test_what_was_stitched_without_coordinates_is_not_asked_for_any(history):
    history.process(1)
    history.solve(1)
    history.write(history.place(1), "stitched")
    coordinates = (history.place(1), "coordinates")
    assert coordinates not in again(history).flags()
    assert coordinates not in again(history).inputs(history.place(1), "stitched")
    flag_path(history.layout, history.place(1), "stitched").unlink()
    assert coordinates in again(history).flags()


def test_a_slice_after_all_its_mosaics(history):
    history.stitch(1)
    registered = (SLICE, "state/slice-01.registered")
    assert asked(again(history).startable_slice(1)) == {registered}
    flag_path(history.layout, history.place(2), "stitched").unlink()
    assert again(history).startable_slice(1) == []


def test_pictures_when_they_are_missing_or_older_than_their_flag(history):
    history.stitch(1)
    history.write(Place("slice", 1), "registered")
    pictures = {(QC, "report/mosaic-01.jpg")}
    assert asked(again(history).startable(1)) == pictures
    assert asked(again(history).startable_slice(1)) == {(QC, "report/slice-01.jpg")}
    picture = history.layout.mosaic_picture(1)
    picture.parent.mkdir()
    picture.touch()
    assert again(history).startable(1) == []
    os.utime(picture, (0, 0))
    assert asked(again(history).startable(1)) == pictures


def test_finished_is_what_will_never_be_asked_for_again(make_config):
    history = History(make_config(run__goals=["batch", "mosaic"]))
    history.process(1)
    assert not again(history).is_finished(1)
    history.write(history.place(1), "stitched")
    assert again(history).is_finished(1)
    assert again(history).is_slice_finished(1)
    flag_path(history.layout, history.place(1, 1), "processed").unlink()
    assert not again(history).is_finished(1)
    everything = History(make_config())
    everything.process(1)
    assert not again(everything).is_finished(1)  # its picture
    assert not again(everything).is_slice_finished(1)
    for path in (everything.layout.mosaic_picture(1), everything.layout.slice_picture(1)):
        path.parent.mkdir(exist_ok=True)
    everything.write(Place("slice", 1), "registered")
    assert not again(everything).is_slice_finished(1)
    everything.layout.mosaic_picture(1).touch()
    everything.layout.slice_picture(1).touch()
    assert again(everything).is_finished(1)
    assert again(everything).is_slice_finished(1)


def test_the_watcher_asks_for_everything_that_all_asks_for(history):
    """Step by step, what `startable` gives adds up to `targets`, and ends there."""
    for mosaic in (1, 2, 3, 4):
        history.enter(mosaic, 1, 2)
    wanted = set(again(history).targets())
    made: set[str] = set()
    for _ in range(20):
        plan = again(history)
        steps = [t for mosaic in (1, 2, 3, 4) for t in plan.startable(mosaic)]
        steps += [t for slice_ in (1, 2) for t in plan.startable_slice(slice_)]
        if not steps:
            break
        for target in steps:
            path = history.layout.root / target.path
            assert not path.exists()
            if path.suffix == ".jpg":
                path.parent.mkdir(exist_ok=True)
                path.touch()
                continue
            if path.suffix == ".processed":
                history.write(target.place, "complex")
            if path.suffix == ".stitched" and target.place.mosaic in (1, 2):
                history.solve(target.place.mosaic)
            history.write(target.place, path.suffix[1:])
        made |= {target.path for target in steps}
    on_the_way = {"state/tilemap-normal.solved", "state/tilemap-tilted.solved"}
    on_the_way |= {path for path in wanted if path.endswith((".complex", ".coordinates"))}
    assert made | on_the_way == wanted
    assert all(again(history).is_finished(mosaic) for mosaic in (1, 2, 3, 4))


# ------------------------------------------------------------------------------------ missing tiles
def process_without(history, mosaic, missing):
    for number in history.plan.batches(mosaic):
        for state in ("ready", "complex", "processed", "qc"):
            history.write(history.place(mosaic, number), state, missing=missing)


def test_more_missing_tiles_than_allowed_hold_a_mosaic(history):
    process_without(history, 1, [2, 3])
    plan = again(history)
    assert plan.missing_tiles(1) == [2, 3]
    assert plan.startable(1) == []
    assert not any(state in ("stitched", "solved") for _, state in plan.flags())
    raw = history.config.acquisition.sources[0].dir
    message = (
        f"mosaic 001: 2 of 4 tiles missing (2,3) in {raw}. Set mosaic.allow_missing_tiles: 2 to go "
        "on, or run `optic-trigger close --mosaic 1 --missing 2,3`."
    )
    assert plan.waiting() == [message]
    with pytest.raises(IncompleteInputError) as error:
        plan.accept_missing(1)
    assert str(error.value) == message


def test_as_many_missing_tiles_as_allowed_are_accepted(make_config):
    history = History(make_config(mosaic__allow_missing_tiles=2))
    process_without(history, 1, [2, 3])
    assert asked(again(history).startable(1)) == {stitched(1)}
    assert again(history).accept_missing(1) == {2, 3}
    assert again(history).waiting() == []


def test_the_watchers_own_allowance_travels_in_ready(history):
    process_without(history, 1, [2])
    history.write(history.place(1, 1), "ready", missing=[2], extra={"allow_missing": 1})
    assert asked(again(history).startable(1)) == {stitched(1)}


def test_what_was_accepted_and_stitched_stays_when_less_is_allowed(history):
    process_without(history, 1, [2])
    history.solve(1)
    history.write(history.place(1), "stitched", missing=[2])
    assert (history.place(1), "stitched") in again(history).flags()
    assert again(history).waiting() == []


def test_a_closed_mosaic_goes_on_without_a_whole_batch(history):
    history.enter(1, 1)
    for state in ("complex", "processed", "qc"):
        history.write(history.place(1, 1), state)
    assert not again(history).is_complete(1)
    history.close(1, [3, 4])
    plan = again(history)
    assert plan.counted_batches(1) == [1]
    assert plan.missing_tiles(1) == [3, 4]
    assert asked(plan.startable(1)) == {stitched(1)}
    inputs = plan.inputs(history.place(1), "stitched")
    assert [place.batch for place, state in inputs if state == "processed"] == [1]


def test_a_closed_mosaic_waits_for_batches_that_have_some_tiles(history):
    history.enter(1, 1)
    history.close(1, [3])
    assert again(history).counted_batches(1) == [1, 2]
    assert not again(history).is_complete(1)
    history.enter(1, 2, missing=[3])
    plan = again(history)
    assert plan.is_complete(1)
    assert plan.accept_missing(1) == {3}


def test_a_batch_that_came_late_counts_again(history):
    history.enter(1, 1)
    history.close(1, [3, 4])
    assert again(history).closed_without(1) == {3, 4}
    history.enter(1, 2)
    plan = again(history)
    assert plan.counted_batches(1) == [1, 2]
    assert plan.missing_tiles(1) == []


def test_closed_away_entirely_is_not_complete(history):
    history.close(1, [1, 2, 3, 4])
    assert not again(history).is_complete(1)


def test_the_grid_check_counts_missing_tiles(history):
    history.enter(1, 1, missing=[2])
    again(history).check_grid()


# --------------------------------------------------------------------------------- what is listed
def test_only_names_that_are_found_by_their_path_count(history):
    state = history.layout.mosaic_state(1)
    state.mkdir(parents=True)
    for name in (
        "batch-1.ready",
        "batch-002.ready",
        "batch-000.ready",
        "notes.txt",
        ".batch-003.ready",
    ):
        (state / name).touch()
    assert present_states(state) == {("batch", 2): {"ready"}}
    assert again(history).ready == {1: (2,)}


def test_a_folder_that_cannot_be_listed_is_an_error(history, monkeypatch):
    history.enter(1, 1)

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ServiceError, match=r"mosaic-01/state cannot be listed \(Permission denied"):
        present_states(history.layout.mosaic_state(1))


def test_a_damaged_closed_flag_is_named(history):
    history.enter(1, 1)
    history.layout.mosaic_flag(1, "closed").write_text("{")
    with pytest.raises(CorruptInputError, match=r"mosaic-01\.closed cannot be read"):
        again(history).startable(1)


# ------------------------------------------------------------------------------------------- cost
def looks(monkeypatch, look) -> Counter:
    """How often a question lists a folder, opens a file, or asks for a file's status."""
    counts: Counter = Counter()
    with monkeypatch.context() as patch:
        for module, name in ((os, "scandir"), (os, "listdir"), (os, "stat"), (io, "open")):
            patch.setattr(module, name, counting(counts, name, getattr(module, name)))
        look()
    return counts


def counting(counts, name, real):
    def counted(*args, **options):
        counts[name] += 1
        return real(*args, **options)

    return counted


def a_trigger(config, slices):
    """What the Snakefile and the watcher ask for one trigger."""
    plan = Plan(config, project_layout(config))
    plan.check_grid()
    mosaic = 2 * slices + 1
    assert plan.counted_batches(mosaic) == [1, 2]
    assert asked(plan.startable(mosaic)) == {batch(mosaic, 1, "processed")}
    assert plan.startable_slice(slices + 1) == []


def test_a_trigger_costs_the_same_on_day_1_and_day_30(make_config, monkeypatch):
    found = {}
    for slices in (1, 100):
        folder = f"project of {slices}"
        history = History(make_config(project__dir=folder, acquisition__grid_size_y=1))
        history.finish(slices)
        history.enter(2 * slices + 1, 1)
        found[slices] = looks(monkeypatch, partial(a_trigger, history.config, slices))
    # The mosaics by name; the oldest and newest of each acquisition; and the one that is asked for.
    assert found[100]["scandir"] <= 7
    assert found[100]["listdir"] == 0
    assert found[100]["open"] <= 4
    assert found[100]["stat"] <= 4
    for name in ("scandir", "open", "stat"):
        assert found[100][name] <= found[1][name] + 2


# ------------------------------------------------------------------------------------ the archive
def archived_goals(targets):
    return {target.path for target in targets if target.goal == "archive"}


def test_an_archive_is_asked_for_with_the_batch_and_held_up_by_nothing(make_config):
    history = History(make_config(archive__dir="archive"))
    history.enter(1, 1, 2)
    wanted = {f"mosaic-01/state/batch-00{n}.archived" for n in (1, 2)}
    assert archived_goals(again(history).startable(1)) == wanted
    assert wanted < set(again(history).targets())
    history.write(history.place(1, 1), "archived")
    assert archived_goals(again(history).startable(1)) == {"mosaic-01/state/batch-002.archived"}


def test_nothing_waits_for_an_archive(make_config):
    history = History(make_config(archive__dir="archive", run__goals=["batch", "mosaic"]))
    history.process(1)
    assert stitched(1) in asked(again(history).startable(1))
    history.solve(1)
    history.write(history.place(1), "stitched")
    assert again(history).is_finished(1)


def test_a_mosaic_is_finished_once_it_is_archived(make_config):
    history = History(make_config(archive__dir="archive", run__goals=["batch", "archive"]))
    history.process(1)
    assert not again(history).is_finished(1)
    for batch_ in (1, 2):
        history.write(history.place(1, batch_), "archived")
    assert again(history).is_finished(1)


def test_new_raw_files_withdraw_the_archive_flag_and_nothing_else_does(make_config):
    history = History(make_config(archive__dir="archive"))
    history.process(1)
    history.write(history.place(1, 1), "archived")
    state = project_state(history.config)
    with state.open_batch(1, 1) as node:
        node.withdraw("complex")
    assert again(history).has(history.place(1, 1), "archived")
    with state.open_batch(1, 1) as node:
        node.withdraw("archived")
    assert again(history).has(history.place(1, 1), "ready")
    history.process(1)
    history.write(history.place(1, 1), "archived")
    with state.open_batch(1, 1) as node:
        node.withdraw("ready")
    assert again(history).batch_states(1)[1] == {"started"}
