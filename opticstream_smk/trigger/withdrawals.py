"""Whether flags were withdrawn: what was taken for finished must then be looked at again."""

from opticstream_smk.layout import ProjectLayout


class Withdrawals:
    """Notices withdrawals by one stat: each leaves a folder in ``state/withdrawn``."""

    def __init__(self, layout: ProjectLayout) -> None:
        self._folder = layout.withdrawn
        self._changed_at = self._stamp()

    def happened(self) -> bool:
        """Whether flags were withdrawn since the last call."""
        before, self._changed_at = self._changed_at, self._stamp()
        return self._changed_at != before

    def _stamp(self) -> int | None:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return None
