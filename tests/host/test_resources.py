import json
import threading

import pytest

from opticstream_smk.cli.stage import STAGES, _protect_acquisition
from opticstream_smk.errors import ConfigError
from opticstream_smk.host import affinity
from opticstream_smk.host.tokens import living_tokens, take, token_folder
from opticstream_smk.io import throttle
from opticstream_smk.stages.resources import hold_resources, stage_resources
from opticstream_smk.stages.stage import Outcome, Stage, run_stage
from opticstream_smk.state.places import batch_place


@pytest.fixture
def config(make_config, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return make_config(run__token_dir="tokens", run__cores=2, run__memory_mb=100000)


def test_every_stage_has_an_entry(config):
    for stage in STAGES:
        found = stage_resources(config, stage, threads=3)
        assert found.cores == 3
        assert found.memory_mb >= 300
    kinds = {stage: stage_resources(config, stage).kind for stage in STAGES}
    assert kinds["process_tiles"] == kinds["convert_complex"] == "tile"
    assert kinds["stitch_enface"] == kinds["solve_coordinates"] == "stitch"
    assert kinds["register_slice"] == "register"
    assert kinds["qc_tiles"] is None


def test_memory_grows_with_the_tile_and_the_mosaic(make_config):
    small = make_config()
    scan = {"tile_size_x_normal": 350, "tile_size_x_tilted": 200, "tile_size_y": 350}
    large = make_config(
        acquisition__samples_per_aline=2048,
        acquisition__grid_size_y=16,
        acquisition__grid_size_x_normal=22,
        **{f"acquisition__{key}": value for key, value in scan.items()},
    )
    raw_mb = large.acquisition.raw_tile_bytes("normal") / 2**20
    tile = stage_resources(large, "process_tiles").memory_mb
    # Blocks of B-lines, not the volumes of a tile, and not a batch.
    assert 0.4 * raw_mb < tile < 3 * 4 * 350 * 350 * 1000 / 2**20
    unwrapped = large.model_copy(
        update={"processing": large.processing.model_copy(update={"biref_method": "unwrap_new"})}
    )
    # Three volumes, and what smooths them.
    assert 2 * raw_mb < stage_resources(unwrapped, "process_tiles").memory_mb < 5 * raw_mb
    pixels = 22 * 16 * 350 * 350 / 2**20
    assert 64 * pixels < stage_resources(large, "solve_coordinates").memory_mb < 128 * pixels
    # Rows of the images, not the images.
    assert 12 * pixels < stage_resources(large, "stitch_enface").memory_mb < 32 * pixels
    for stage in ("process_tiles", "stitch_enface"):
        assert stage_resources(small, stage).memory_mb < stage_resources(large, stage).memory_mb
    packed = make_config(
        acquisition__tile_saving_type="spectral_12bit", acquisition__samples_per_aline=65536
    )
    plain = make_config(acquisition__samples_per_aline=65536)
    assert (
        stage_resources(packed, "qc_tiles").memory_mb > stage_resources(plain, "qc_tiles").memory_mb
    )


def test_a_stage_holds_what_it_takes_and_says_what_it_is(config):
    with hold_resources(config, "register_slice", "slice 01", threads=2):
        ((token, label),) = living_tokens(token_folder(config.run)).items()
    assert (token.kind, token.cores) == ("register", 2)
    assert token.memory_mb == stage_resources(config, "register_slice").memory_mb
    assert label == "register_slice slice 01 of test block"


def fake_stage(compute):
    return Stage("process_tiles", "batch", "processed", lambda *_: {}, lambda _: [], compute)


def started(config):
    return config.project.dir / "mosaic-01/state/batch-001.started"


def test_a_stage_waits_with_its_start_on_record_and_its_lock_held(config):
    computed = threading.Event()

    def compute(context):
        assert len(living_tokens(token_folder(config.run))) == 1
        computed.set()
        return Outcome((), ())

    runs = [
        threading.Thread(target=run_stage, args=(fake_stage(compute), config, batch_place(1, 1)))
        for _ in range(2)
    ]
    with take(config.run, None, cores=2, memory_mb=1):
        runs[0].start()
        deadline = threading.Event()
        while not started(config).exists():
            assert not deadline.wait(0.01)
        runs[1].start()
        assert not computed.wait(0.3)
        # The second one waits for the flag of the first and holds nothing of the host.
        assert len(living_tokens(token_folder(config.run))) == 2
    for run in runs:
        run.join(20)
    assert computed.is_set()
    assert (config.project.dir / "mosaic-01/state/batch-001.processed").exists()
    assert living_tokens(token_folder(config.run)) == {}


def test_tokens_that_cannot_be_had_fail_the_stage_on_record(config):
    token_folder(config.run).write_text("a file")
    with pytest.raises(ConfigError, match=r"run\.token_dir"):
        run_stage(fake_stage(lambda _: Outcome((), ())), config, batch_place(1, 1))
    failed = json.loads(started(config).with_suffix(".failed").read_text())
    assert failed["extra"]["kind"] == "config"
    assert not started(config).with_suffix(".processed").exists()


def test_the_stage_command_limits_reading_of_its_sources(make_config, monkeypatch):
    settled = []
    monkeypatch.setattr(affinity, "settle_process", settled.append)
    monkeypatch.setattr(throttle, "_limiter", None)
    config = make_config(run__token_dir="tokens", run__read_limit_mb_s=80)
    _protect_acquisition(config)
    limiter = throttle._limiter
    assert settled == [config.run]
    assert limiter._bytes_s == 80e6
    assert limiter._state == token_folder(config.run) / throttle.STATE_NAME
    assert limiter.is_raw(config.acquisition.sources[0].dir / "tile.nii")
    assert not limiter.is_raw(config.project.dir / "tile.nii")
    _protect_acquisition(make_config(run__token_dir="tokens"))
    assert throttle._limiter is None


def test_the_stage_command_settles_before_libraries_start_threads(make_config, child, tmp_path):
    make_config()
    code = (
        "import sys\n"
        "from opticstream_smk.cli import stage\n"
        "from opticstream_smk.host import affinity\n"
        "def settled(run):\n"
        "    print('numpy' in sys.modules, flush=True)\n"
        "    sys.exit()\n"
        "affinity.settle_process = settled\n"
        "sys.exit(stage.main())"
    )
    words = ("process_tiles", "--mosaic", 1, "--batch", 1, "--config", tmp_path / "project.yaml")
    out, error = child(code, *words).communicate()
    assert out == "False\n", error
