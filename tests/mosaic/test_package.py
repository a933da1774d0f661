import subprocess
import sys

import pytest

import opticstream_smk.mosaic as mosaic


def test_every_public_name_is_there():
    for name in mosaic.__all__:
        assert callable(getattr(mosaic, name))


def test_unknown_name():
    with pytest.raises(AttributeError, match="blendd"):
        mosaic.blendd  # noqa: B018 - the access is what is tested


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, opticstream_smk.mosaic; print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
