"""The errors of the project: what happened, where, and what to do about it."""


class OpticStreamError(Exception):
    """A problem that a person can act on.

    The message names the value and the file, what was expected, and the remedy.
    """

    exit_code: int = 3
    kind: str = "data"


class ConfigError(OpticStreamError):
    """The configuration or the command line is wrong."""

    exit_code = 2
    kind = "config"


class NamingError(OpticStreamError, ValueError):
    """A name does not follow the naming scheme, or an id is out of range."""


class IncompleteInputError(OpticStreamError):
    """Something that is needed is not there (yet)."""


class CorruptInputError(OpticStreamError):
    """A file is there and cannot be used: truncated, unreadable, of another shape."""


class QualityError(OpticStreamError):
    """A product was computed and must not be trusted."""


class ServiceError(OpticStreamError):
    """Something outside this project failed: disk, scheduler, archive, network."""

    exit_code = 4
    kind = "service"


class ResourceError(OpticStreamError):
    """Memory ran out, or a program was killed."""

    exit_code = 4
    kind = "resource"
