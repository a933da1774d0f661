"""The plan of a project as a picture: what is done, what runs, what waits and for what."""

from pathlib import Path

from opticstream_smk.dag.graph import Graph, Node, State, restrict_to_slice, snakemake_graph
from opticstream_smk.dag.plan import plan_jobs
from opticstream_smk.errors import ConfigError

__all__ = [
    "Graph",
    "Node",
    "State",
    "check_suffix",
    "plan_jobs",
    "restrict_to_slice",
    "snakemake_graph",
    "write_dag",
]

SUFFIXES = (".svg", ".png", ".mmd")


def check_suffix(path: Path) -> str:
    """The format that a file name asks for; ConfigError when it is none of `SUFFIXES`."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: cannot draw a picture in the format {suffix or '(no suffix)'!r}. "
            f"Name a file that ends with one of {', '.join(SUFFIXES)}."
        )
    return suffix


def write_dag(graph: Graph, path: Path, title: str = "Jobs and their state") -> None:
    """Write the picture of a graph; the suffix of ``path`` tells the format.

    Parameters
    ----------
    graph
        From `snakemake_graph`, or made by hand.
    path
        ``.svg`` (with a tooltip per box), ``.png`` or ``.mmd`` (mermaid). Replaced atomically; its
        folder is made.
    title
        One line above the picture.

    Raises
    ------
    ConfigError
        Another suffix.
    ServiceError
        The file cannot be written.
    """
    # Imported here: the command line shows its help without loading Pillow.
    from opticstream_smk.dag.layout import arrange
    from opticstream_smk.dag.mermaid import draw_mermaid
    from opticstream_smk.dag.png import draw_png
    from opticstream_smk.dag.svg import draw_svg
    from opticstream_smk.io.atomic import write_bytes

    suffix = check_suffix(path)
    if suffix == ".svg":
        content = draw_svg(arrange(graph, title)).encode()
    elif suffix == ".png":
        content = draw_png(arrange(graph, title))
    else:
        content = draw_mermaid(graph, title).encode(errors="replace")
    write_bytes(path, content)
