r"""What the name of a file in a source folder says, for each way of naming that is in use.

``names.parse(names.build(...))`` gives back what was built. Three questions decide how the
names of a source are read: which *pattern* they follow (a preset or a template of the user),
which *words* stand for a kind of data, and which *labels* stand for a mosaic of a slice.

A template turns into one regular expression with the known words and labels spelled out. A
label that contains a separator (``tilted_15deg``) is therefore still read as one label, and an
unknown one makes the name no match::

    s{slice}_i{image}_{acq}.nii
    s(?P<slice>[0-9]+)_i(?P<image>[0-9]+)_(?P<acq>tilted15deg|normal0deg)(?P<extension>\.nii)
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from string import Formatter
from typing import Literal, get_args

from opticstream_smk import naming
from opticstream_smk.errors import ConfigError, NamingError

Kind = Literal["spectral", "complex", "processed"]
PresetName = Literal["legacy", "cropped_focus", "macaque", "bids"]

# The longer one first: a name ending in .nii.gz must not be read as one ending in .gz.
EXTENSIONS = (".nii.gz", ".nii", ".mat", ".raw")
PLACEHOLDERS = ("image", "slice", "acq", "subject", "modality", "extension")
PRODUCTS = (*naming.VOLUME_MODALITIES, *naming.ENFACE_MODALITIES, "mus")

# What a word in a name stands for: the kind of data and, for products, the modality. The word
# "processed" is what acquisition programs call complex data. It comes before "complex", because
# the first word that fits is the one that is written.
Meaning = tuple[Kind, str | None]
_WORDS: dict[str, Meaning] = {
    "spectral": ("spectral", None),
    "processed": ("complex", None),
    "complex": ("complex", None),
    **{product: ("processed", product) for product in PRODUCTS},
    **{product.lower(): ("processed", product) for product in PRODUCTS},
}


@dataclass(frozen=True)
class ParsedName:
    """What a name says, with what is fixed for the source filled in.

    Attributes
    ----------
    kind
        ``spectral``, ``complex``, or ``processed`` for a product of a tile.
    image
        1-based, in the mosaic; in the whole sequence where the names are continuous.
    slice, position
        Slice, and position of the mosaic in it, 1-based. None where nothing tells.
    mosaic
        Mosaic of the source. None unless slice and position are known.
    modality
        Of a product, as this project spells it: ``aip``, ``dBI``. None for the other kinds.
    suffix
        Extension with its dot, in lower case for presets: ``.nii``, ``.nii.gz``, ``.raw``.
    """

    kind: Kind
    image: int
    slice: int | None = None
    position: int | None = None
    mosaic: int | None = None
    modality: str | None = None
    suffix: str = ".nii"


@dataclass(frozen=True)
class _Preset:
    """Regular expressions in the order in which they are tried, and a template for each kind.

    The group ``modality`` is one word; of the group ``words``, any one of the words between
    underscores counts. Where neither tells, the data is what "processed" stands for.
    """

    patterns: tuple[str, ...]
    templates: Mapping[Kind, str]
    subfolders: tuple[str, ...] = (".",)


_STEM = "mosaic_(?P<mosaic>[0-9]+)_image_(?P<image>[0-9]+)_"
_PRESETS = {
    "legacy": _Preset(
        patterns=(
            _STEM + r"(?P<modality>spectral)_[0-9]+(?P<extension>\.nii|\.raw)",  # .raw: 12-bit
            _STEM + r"(?P<modality>processed)(?:_cropped)?(?P<extension>\.nii)",
            # Without its second number, a spectral file is not from the acquisition program.
            _STEM + r"(?!spectral\.)(?P<modality>\w+)(?P<extension>\.nii)",
        ),
        templates={
            "spectral": "{stem}_spectral_{image}{extension}",
            "complex": "{stem}_{modality}{extension}",
            "processed": "{stem}_{modality}{extension}",
        },
    ),
    "cropped_focus": _Preset(
        patterns=(_STEM + r"(?P<words>[\w-]*cropped_focus[\w-]*)(?P<extension>\.nii)",),
        templates={
            "spectral": "{stem}_{modality}_cropped_focus{extension}",
            "complex": "{stem}_{modality}_cropped_focus{extension}",
            "processed": "{stem}_cropped_focus_{modality}{extension}",
        },
    ),
    "macaque": _Preset(
        patterns=(
            r"(?P<modality>spectral)_(?P<image>[0-9]+)(?P<extension>\.nii)",
            r"processed_(?P<image>[0-9]+)(?P<words>(?:[a-z_-][\w-]*)?)(?P<extension>\.nii)",
        ),
        templates={
            "spectral": "spectral_{image}{extension}",
            "complex": "processed_{image}{extension}",
            "processed": "processed_{image}_{modality}{extension}",
        },
        subfolders=(".", "spectral"),
    ),
}
_BIDS = "sub-{subject}_sample-slice{slice}_chunk-{image}_acq-{acq}_{modality}{extension}"


@dataclass(frozen=True, kw_only=True)
class InputNames:
    """How the files of a source are named.

    Parameters
    ----------
    preset
        One of the namings in use, read without regard to case:

        ``legacy`` (used when nothing is given)
            ``mosaic_001_image_0041_spectral_0041.nii`` (``.raw`` for 12 bits),
            ``mosaic_001_image_0041_processed[_cropped].nii``, ``mosaic_001_image_0041_aip.nii``.
        ``cropped_focus``
            ``mosaic_001_image_0041_*cropped_focus*.nii``: complex, unless a word between
            underscores says ``spectral`` or names a product.
        ``macaque``
            ``spectral_0041.nii`` and ``processed_0041*.nii``, numbered continuously.
        ``bids``
            ``sub-{subject}_sample-slice{slice}_chunk-{image}_acq-{acq}_{modality}{extension}``.
    filename_pattern
        Template in place of a preset. ``{image}`` is required; ``{slice}``, ``{acq}``,
        ``{subject}``, ``{modality}`` and ``{extension}`` may appear once each. Numbers may have
        any padding. The whole name must match, with its case. Without an extension, the name
        may end in any of ``EXTENSIONS``.
    acquisition_mosaic_map
        Position in the slice of each label that ``{acq}`` may be.
    filename_modality_map
        Words of the source, each with the known word it stands for, such as ``rawscan:
        spectral``. They add to the known words and win over them: ``processed: dBI`` is for an
        acquisition program that saves processed volumes.
    filename_default_modality
        Word that is meant where ``filename_pattern`` has no ``{modality}``.
    mosaics_per_slice
        2 or 3.
    fixed_slice, fixed_position
        Fill in what the names lack; other names than these are not taken. See :meth:`only`.

    Raises
    ------
    ConfigError
        When the template or a map cannot be used.
    """

    preset: PresetName | None = None
    filename_pattern: str | None = None
    acquisition_mosaic_map: Mapping[str, int] = field(
        default_factory=lambda: {"normal0deg": 1, "tilted15deg": 2}, hash=False
    )
    filename_modality_map: Mapping[str, str] = field(default_factory=dict, hash=False)
    filename_default_modality: str = "spectral"
    mosaics_per_slice: int = 2
    fixed_slice: int | None = None
    fixed_position: int | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.filename_pattern is not None:
            raise ConfigError(
                f"preset {self.preset!r} and filename_pattern {self.filename_pattern!r}: give one "
                "of the two"
            )
        if self.preset is not None and self.preset not in get_args(PresetName):
            raise ConfigError(
                f"preset {self.preset!r}: expected one of {', '.join(get_args(PresetName))}, or "
                "a filename_pattern"
            )
        self._check_maps()
        self.resolve(self.fixed_slice, self.fixed_position)
        _ = self._patterns  # a template that cannot be used is to be known now

    # ------------------------------------------------------------------------------- questions
    @property
    def is_continuous(self) -> bool:
        """Whether the names tell neither mosaic nor slice, so that the image number runs on."""
        groups = {group for pattern in self._patterns for group in pattern.groupindex}
        return groups.isdisjoint({"mosaic", "slice", "acq"})

    @property
    def subfolders(self) -> tuple[str, ...]:
        """Where the files may lie, relative to the source folder."""
        preset = self._regular_preset
        return (".",) if preset is None else preset.subfolders

    def resolve(
        self,
        slice_: int | None = None,
        position: int | None = None,
        acquisition: str | None = None,
    ) -> tuple[int | None, int | None]:
        """Slice and position that a person asked for, checked.

        Parameters
        ----------
        slice_
            Slice of the source.
        position
            Position of the mosaic in its slice.
        acquisition
            The position by its label in ``acquisition_mosaic_map``.

        Raises
        ------
        ConfigError
            When a number is out of range, the label is unknown, or it is that of another
            position.
        """
        if slice_ is not None and slice_ < 1:
            raise ConfigError(f"slice {slice_}: slices are counted from 1")
        last = len(naming.acquisition_labels(self.mosaics_per_slice))
        if position is not None and not 1 <= position <= last:
            raise ConfigError(f"mosaic {position}: expected its position in the slice, 1 to {last}")
        if acquisition is None:
            return slice_, position
        labelled = self._labels.get(self._fold(acquisition))
        if labelled is None:
            raise ConfigError(
                f"acquisition {acquisition!r}: expected a label of acquisition_mosaic_map "
                f"({', '.join(self.acquisition_mosaic_map)})"
            )
        if position not in (None, labelled):
            raise ConfigError(
                f"mosaic {position} and acquisition {acquisition!r}, which is mosaic {labelled} "
                "of its slice: give one of the two"
            )
        return slice_, labelled

    def only(
        self,
        slice_: int | None = None,
        position: int | None = None,
        acquisition: str | None = None,
    ) -> "InputNames":
        """The same names, for one slice or one mosaic of a slice; see :meth:`resolve`.

        What the names say must then be this, and what they lack is filled in with it.
        """
        slice_, position = self.resolve(slice_, position, acquisition)
        return replace(self, fixed_slice=slice_, fixed_position=position)

    # --------------------------------------------------------------------------- parse, build
    def parse(self, name: str | PurePath) -> ParsedName | None:
        """Read a name; the folders of a path are not looked at.

        Returns
        -------
        ParsedName or None
            None when the name follows another pattern, has an unknown label, counts from 0, or
            is of another slice or position than the fixed one.
        """
        base = PurePath(name).name
        for pattern in self._patterns:
            match = pattern.fullmatch(base)
            meaning = self._meaning(match) if match else None
            if match and meaning:
                return self._parsed(match.groupdict(), meaning)
        return None

    def build(
        self,
        image: int,
        mosaic: int | None = None,
        *,
        kind: Kind = "spectral",
        modality: str | None = None,
        suffix: str = ".nii",
        subject: str = "sample",
    ) -> str:
        """Write the name of a file, as an acquisition program would.

        Parameters
        ----------
        image
            As in :class:`ParsedName`.
        mosaic
            Mosaic of the source. None where the names do not tell it.
        kind, modality, suffix
            As in :class:`ParsedName`.
        subject
            For ``{subject}``; it is not read back.

        Raises
        ------
        NamingError
            When such a name would not be read as what it is written for.
        """
        wanted = f"a name for image {image}, mosaic {mosaic}, {modality or kind}, {suffix}"
        values = {
            "image": f"{image:04d}",
            "modality": self._word((kind, modality)),
            "extension": suffix,
            "subject": subject,
        }
        if mosaic is not None:
            slice_, position = naming.slice_of_mosaic(mosaic, self.mosaics_per_slice)
            values["stem"] = naming.tile_stem(mosaic, image)
            values["slice"] = f"{slice_:03d}"
            labels = [key for key, at in self.acquisition_mosaic_map.items() if at == position]
            if labels:
                values["acq"] = labels[0]
        try:
            name = self._template(kind).format_map(values)
        except KeyError:
            raise NamingError(
                f"{wanted}: such a name tells the mosaic; give one, with a label for its position "
                f"in acquisition_mosaic_map {dict(self.acquisition_mosaic_map)}"
            ) from None
        read = self.parse(name)
        if read is None or (read.image, read.mosaic, read.kind, read.modality, read.suffix) != (
            image,
            mosaic,
            kind,
            modality,
            suffix,
        ):
            raise NamingError(f"{wanted}: {name!r} would be read as {read}")
        return name

    # ------------------------------------------------------------------------------ internals
    @property
    def _ignores_case(self) -> bool:
        return self.filename_pattern is None

    @property
    def _regular_preset(self) -> _Preset | None:
        """The preset that is no template."""
        return _PRESETS.get(self.preset or "legacy") if self._ignores_case else None

    @property
    def _file_template(self) -> str:
        return _BIDS if self.filename_pattern is None else self.filename_pattern

    def _fold(self, text: str) -> str:
        return text.lower() if self._ignores_case else text

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {self._fold(label): at for label, at in self.acquisition_mosaic_map.items()}

    @cached_property
    def _words(self) -> dict[str, Meaning]:
        own = {word: _WORDS[value] for word, value in self.filename_modality_map.items()}
        known = {self._fold(word): meaning for word, meaning in _WORDS.items()}
        return known | {self._fold(word): meaning for word, meaning in own.items()}

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        preset = self._regular_preset
        # ASCII, because without regard to case a Unicode "s" is also the long s.
        flags = re.ASCII | (re.IGNORECASE if self._ignores_case else re.NOFLAG)
        if preset is not None:
            return tuple(re.compile(pattern, flags) for pattern in preset.patterns)
        expression = _expression(self._file_template, acq=self._labels, modality=self._words)
        return (re.compile(expression, flags),)

    def _check_maps(self) -> None:
        last = len(naming.acquisition_labels(self.mosaics_per_slice))
        for label, position in self.acquisition_mosaic_map.items():
            if not label or type(position) is not int or not 1 <= position <= last:
                raise ConfigError(
                    f"acquisition_mosaic_map {label!r}: {position!r}: expected a label and the "
                    f"position of its mosaic in the slice, 1 to {last}"
                )
        if not self._labels or len(self._labels) < len(self.acquisition_mosaic_map):
            raise ConfigError(
                f"acquisition_mosaic_map {dict(self.acquisition_mosaic_map)}: expected labels "
                "that differ (presets are read without regard to case)"
            )
        for word, value in self.filename_modality_map.items():
            if not word or value not in _WORDS:
                raise ConfigError(
                    f"filename_modality_map {word!r}: {value!r}: expected a word and what it "
                    f"stands for, one of {', '.join(_WORDS)}"
                )
        if self._fold(self.filename_default_modality) not in self._words:
            raise ConfigError(
                f"filename_default_modality {self.filename_default_modality!r}: expected one of "
                f"{', '.join(self._words)}, or add it to filename_modality_map"
            )

    def _meaning(self, match: re.Match[str]) -> Meaning | None:
        groups = match.groupdict()
        if "modality" in groups:
            return self._words.get(self._fold(groups["modality"]))
        if "words" not in groups:
            return self._words[self._fold(self.filename_default_modality)]
        # A product is named after what it was made from: processed_cropped_focus_aip is an aip.
        words = [self._fold(word) for word in groups["words"].split("_")]
        told = [word for word in words if word in self._words and word != "processed"]
        return self._words[told[0] if told else "processed"]

    def _parsed(self, groups: dict[str, str], meaning: Meaning) -> ParsedName | None:
        numbers = {key: int(groups[key]) for key in ("image", "mosaic", "slice") if key in groups}
        if min(numbers.values()) < 1:
            return None
        slice_, position = numbers.get("slice"), None
        if "mosaic" in numbers:
            slice_, position = naming.slice_of_mosaic(numbers["mosaic"], self.mosaics_per_slice)
        if "acq" in groups:
            position = self._labels[self._fold(groups["acq"])]
        if _differ(slice_, self.fixed_slice) or _differ(position, self.fixed_position):
            return None
        slice_, position = slice_ or self.fixed_slice, position or self.fixed_position
        return ParsedName(
            kind=meaning[0],
            image=numbers["image"],
            slice=slice_,
            position=position,
            mosaic=naming.mosaic_of_slice(slice_, position, self.mosaics_per_slice)
            if slice_ and position
            else None,
            modality=meaning[1],
            suffix=self._fold(groups["extension"]),
        )

    def _word(self, meaning: Meaning) -> str:
        # The source's own words come first, and a word that was given another meaning is out.
        for word in (*self.filename_modality_map, *_WORDS):
            if self._words[self._fold(word)] == meaning:
                return word
        raise NamingError(f"{meaning[0]} {meaning[1]}: no word stands for it")

    def _template(self, kind: Kind) -> str:
        preset = self._regular_preset
        if preset is not None:
            return preset.templates[kind]
        open_ended = _extension_of(self._file_template) is None
        return self._file_template + ("{extension}" if open_ended else "")


# --------------------------------------------------------------------------------- templates
def _expression(template: str, acq: Iterable[str], modality: Iterable[str]) -> str:
    """Regular expression of a template, with the known labels and words spelled out."""
    values = {
        "image": "[0-9]+",
        "slice": "[0-9]+",
        "subject": r"[^/\\]+?",
        "acq": _one_of(acq),
        "modality": _one_of(modality),
        "extension": _one_of(EXTENSIONS),
    }
    parts = []
    for literal, name in _checked_fields(template):
        parts.append(re.escape(literal))
        if name is not None:
            parts.append(f"(?P<{name}>{values[name]})")
    extension = _extension_of(template)
    if extension is None:
        parts.append(f"(?P<extension>{values['extension']})")
    elif extension != "{extension}":
        parts[-1] = parts[-1].removesuffix(re.escape(extension))
        parts.append(f"(?P<extension>{re.escape(extension)})")
    return "".join(parts)


def _checked_fields(template: str) -> list[tuple[str, str | None]]:
    """Parts of a template: a literal and the placeholder after it."""
    where = f"filename_pattern {template!r}"
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    if "/" in template or "\\" in template:
        raise ConfigError(f"{where}: expected the name of a file, without folders")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; placeholders are {known}") from None
    seen: list[str] = []
    free = {"image", "slice", "subject"}
    before: str | None = None
    for literal, name, spec, conversion in parts:
        if name is not None:
            if name not in PLACEHOLDERS:
                raise ConfigError(f"{where}: unknown placeholder {{{name}}}; known are {known}")
            if name in seen:
                raise ConfigError(f"{where}: {{{name}}} is there twice, expected once")
            if spec or conversion:
                raise ConfigError(
                    f"{where}: {{{name}}} has a format; leave it out, any padding is read"
                )
            if before in free and name in free and not literal:
                raise ConfigError(
                    f"{where}: {{{before}}}{{{name}}} cannot be told apart; expected something "
                    "between them"
                )
            seen.append(name)
        before = name
    if "image" not in seen:
        raise ConfigError(f"{where}: no {{image}}; the number of the tile must be in its name")
    return [(literal, name) for literal, name, _, _ in parts]


def _extension_of(template: str) -> str | None:
    """``{extension}``, the extension that a template ends with, or None."""
    fields = [(literal, name) for literal, name, _, _ in Formatter().parse(template)]
    if any(name == "extension" for _, name in fields):
        return "{extension}"
    literal, name = fields[-1]
    # What follows a dot before a placeholder, as in scan.{image}, is no extension.
    match = re.search(r"(?:\.nii\.gz|\.[^.]+)$", literal) if name is None else None
    return match[0] if match else None


def _one_of(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))


def _differ(found: int | None, fixed: int | None) -> bool:
    return None not in (found, fixed) and found != fixed
