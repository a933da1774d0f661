"""``optic-trigger explain``: why a batch, a mosaic or a slice is (not) moving."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument("--slice", type=int, metavar="S", help="a slice")
    parser.add_argument("--mosaic", type=int, metavar="M", help="a mosaic")
    parser.add_argument("--batch", type=int, metavar="B", help="a batch of --mosaic")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.errors import ConfigError, NamingError
    from opticstream_smk.report.explain import explain, explain_lines

    try:
        explanation = explain(
            given_config(arguments),
            slice_=arguments.slice,
            mosaic=arguments.mosaic,
            batch=arguments.batch,
        )
    except NamingError as error:
        raise ConfigError(str(error)) from error
    if arguments.format == "json":
        print_json(explanation.as_json())
    else:
        for line in explain_lines(explanation):
            print(line)
    return 0
