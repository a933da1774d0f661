"""A program that does with a macro what Fiji does, as far as files go.

It reads the macro as ImageJ does (escapes, keys, brackets), looks at the tiles, and writes both
tile configurations with the positions that it was given. A file ``behaviour.json`` beside it says
what else it does.
"""

import json
import stat
import sys
from pathlib import Path

_PROGRAM = r'''#!PYTHON
import json, re, sys, time
from pathlib import Path

behaviour = json.loads((Path(__file__).parent / "behaviour.json").read_text())
memory = f"--mem={behaviour['memory_mb']}M"
assert sys.argv[1:4] == ["--headless", "--console", memory], sys.argv
assert sys.argv[4] == "-macro" and len(sys.argv) == 6, sys.argv
text = Path(sys.argv[5]).read_text()
call = re.match(r'run\("Grid/Collection stitching", "((?:[^"\\]|\\.)*)"\);\n', text)
assert call and 'System.exit(0)' in text[call.end():], text
options = re.sub(r"\\(.)", r"\1", call[1])


def value(key):
    """What ImageJ's Macro.getValue gives: the first key that is no end of a longer word."""
    for found in re.finditer(re.escape(key) + "=", options):
        if found.start() and options[found.start() - 1].isalpha():
            continue
        rest = options[found.end():]
        return rest[1:rest.index("]")] if rest[0] == "[" else rest.split(" ")[0]
    raise SystemExit("no " + key)


folder = Path(value("directory"))
pattern = value("file_names")
count = int(value("grid_size_x")) * int(value("grid_size_y"))
digits = pattern.count("i") - pattern.split("{")[0].count("i") - pattern.split("}")[1].count("i")
first = int(value("first_file_index_i"))
names = [re.sub(r"\{i+\}", str(first + n).zfill(digits), pattern) for n in range(count)]
record = {
    key: value(key)
    for key in ("type", "order", "grid_size_x", "grid_size_y", "tile_overlap", "fusion_method",
                "regression_threshold", "max/avg_displacement_threshold",
                "absolute_displacement_threshold", "directory", "file_names")
}
flags = ("compute_overlap", "subpixel_accuracy")
record["flags"] = [flag for flag in flags if f" {flag} " in options]
assert all((folder / name).stat().st_size for name in names)
(Path(__file__).parent / "called.json").write_text(json.dumps(record))
print("Stitching internal version: 1.2", flush=True)
for line in behaviour["says"]:
    print(line, flush=True)
time.sleep(behaviour["sleep_s"])
head = "# Define the number of dimensions we are working on\ndim = 2\n\n"
head += "# Define the image coordinates\n"
output = value("output_textfile_name")
(folder / output).write_text(head + "".join(f"{name}; ; (0.0, 0.0)\n" for name in names))
if behaviour["registered"] is not None:
    lines = [f"{name}; ; ({x}, {y})\n" for name, (x, y) in zip(names, behaviour["registered"])]
    (folder / output.replace(".txt", ".registered.txt")).write_text(head + "".join(lines))
if behaviour["kill"]:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(behaviour["code"])
'''


class FakeFiji:
    """The program, in a folder of its own."""

    def __init__(self, folder: Path, *, memory_mb: int = 4000) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "ImageJ linux"
        self.path.write_text(_PROGRAM.replace("PYTHON", sys.executable))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self._memory_mb = memory_mb
        self.behave()

    def behave(self, *, registered=None, code=0, says=(), sleep_s=0, kill=False) -> None:
        """Say what it is to do; `registered` are (y, x) of the tiles, None for no such file."""
        values = {
            "registered": None if registered is None else [(x, y) for y, x in registered],
            "code": code,
            "says": list(says),
            "sleep_s": sleep_s,
            "kill": kill,
            "memory_mb": self._memory_mb,
        }
        self.path.with_name("behaviour.json").write_text(json.dumps(values))

    @property
    def called(self):
        """What it was asked for."""
        return json.loads(self.path.with_name("called.json").read_text())
