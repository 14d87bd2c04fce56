"""Characters that nobody sees on a screen, and that neither a name nor a path is meant to hold."""

import re

# Control characters, line separators, a space of no width, a byte order mark inside a text, and
# halves of characters. A tab is not among them.
find_unseen = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff]"
).search


def unseen_character(text: str) -> str:
    """Return the first character of a text that cannot be seen, as U+000B; empty if there is none."""
    found = find_unseen(text)
    return f"U+{ord(found[0]):04X}" if found else ""
