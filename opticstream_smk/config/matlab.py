"""Section ``processing.matlab``: how MATLAB is started, and what psoct-toolbox cannot do."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from opticstream_smk.config.section import Section

if TYPE_CHECKING:
    from opticstream_smk.config.acquisition import AcquisitionSection
    from opticstream_smk.config.processing import ProcessingSection

COMMAND = "{command}"
# The toolbox takes the length of a spectrum for this, whatever the file says.
TOOLBOX_SAMPLES = 2048
# Its offsets in a raw file are int32.
_LARGEST_RAW_BYTES = 2**31 - 1
# Its dispersion files are float64 without any header.
_OTHER_DISPERSION = (".txt", ".csv", ".tsv", ".mat")


class MatlabSection(Section):
    """How the engines ``matlab-engine`` and ``matlab-batch`` run psoct-toolbox."""

    command: str | tuple[str, ...] = Field(
        default="matlab -batch {command}",
        description="What `matlab-batch` runs, without a shell: a line, or a list of arguments; "
        "{command} stands for the MATLAB code. Octave: octave-cli --no-gui --quiet --eval "
        "{command}.",
    )
    toolbox_dir: Path | None = Field(
        default=None,
        description="Folder of psoct-toolbox, the one that holds `+psoct`. Needed by both engines.",
    )
    num_workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Tiles of a batch that one MATLAB works on at a time; each takes some 8 GB. "
        "Null: as many as run.tile_threads; 1: one after the other, without a pool.",
    )
    pool_type: Literal["process", "thread"] = Field(
        default="process", description="Kind of MATLAB's pool when num_workers exceeds 1."
    )
    tile_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        le=604800,
        description="A MATLAB that has not ended after so many seconds for each tile of its batch "
        "is ended, and the batch is tried again.",
    )

    @field_validator("command")
    @classmethod
    def _command_has_its_place(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        arguments = split_command(value)
        places = [argument.count(COMMAND) for argument in arguments]
        if len(arguments) < 2 or sum(places) != 1 or places[0]:
            raise ValueError(
                f"{value!r}: expected a program and its arguments, one of which has {COMMAND} "
                "once, such as matlab -batch {command}"
            )
        return value

    def arguments(self, command: str) -> list[str]:
        """Program and arguments that run some MATLAB code."""
        return [part.replace(COMMAND, command) for part in split_command(self.command)]

    @property
    def program(self) -> str:
        """The program that ``matlab-batch`` starts."""
        return split_command(self.command)[0]


def split_command(command: str | tuple[str, ...]) -> list[str]:
    """Arguments of a command line as a shell would split it; ValueError without a closing quote."""
    return shlex.split(command) if isinstance(command, str) else list(command)


def conflicts(processing: "ProcessingSection", scan: "AcquisitionSection") -> Iterator[str]:
    """Settings that cannot be had from psoct-toolbox, each with both keys and the remedy."""
    engine = f"processing.engine {processing.engine}"
    if processing.matlab.toolbox_dir is None:
        yield (
            f"{engine} needs processing.matlab.toolbox_dir, the folder of psoct-toolbox that holds "
            "+psoct"
        )
    for name in processing.modalities:
        if name in ("mus", "mus_confidence"):
            yield (
                f"processing.modalities {name} with {engine}: psoct-toolbox has no attenuation; "
                f"remove {name} or set processing.engine: native"
            )
    if "biref" in processing.modalities and processing.biref_method == "unwrap_exp":
        yield (
            f"processing.biref_method unwrap_exp with {engine}: psoct-toolbox makes a complex map "
            "of it, which it cannot write; take another method or set processing.engine: native"
        )
    yield from _surface_conflicts(processing, engine)
    if reads_spectra(processing, scan):
        yield from _spectral_conflicts(scan, engine)


def reads_spectra(processing: "ProcessingSection", scan: "AcquisitionSection") -> bool:
    """Whether the toolbox gets raw spectra; with complex tiles on disk it gets those."""
    return processing.complex == "discard" and not scan.complex_is_input


def _surface_conflicts(processing: "ProcessingSection", engine: str) -> Iterator[str]:
    name, args = processing.surface.strip(), processing.surface_args
    where = f"processing.surface_args {list(args)} with {engine}"
    given = {"gradient": args[:2], "find": args[:2], "gradientThreshold": args[2:4]}.get(name)
    if given is None:
        return
    if any(not arg.is_integer() for arg in args):
        yield f"{where}: psoct-toolbox takes whole numbers only; round them"
    windows = (*given, *(5, 5)[len(given) :])
    if windows[0] != windows[1]:
        yield (
            f"{where}: psoct-toolbox is right for two windows of one length only, these are "
            f"{windows[0]:g} and {windows[1]:g}; make them equal or set processing.engine: native"
        )


def _spectral_conflicts(scan: "AcquisitionSection", engine: str) -> Iterator[str]:
    remedy = "set processing.complex: keep, so that complex tiles are made natively"
    here = f"with processing.complex discard and {engine}"
    if scan.samples_per_aline != TOOLBOX_SAMPLES:
        yield (
            f"acquisition.samples_per_aline {scan.samples_per_aline} {here}: psoct-toolbox reads "
            f"spectra of {TOOLBOX_SAMPLES} samples only; {remedy}"
        )
    if scan.phase_calibration is not None:
        yield (
            f"acquisition.phase_calibration {here}: psoct-toolbox calibrates by wavelength only; "
            f"{remedy}"
        )
    if scan.flip_channel2 is False:
        yield (
            f"acquisition.flip_channel2 false {here}: psoct-toolbox always reverses camera 2; "
            f"{remedy}"
        )
    if scan.illuminations > 1:
        yield (
            f"acquisition.mosaics_per_slice {scan.mosaics_per_slice} {here}: psoct-toolbox would "
            f"write all {scan.illuminations} interleaved mosaics at once, and each of them is a "
            f"batch of its own here; {remedy}, one for each illumination"
        )
    largest = max(scan.raw_tile_bytes(label) for label in scan.labels)
    if largest > _LARGEST_RAW_BYTES:
        yield (
            f"acquisition.tile_size_* {here}: a raw tile has {largest} bytes, psoct-toolbox reads "
            f"{_LARGEST_RAW_BYTES} at most; {remedy}"
        )
    if scan.dispersion_file is None:
        yield (
            f"acquisition.dispersion_file null {here}: psoct-toolbox would take a file of its own; "
            f"name that file (or one of {TOOLBOX_SAMPLES} zeros, float64, for no correction), or "
            f"{remedy}"
        )
    elif scan.dispersion_file.suffix.lower() in _OTHER_DISPERSION:
        yield (
            f"acquisition.dispersion_file {scan.dispersion_file} {here}: psoct-toolbox reads "
            f"float64 binary files only; convert it, or {remedy}"
        )


def notes(processing: "ProcessingSection", scan: "AcquisitionSection") -> list[str]:
    """What is different with psoct-toolbox, though nothing is wrong."""
    if processing.engine == "native" or scan.maps_are_input:
        return []
    found = []
    if not processing.toolbox_quirks:
        found.append(
            f"processing.toolbox_quirks false with processing.engine {processing.engine}: tiles "
            "have the defects of psoct-toolbox in any case; the setting holds for complex tiles "
            "and the registration, which are native"
        )
    if processing.biref_method in ("unwrap_old", "unwrap_new"):
        found.append(
            f"processing.biref_method {processing.biref_method} with processing.engine "
            f"{processing.engine}: some versions of psoct-toolbox cannot run it; tiles then fail "
            "without biref"
        )
    return found
