"""The configuration of a project: one YAML file, one pydantic model per section."""

from opticstream_smk.config.load import find_config, load_config
from opticstream_smk.config.model import Config

__all__ = ["Config", "find_config", "load_config"]
