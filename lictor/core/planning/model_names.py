"""What may stand where a model is chosen: an id of the Hugging Face hub, or what the owner allowed.

The id becomes an argument of a program that may fetch and even run what lies behind it, so it is
held to the hub's own rules (huggingface_hub, `validate_repo_id`) unless config.yml says otherwise
with `choices` or a `pattern`. Some things no pattern can allow: a way out of a folder, characters
that nobody can see, a beginning that a program would take for an option. Whether a value has the
type of its parameter is asked in `core.config.params`, not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamSpec

#: The parameter by which a service lets its model be chosen.
PARAM = "model"
#: The parameter by which the owner may let a model bring programs of its own; without it, none may.
TRUST = "trust_remote_code"

LONGEST = 96  # characters of each half of an id; the hub's own limit
_HALF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


def hub_id_problem(text: str) -> Reason | None:
    """Why `text` is no `org/name` of the hub; None: it is one."""
    halves = text.split("/")
    fits = len(halves) == 2 and all(
        _HALF.fullmatch(half) and len(half) <= LONGEST and ".." not in half and "--" not in half
        for half in halves
    )
    if fits and not text.endswith(".git"):
        return None
    return _no_hub_id(text)


def model_problem(spec: ParamSpec, value: object) -> Reason | None:
    """Why a service must not be given `value` as its model; None: it may be.

    `choices` and `pattern` of the parameter are the owner's word and take the place of the hub's
    rules; that the value fits them is for the caller to ask.
    """
    text = str(value)
    if not text.isprintable() or text != text.strip() or text.startswith("-"):
        return _no_hub_id(text)
    if ".." in text.split("/"):
        return because("model.way_out", got=_visible(text))
    if spec.choices or spec.pattern is not None:
        return None
    return hub_id_problem(text)


def _no_hub_id(text: str) -> Reason:
    return because("model.no_hub_id", limit=LONGEST, got=_visible(text))


def _visible(text: str) -> str:
    """As Python writes it: nothing in it is invisible, or does something to a terminal."""
    return repr(text[:60])[1:-1]


def offers_choice(params: Mapping[str, ParamSpec]) -> bool:
    """Whether a service with these parameters lets its model be chosen (by text, as ids are)."""
    return PARAM in params and isinstance(params[PARAM].default, str)
