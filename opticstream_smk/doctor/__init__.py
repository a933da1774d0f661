"""Does everything in a project fit together? Flags, products, receipts, names, leftovers."""

from collections.abc import Iterator
from dataclasses import replace

from opticstream_smk.config import Config
from opticstream_smk.doctor.files import file_findings
from opticstream_smk.doctor.finding import Finding
from opticstream_smk.doctor.flags import flag_findings
from opticstream_smk.plan import Plan, project_state
from opticstream_smk.state.psoct import OctProjectState

__all__ = ["Finding", "examine"]


def examine(config: Config, *, fix: bool = False) -> list[Finding]:
    """Check every flag of a project.

    Parameters
    ----------
    fix
        Withdraw every flag that is not true, with all downstream of it, so that snakemake makes
        the products again; correct names and remove what dead processes left. Flags whose stage is
        running are left alone.
    """
    state = project_state(config)
    if not fix:
        return state.store.peek(state.layout, lambda project: list(_findings(config, project)))
    with state.open_project() as project:
        findings = list(_findings(config, project))
        for finding in findings:
            if finding.withdraw:
                place, name = finding.withdraw
                project.node(place).withdraw(name)
            elif finding.mend:
                finding.mend()
        return [
            replace(finding, fixed=bool(finding.withdraw or finding.mend)) for finding in findings
        ]


def _findings(config: Config, project: OctProjectState) -> Iterator[Finding]:
    plan = Plan(config, project.layout)
    yield from file_findings(project)
    yield from flag_findings(config, plan, project)
