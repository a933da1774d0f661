"""What the doctor finds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from opticstream_smk.state.places import Place


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes
    ----------
    withdraw
        The flag that is not true, when withdrawing it mends the finding.
    mend
        Mends the finding otherwise.
    fixed
        Whether it was mended.
    advisory
        Nothing is wrong with the products; people may want to know.
    """

    where: str
    problem: str
    remedy: str
    withdraw: tuple[Place, str] | None = None
    mend: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    fixed: bool = False
    advisory: bool = False

    @property
    def remains(self) -> bool:
        """Whether it still has to be mended."""
        return not self.fixed and not self.advisory

    @property
    def verdict(self) -> str:
        """One word for the list."""
        if self.fixed:
            return "withdrawn" if self.withdraw else "mended"
        return "note" if self.advisory else "PROBLEM"

    def as_json(self) -> dict[str, str | bool]:
        """The finding for programs."""
        return {
            "where": self.where,
            "problem": self.problem,
            "remedy": self.remedy,
            "verdict": self.verdict,
        }
