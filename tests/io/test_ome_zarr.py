import json
import os
from itertools import product

import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pydantic_zarr.v2
import pytest
import tensorstore
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr

from opticstream_smk.errors import ConfigError, ServiceError
from opticstream_smk.io.ome_zarr import ZarrOptions, level_shapes
from opticstream_smk.mosaic.volume_store import pyramid_layout
from tests.mosaic.volume_phantom import expected, make_tiles, stitch

CODECS = [
    ("blosc", {}),
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle"}),
    ("zstd", {"level": 1}),
    ("zlib", {}),
    ("none", {}),
]
SHARDED, PLAIN, V2 = (
    {"shard": (32,)},
    {"shard": None},
    {"zarr_version": 2},
)


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def make(folder, **options):
    out = folder / "volume.ome.zarr"
    stitch(make_tiles(count=4), out, options=ZarrOptions(chunk=(16,), **options), label="dBI")
    return out


@pytest.mark.parametrize("storage", [SHARDED, PLAIN, V2], ids=["sharded", "plain", "v2"])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: "-".join(map(str, codec[1].values())))
def test_zarr_python_and_tensorstore_read_the_same_numbers(tmp_path, storage, codec):
    name, options = codec
    out = make(tmp_path, compressor=name, compressor_opt=options, **storage)
    group = zarr.open_group(str(out), mode="r")
    levels = sorted(group)
    assert levels == ["0", "1", "2", "3"]
    for level in levels:
        driver = "zarr" if storage is V2 else "zarr3"
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(out / level)}}
        values = np.asarray(group[level])
        assert np.array_equal(tensorstore.open(spec, read=True).result().read().result(), values)
    assert np.array_equal(np.asarray(group["0"]), expected(make_tiles(count=4)))


@pytest.mark.parametrize(("storage", "version"), [(SHARDED, "0.5"), (PLAIN, "0.5"), (V2, "0.4")])
def test_ome_zarr_py_and_ome_zarr_models_take_it(tmp_path, storage, version):
    out = make(tmp_path, **storage)
    group = zarr.open_group(str(out), mode="r")
    if version == "0.5":
        model = open_ome_zarr(group)
        assert isinstance(model, ome_zarr_models.v05.Image)
        assert model.attributes.ome.version == version
    else:
        # Its model of 0.4 lacks a type at run time, which pydantic says how to supply.
        image = ome_zarr_models.v04.Image
        image.model_rebuild(_types_namespace=vars(pydantic_zarr.v2))
        assert image.from_zarr(group).attributes.multiscales[0].version == version
    (node,) = Reader(parse_url(str(out)))()
    assert node.metadata["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer"}
    assert [level.shape for level in node.data] == [
        (37, 63, 73), (18, 31, 36), (9, 15, 18), (4, 7, 9)
    ]  # fmt: skip
    assert node.metadata["channel_names"] == ["dBI"]
    assert np.array_equal(np.asarray(node.data[0]), expected(make_tiles(count=4)))


def test_arrays_say_how_they_are_stored(tmp_path):
    out = make(tmp_path, **SHARDED)
    stored = json.loads((out / "0" / "zarr.json").read_text())
    assert stored["dimension_names"] == ["z", "y", "x"]
    assert stored["data_type"] == "float32"
    (sharding,) = stored["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["index_location"] == "end"
    blosc = sharding["configuration"]["codecs"][1]
    assert (blosc["name"], blosc["configuration"]["cname"]) == ("blosc", "lz4")
    assert blosc["configuration"]["typesize"] == 4
    group = json.loads((out / "zarr.json").read_text())
    assert list(group["attributes"]) == ["ome"]


def test_version_2_has_no_version_3_metadata(tmp_path):
    out = make(tmp_path, **V2)
    assert not list(out.rglob("zarr.json"))
    attributes = json.loads((out / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4"
    assert json.loads((out / "0" / ".zarray").read_text())["dimension_separator"] == "/"


def test_one_byte_of_an_index_wrong_is_noticed_by_readers(tmp_path):
    out = make(tmp_path, **SHARDED)
    shard = next(p for p in (out / "0" / "c").rglob("*") if p.is_file())
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    with pytest.raises(Exception, match=r"(?i)checksum|crc"):
        np.asarray(zarr.open_group(str(out), mode="r")["0"])


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot write"):
        make(tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": (63,)}, "even"),
        ({"chunk": (64, 64)}, r"chunk \[64, 64\]: expected one positive whole number, or three"),
        ({"chunk": (0,)}, "expected one positive"),
        ({"zarr_version": 2, "shard": (1024,)}, "Zarr version 2 has no shards"),
        ({"zarr_version": 4}, "expected 2 or 3"),
        ({"compressor": "lzma"}, "expected one of blosc"),
        ({"compressor_opt": {"level": 3}}, "compressor_opt level: blosc has cname, clevel"),
        ({"compressor": "none", "compressor_opt": {"level": 3}}, "none has no options"),
        ({"levels": -2}, "levels -2"),
        ({"shard": (0,)}, "shard"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        ZarrOptions(**options)


def test_shards_are_whole_chunks():
    assert ZarrOptions(chunk=(48,), shard=(100, 48, 1)).shard_zyx == (144, 48, 48)
    assert ZarrOptions(zarr_version=2).shard_zyx is None
    assert ZarrOptions(shard=None).shard_zyx is None


@pytest.mark.parametrize(
    "shape", [(500, 4500, 6200), (1, 1, 1), (37, 100, 64), (500, 10_000, 70), (3, 2048, 2049)]
)
@pytest.mark.parametrize("shard", ["auto", None, (512, 256, 1024), (192,)])
def test_layouts_are_consistent(shape, shard):
    options = ZarrOptions(shard=shard)
    pyramid = pyramid_layout(shape, options)
    assert [level.shape for level in pyramid.levels] == level_shapes(shape, options)
    assert max(pyramid.levels[-1].shape) <= 64
    for number, level in enumerate(pyramid.levels):
        if level.shard is None:
            assert shard is None
            continue
        assert all(s % c == 0 for s, c in zip(level.shard, level.chunk, strict=True))
        if number > pyramid.whole_levels:
            continue
        # Two footprints never write into one shard.
        owners = {}
        for footprint in pyramid.footprints():
            spans = [(footprint.rows, 1), (footprint.columns, 2)]
            ranges = [
                range(
                    (start >> number) // level.shard[axis],
                    max((stop >> number) - 1, start >> number) // level.shard[axis] + 1,
                )
                for (start, stop), axis in spans
                if start >> number < level.shape[axis]
            ]
            for place in product(*ranges):
                assert owners.setdefault(place, footprint.index) == footprint.index
