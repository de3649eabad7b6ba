"""A rule of Consul's access control, as a value: what a token must be allowed to do.

The generated policy, `lictor doctor` and `lictor explain` speak of the same rules, so that what one
of them finds missing is what another one prints. It knows no token and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Access: TypeAlias = Literal["read", "list", "write"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`resource "segment" { policy = "access" }`, as Consul's policies are written.

    `resource` is Consul's word, with `_prefix` where the segment is a prefix. `purpose` names what
    Lictor needs it for, in a few English words. Not `vital`: Lictor does its work without it, and
    shows less.
    """

    resource: str
    segment: str
    access: Access
    purpose: str
    vital: bool = True

    @property
    def hcl(self) -> str:
        """One line of a policy (developer.hashicorp.com/consul/docs/reference/acl/rule)."""
        return f'{self.resource} "{self.segment}" {{ policy = "{self.access}" }}'

    @property
    def kind(self) -> str:
        """The resource without `_prefix`: what Consul is asked about."""
        return self.resource.removesuffix("_prefix")
