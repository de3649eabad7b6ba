"""What is wrong with a command line, in the person's language.

click words its complaints itself, in English. They are known by their words here, because for most of
them it has no kind of its own; one that nobody knows is shown as it came. A name of a service is
judged in `core.model.names`, which says why in English as well.
"""

from __future__ import annotations

import re

import click

from lictor.cli.words import language, say

#: Words that we do not make ourselves, and the text that says the same. The names are its parameters.
_WORDS = {
    r"a name cannot be empty": "usage.name_empty",
    r"'(?P<value>.*)' is longer than the 63 characters that DNS allows": "usage.name_long",
    r"'(?P<value>.*)' is not a DNS name: use letters a-z, digits and inner hyphens": "usage.name",
    r"'(?P<value>.*)' is not one of (?P<choices>'.*')\.": "usage.choice",
    r"'(?P<value>.*)' is not a valid integer(?: range)?\.": "usage.whole_number",
    r"'(?P<value>.*)' is not a valid float\.": "usage.number",
    r"(?P<value>\S+) is not in the range (?P<range>.*)\.": "usage.range",
    r"Got unexpected extra arguments? \((?P<words>.*)\)": "usage.extra",
    r"Option '(?P<option>.*)' requires an argument\.": "usage.option_needs_value",
    r"Option '(?P<option>.*)' does not take a value\.": "usage.option_takes_none",
}


def usage_text(error: click.UsageError) -> str:
    """The complaint of click in the person's language, for the kinds that people meet."""
    if isinstance(error, click.NoSuchOption):
        near = ", ".join(error.possibilities or ())
        key = "usage.no_option_near" if near else "usage.no_option"
        return say(key, option=error.option_name, near=near)
    if isinstance(error, click.MissingParameter):
        if error.param is None:
            return error.format_message()
        return say("usage.missing", what=error.param.human_readable_name)
    if language() == "en":
        return error.format_message()
    if isinstance(error, click.BadParameter) and error.param is not None:
        what = error.param.get_error_hint(error.ctx)
        return say("usage.bad_value", what=what, why=translated(error.message))
    return translated(error.format_message())


def translated(text: str) -> str:
    """One of the texts above in the person's language; any other, and any in English, as it is."""
    if language() == "en":
        return text
    for words, key in _WORDS.items():
        found = re.fullmatch(words, text, re.DOTALL)
        if found is not None:
            return say(key, **found.groupdict())
    return text
