from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.draft import Draft, Drop
from data_prep.errors import PrepError
from data_prep.stages.licence import licence_gate
from data_prep.vocabulary.licences import FAMILIES, allows, family_of, normalise, strictest
from medvlp.shards import Sample

WORDINGS = [
    # The codes of PMC's lists and metadata, and of other catalogues.
    ("CC BY", "CC-BY"),
    ("CC BY-NC", "CC-BY-NC"),
    ("CC BY-NC-ND", "CC-BY-NC-ND"),
    ("CC BY-NC-SA", "CC-BY-NC-SA"),
    ("CC BY-ND", "CC-BY-ND"),
    ("CC BY-SA", "CC-BY-SA"),
    ("CC0", "CC0-1.0"),
    ("NO-CC CODE", "NO-CC"),
    ("TDM", "NO-CC"),
    ("CC-BY-4.0", "CC-BY-4.0"),
    ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
    ("CC0-1.0", "CC0-1.0"),
    ("cc_by_nc_nd", "CC-BY-NC-ND"),
    ("CC BY 2.0 UK", "CC-BY-2.0"),
    ("CCBY", "CC-BY"),
    ("CC BY–NC 3.0", "CC-BY-NC-3.0"),
    ("CC‑BY‑NC", "CC-BY-NC"),
    ("PDM-1.0", "PDM-1.0"),
    ("Public Domain", "PDM-1.0"),
    ("mit", "MIT"),
    ("Apache-2.0", "Apache-2.0"),
    ("LicenseRef-Hospital-7", "LicenseRef-Hospital-7"),
    # Addresses.
    ("http://creativecommons.org/licenses/by/2.0", "CC-BY-2.0"),
    ("https://creativecommons.org/licenses/by-nc-nd/4.0/", "CC-BY-NC-ND-4.0"),
    ("https://creativecommons.org/licenses/by-nc/2.0/uk/", "CC-BY-NC-2.0"),
    ("https://creativecommons.org/licenses/by/3.0/igo/legalcode", "CC-BY-3.0"),
    ("https://creativecommons.org/licenses/by-sa/", "CC-BY-SA"),
    ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
    ("http://creativecommons.org/publicdomain/mark/1.0/", "PDM-1.0"),
    # Prose of journals.
    ("This is an open-access article distributed under the Creative Commons Attribution License, which ...", "CC-BY"),
    ("under the terms of the Creative Commons Attribution 4.0 International License", "CC-BY-4.0"),
    ("the Creative Commons Attribution License 3.0 (Unported)", "CC-BY-3.0"),
    (
        "the Creative Commons Attribution Non-Commercial License (http://creativecommons.org/licenses/by-nc/3.0), "
        "which permits unrestricted non-commercial use",
        "CC-BY-NC-3.0",
    ),
    ("Creative Commons Attribution-NonCommercial-NoDerivs License", "CC-BY-NC-ND"),
    ("Creative Commons Attribution–NonCommercial (Unported, v3.0) License", "CC-BY-NC-3.0"),
    ("Creative Commons Attribution Noncommercial Share Alike 3.0 license", "CC-BY-NC-SA-3.0"),
    ("Creative Commons License Attribution Non Commercial-No Derivatives 4.0", "CC-BY-NC-ND-4.0"),
    ("Creative\n   Commons  Attribution\u00a0License", "CC-BY"),
    ("Attribution-NonCommercial 4.0 International", "CC-BY-NC-4.0"),
    ("Attribution 4.0 International (CC BY 4.0)", "CC-BY-4.0"),
    ("Creative Commons Zero", "CC0-1.0"),
    ("Creative Commons CC BY license", "CC-BY"),
    # The traps: data under CC0 in an article under CC BY, two licences at once, and refusals.
    (
        "distributed under the terms of the Creative Commons Attribution License "
        "(http://creativecommons.org/licenses/by/4.0). The Creative Commons Public Domain Dedication waiver "
        "(http://creativecommons.org/publicdomain/zero/1.0/) applies to the data made available",
        "CC-BY-4.0",
    ),
    ("CC BY 4.0 for the text, CC BY-NC 4.0 for the images", "CC-BY-NC-4.0"),
    ("Creative Commons Attribution Non-Commercial ... CC BY", "CC-BY-NC"),
    ("This work is not in the public domain", "unknown"),
    ("© 2019 The Society. All rights reserved.", "NO-CC"),
    ("This article is open access.", "unknown"),
    ("with proper attribution", "unknown"),
    ("", "unknown"),
    ("unknown", "unknown"),
    ("other", "unknown"),
]


