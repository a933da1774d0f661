"""``optic-trigger init``: a configuration to start from."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--raw", type=Path, required=True, metavar="DIR", help="folder with raw tiles"
    )
    parser.add_argument(
        "--project", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("config/project.yaml"),
        metavar="FILE",
        help="configuration to write; an existing one is never overwritten",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import yaml

    from opticstream_smk.config.generate import commented_yaml
    from opticstream_smk.config.load import check_config
    from opticstream_smk.errors import ConfigError
    from opticstream_smk.io.atomic import write_bytes
    from opticstream_smk.trigger.propose import propose

    if arguments.output.exists():
        raise ConfigError(f"{arguments.output} exists; move it away or choose another --output")
    raw, project = arguments.raw.absolute(), arguments.project.absolute()
    proposal = propose(raw, project)
    head = [
        f"# Proposed by `optic-trigger init` from the files in {raw}.",
        "# Look at every line marked CHECK; `optic-trigger config default` lists all settings.",
    ]
    text = commented_yaml(proposal.values, head, proposal.notes)

    check_config(yaml.safe_load(text), arguments.output)
    write_bytes(arguments.output, text.encode())
    print(f"{arguments.output} written")
    for note in proposal.notes.values():
        if note.startswith("CHECK"):
            print(f"  {note}")
    print("next: optic-trigger config check, then optic-trigger scan")
    return 0
