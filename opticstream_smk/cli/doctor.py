"""``optic-trigger doctor``: find and repair what does not fit together."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument(
        "--fix",
        action="store_true",
        help="withdraw flags that are not true; snakemake then makes the products again",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when something remains."""
    from opticstream_smk.doctor import examine

    findings = examine(given_config(arguments), fix=arguments.fix)
    remaining = [finding for finding in findings if finding.remains]
    exit_code = 3 if remaining else 0
    if arguments.format == "json":
        listed = [finding.as_json() for finding in findings]
        print_json({"findings": listed, "exit_code": exit_code})
        return exit_code
    for finding in findings:
        print(f"{finding.verdict:<9} {finding.where}: {finding.problem}. {finding.remedy}")
    fixed = sum(finding.fixed for finding in findings)
    print(f"{len(findings)} findings, {fixed} repaired, {len(remaining)} remaining")
    if fixed:
        print("next: snakemake --profile zircon")
    return exit_code