@pytest.mark.parametrize(("wording", "licence"), WORDINGS)
def test_normalise(wording, licence):
    assert normalise(wording) == licence
    assert normalise(licence) == licence


@given(st.text() | st.sampled_from([wording for wording, _ in WORDINGS]).flatmap(lambda w: st.just(w.upper() + " ")))
def test_an_id_is_its_own_id(wording):
    assert normalise(normalise(wording)) == normalise(wording)


def test_a_wording_without_end_takes_no_time():
    assert normalise("creative commons " + "and - , " * 10**6) == "unknown"
    assert normalise("no deriv" * 10**6) == "unknown"


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["CC-BY", "CC-BY-4.0"], "CC-BY-4.0"),
        (["CC-BY-4.0", "CC-BY-NC"], "CC-BY-NC"),
        (["unknown", "CC0-1.0"], "CC0-1.0"),
        (["CC-BY-NC-ND-4.0", "NO-CC"], "NO-CC"),
        (["MIT", "CC-BY-4.0"], "MIT"),
        (["CC-BY-2.0", "CC-BY-3.0"], "CC-BY-2.0"),
        (["unknown"], "unknown"),
    ],
)
def test_strictest(licences, expected):
    assert strictest(licences) == expected


@pytest.mark.parametrize(
    ("allow", "licence", "expected"),
    [
        (["CC-BY"], "CC-BY", True),
        (["CC-BY"], "CC-BY-2.0", True),
        (["CC-BY"], "CC-BY-NC-2.0", False),
        (["CC-BY"], "CC-BY-SA-4.0", False),
        (["CC-BY-4.0"], "CC-BY-3.0", False),
        (["CC-BY-4.0"], "CC-BY", False),
        (["CC0", "CC-BY"], "CC0-1.0", True),
        (["CC0"], "PDM-1.0", False),
        (["PDM"], "PDM-1.0", True),
        (["cc by-sa"], "CC-BY-SA-3.0", True),
        (["NO-CC"], "NO-CC", True),
        (["MIT"], "MIT", True),
    ],
)
def test_allows(allow, licence, expected):
    assert allows(allow, licence) is expected


@given(st.sampled_from(FAMILIES[:-1]), st.sampled_from(FAMILIES[:-1]), st.sampled_from(["", "-2.0", "-4.0"]))
def test_a_family_admits_itself_alone(allowed, family, version):
    licence = normalise(family + version)
    assert allows([allowed], licence) == (allowed == family) == (allowed == family_of(licence))


def gate(licence, allow, retracted=False, **parameters):
    draft = Draft(Sample("k", metadata={"licence": licence, "article": "PMC1", "retracted": retracted}))
    try:
        result = licence_gate(draft, allow, **parameters)
    except Drop as drop:
        return drop.stage, drop.reason, drop.detail, draft.counts
    assert result is draft
    return draft.counts


def test_what_the_gate_lets_through():
    assert gate("CC BY", ["CC-BY"]) == Counter({("licence_gate", "kept: CC-BY"): 1})
    assert gate("CC-BY-NC-4.0", []) == Counter({("licence_gate", "kept: CC-BY-NC-4.0"): 1})
    assert gate("unknown", []) == Counter({("licence_gate", "kept: unknown"): 1})
    assert gate("CC0", [], retracted=True, allow_retracted=True) == Counter({("licence_gate", "kept: CC0-1.0"): 1})
    assert gate("LicenseRef-a-name", []) == Counter({("licence_gate", "kept: LicenseRef"): 1})


def test_what_the_gate_drops():
    assert gate("CC-BY-NC-3.0", ["CC0", "CC-BY"]) == (
        "licence_gate",
        "licence_not_allowed",
        "CC-BY-NC-3.0; allowed are CC0, CC-BY",
        Counter({("licence_gate", "not allowed: CC-BY-NC-3.0"): 1}),
    )
    assert gate("some terms", ["CC-BY"])[:2] == ("licence_gate", "licence_unknown")
    assert gate("CC-BY-4.0", ["CC-BY"], retracted=True)[:3] == (
        "licence_gate",
        "retracted",
        "the article PMC1 is retracted",
    )
    assert gate("CC-BY-NC-3.0", [], retracted=True)[1] == "retracted"


def test_a_slip_in_the_policy():
    with pytest.raises(PrepError, match="licence 'CCC-BY' in licences is not known"):
        gate("CC-BY", ["CCC-BY"])
