"""Plain data to YAML text, for `-o yaml` and `config show`.

It is here because YAML has one door, this package; the command line asks for it by name and only
when somebody wants YAML. It never reads YAML and never writes a file.
"""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes every value out: an alias (`*id001`) would only puzzle whoever reads the text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value, however often it occurs."""
        del data
        return True


def to_yaml(data: Any) -> str:
    """YAML of dicts, lists and scalars, in their own order, with Unicode as it is."""
    return yaml.dump(
        data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=False
    )
