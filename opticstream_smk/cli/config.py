"""``optic-trigger config``: check, default, schema."""

import argparse

from opticstream_smk.cli.options import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="check a configuration; says what is wrong")
    add_config(check)
    actions.add_parser("default", help="print every key with its default and meaning")
    actions.add_parser("schema", help="print the JSON schema, for editors")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.config import find_config, generate, load_config
    from opticstream_smk.config.matlab import notes

    if arguments.action == "default":
        print(generate.default_yaml(), end="")
    elif arguments.action == "schema":
        print(generate.schema_json(), end="")
    else:
        path = find_config(arguments.config)
        config = load_config(path)
        print(f"{path}: fine (project {config.project.name} in {config.project.dir})")
        for note in notes(config.processing, config.acquisition):
            print(f"note: {note}")
    return 0
