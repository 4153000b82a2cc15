"""Makes untrusted text safe to read, as static/format.js does for the live view. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

_NAMED = re.compile(
    "[\u0080-\u009f\u00ad\u115f\u1160\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_LOOK_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
_CONTROLS = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}


def shown(text: str, *, lines: bool = False) -> str:
    """Return text with invisible and direction-changing characters replaced by their names.

    In a text of blanks only, every character is named. With ``lines``, line breaks and tabs are
    kept.
    """
    if text and all(_is_blank(c) for c in text):
        return "".join(map(_name, text))
    controls = _CONTROLS
    if lines:
        controls = {code: sign for code, sign in controls.items() if chr(code) not in "\n\t"}
    return _NAMED.sub(lambda match: _name(match[0]), text.translate(controls))


def moment(time: datetime) -> str:
    """Return a time in UTC, to the millisecond."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d}"


def number(value: int) -> str:
    """Return a number with thousands separators."""
    return f"{value:,}"


def _is_blank(character: str) -> bool:
    return unicodedata.category(character)[0] in "ZCM" or character in _LOOK_BLANK


def _name(character: str) -> str:
    return f"[U+{ord(character):04X}]"
