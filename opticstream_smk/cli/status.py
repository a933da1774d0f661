"""``optic-trigger status``: progress and failures, with the command to type."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when something failed."""
    from opticstream_smk.report.look import Look
    from opticstream_smk.report.progress import project_report
    from opticstream_smk.report.text import status_lines

    report = project_report(Look(given_config(arguments)))
    exit_code = 3 if report.failures else 0
    if arguments.format == "json":
        print_json({**report.as_json(), "exit_code": exit_code})
    else:
        for line in status_lines(report):
            print(line)
    return exit_code
