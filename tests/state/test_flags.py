import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opticstream_smk.errors import CorruptInputError, ServiceError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import (
    Flag,
    canonical_sha256,
    file_input,
    file_outputs,
    fingerprint,
    read_flag,
    write_flag,
)
from opticstream_smk.state.receipts import read_receipt, write_receipt

AT = datetime(2026, 1, 2, tzinfo=UTC)


def flag(**content) -> Flag:
    base = {
        "flag": "batch-001.processed",
        "project": "p",
        "slice": 1,
        "mosaic": 1,
        "batch": 1,
        "stage": "process_tiles",
        "started": AT,
        "finished": AT,
        "duration_s": 1.5,
    }
    return Flag(**{**base, **content})


def test_a_flag_holds_what_the_design_lists(tmp_path):
    path = tmp_path / "batch-001.processed"
    write_flag(path, flag())
    keys = (
        "schema flag project slice mosaic batch stage version host started finished duration_s "
        "params_sha256 inputs outputs tiles numbers extra"
    )
    content = json.loads(path.read_text())
    assert list(content) == keys.split()
    assert content["schema"] == 1
    assert read_flag(path) == flag()


def test_unknown_keys_are_kept_and_unknown_schemas_refused(tmp_path):
    path = tmp_path / "batch-001.processed"
    content = {**flag().as_json(), "later": {"a": 1}}
    path.write_text(json.dumps(content))
    found = read_flag(path)
    assert found is not None
    assert found.as_json()["later"] == {"a": 1}
    path.write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(CorruptInputError, match="schema 2, this version knows 1"):
        read_flag(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', "\x00\x00"])
def test_damaged_flags_are_named(tmp_path, content):
    path = tmp_path / "slice-01.registered"
    path.write_text(content)
    with pytest.raises(CorruptInputError, match=r"slice-01.registered.*doctor --fix"):
        read_flag(path)


def test_a_flag_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        flag().stage = "other"


def test_a_flag_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "state").write_text("a file where a folder belongs")
    with pytest.raises(ServiceError, match="cannot write"):
        write_flag(tmp_path / "state" / "batch-001.processed", flag())
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_fingerprints_follow_size_and_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12")
    first = fingerprint([file_input(path)])
    assert first == fingerprint([file_input(path)])
    path.write_bytes(b"123")
    assert first != fingerprint([file_input(path)])


def test_canonical_hash_ignores_order():
    assert canonical_sha256({"a": 1, "b": [1, 2]}) == canonical_sha256({"b": [1, 2], "a": 1})
    assert canonical_sha256({"a": 1}) != canonical_sha256({"a": 2})


class TestReceipts:
    @pytest.fixture
    def made(self, tmp_path):
        layout = ProjectLayout(tmp_path)
        source, product = tmp_path / "raw.nii", tmp_path / "mosaic-01" / "out.nii"
        source.write_bytes(b"raw")
        product.parent.mkdir()
        product.write_bytes(b"product")
        path = layout.receipt(1, 1, "processed")
        write_receipt(
            path,
            layout,
            params_sha256="p",
            source=file_input(source),
            products=[product],
            numbers={"aip_mean": 1.0},
        )
        return layout, path, source, product

    def test_proof(self, made):
        layout, path, source, _ = made
        receipt = read_receipt(path)
        assert receipt is not None
        assert receipt.proves("p", file_input(source), layout.root)
        assert not receipt.proves("other parameters", file_input(source), layout.root)

    def test_a_changed_input_is_not_proven(self, made):
        layout, path, source, _ = made
        source.write_bytes(b"longer")
        assert not read_receipt(path).proves("p", file_input(source), layout.root)

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"pro")])
    def test_a_lost_or_truncated_product_is_not_proven(self, made, damage):
        layout, path, source, product = made
        damage(product)
        assert not read_receipt(path).proves("p", file_input(source), layout.root)

    @pytest.mark.parametrize("content", ["", "{}", '{"schema": 9}'])
    def test_a_damaged_receipt_proves_nothing(self, made, content):
        _, path, _, _ = made
        path.write_text(content)
        assert read_receipt(path) is None

    def test_a_receipt_has_the_paths_of_its_products(self, made):
        layout, _, _, product = made
        assert file_outputs(layout, [product])[0].path == "mosaic-01/out.nii"
