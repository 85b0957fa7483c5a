"""Addresses of licence texts, by licence id."""

import re

_CREATIVE_COMMONS = re.compile(r"CC-(BY(?:-NC)?(?:-SA|-ND)?)-(\d\.\d)")
_PUBLIC_DOMAIN = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "PDM-1.0": "https://creativecommons.org/publicdomain/mark/1.0/",
}
_SPDX_IDS = re.compile(
    r"MIT|Apache-2\.0|BSD-[23]-Clause|A?GPL-[23]\.0-only|ODbL-1\.0|ODC-By-1\.0|PDDL-1\.0|CDLA-Permissive-2\.0"
    r"|CDLA-Sharing-1\.0|OGL-UK-3\.0"
)
_ON_THE_HUB = {"CC0-1.0": "cc0-1.0", "MIT": "mit", "Apache-2.0": "apache-2.0", "PDDL-1.0": "pddl", "ODbL-1.0": "odbl"}


def licence_address(licence: str) -> str:
    """The address of a licence's text; empty where its id does not say which text that is: CC-BY has five versions."""
    if match := _CREATIVE_COMMONS.fullmatch(licence):
        return f"https://creativecommons.org/licenses/{match[1].lower()}/{match[2]}/"
    if _SPDX_IDS.fullmatch(licence):
        return f"https://spdx.org/licenses/{licence}.html"
    return _PUBLIC_DOMAIN.get(licence, "")


def hub_licence(licence: str) -> str:
    """The name that model and data hubs have for a licence; `other` where they have none."""
    if _CREATIVE_COMMONS.fullmatch(licence):
        return licence.lower()
    if licence in ("unknown", "not stated"):
        return "unknown"
    return _ON_THE_HUB.get(licence, "other")
