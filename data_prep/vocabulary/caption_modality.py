"""Modality by caption: words that name the kind of image, and words of its findings.

A word that names a modality decides; only if there is none, words of its findings do ("hypodense", "T2-weighted",
"anechoic"). Of several named ones, the first: captions name the image first and what it is compared with later; but
joined words such as PET/CT are both. Words that only resemble a name are removed before (X-ray diffraction, US Navy).
"""

from __future__ import annotations

import re

_NO_NAMES = re.compile(
    r"(?i:x-?ray (?:diffract|crystal|scatter|photoelectron|structur|fluoresc|absorption|spectr|microanaly|film "
    r"dosimetr)\w*)"
    r"|(?i:\bCT (?:values?|ratio)\b)|\bUS (?:Navy|Army|Food|FDA|Department|population|states?|dollars?|National"
    r"|patients|census|Geological)\b"
    r"|(?i:(?:no|without|before|after|prior to|following|subsequent|underwent|requested|recommended) (?:a |an |the )?"
    r"(?:\w+ )?(?:CT|MRI|ultrasound|angiograph[yi]\w*|endoscopy|biopsy)(?= (?:was|is|were|had|has)\b))"
    r"|(?i:radiograph(?:ic|ically)?[- ]patholog\w*)|(?i:radiographic(?:ally)? (?:union|findings? (?:of|on) (?:CT"
    r"|MR))\w*)"
)

# Captions hold the hyphens of typesetting.
_HYPHENS = re.compile(r"[-\u2010-\u2015\u2212]+")

_COMPUTED = r"(?:comput(?:ed|er|erized|erised|eriz?ed|arized)[ -]?(?:axial |assisted |aided )?tomogra|tomodensitom)\w*"
NAMES: dict[str, str] = {
    # MRI and CT stand before angiography: CT angiography is CT.
    "PET": r"\b(?:F?DG[- ]?|18F-?\w*[- ]?)?PET\b|(?i:positron[ -]emission)|(?i:\bFDG\b)",
    "SPECT": (
        r"\bSPECT\b|(?i:single[ -]photon emission)|(?i:scintigra\w+|bone scan\b|(?:MIBG|technetium|99m ?Tc|Tc-?99m"
        r"|thallium|gallium|sestamibi)[\w ]{0,25}(?:scan|scintigra|imag)\w*)"
    ),
    "CT": (
        rf"(?i:{_COMPUTED}|computeri[sz]ed \w+ tomogra\w+|computed angiogra\w+)|\b(?:micro-?|μ|µ|cone[- ]?beam "
        rf"|spiral |helical )?(?:HR|CE|MD|CB|NC|MS|DE|LD|Q|C|AP|A|U|P)?CT(?:A|P|C|PA|AP|U|V|CA|PV|AP|KUB|A/P)?s?\b"
        r"|(?i:\bcone[- ]beam\b|\bCT[- ]?scan\w*|\bcat scan)"
    ),
    "MRI": (
        r"\b(?:f|fc|c|d|rs-?f|mp|DW-?|CE-?|DCE-?|hr|t)?MRI?s?\b(?! ?(?:regurg|severity))|\b(?:MRA|MRCP|MRV|MRS|MRU"
        r"|MRE|CMR|CMRI|DWI|FLAIR|DTI|MRM)\b|(?i:magnetic[ -]+resonance|nuclear magnetic|\bdiffusion[- ](?:weighted"
        r"|tensor)|\btractograph\w+)"
        r"|\bT[12] ?[*-]?(?:[- ]?w(?:eighted|I)?|W)\b|(?i:\bT[12][ -]*weighted)|\bT[12]WI\b"
    ),
    "mammography": r"(?i:\bmammogra\w+|tomosynthesis|craniocaudal view|mediolateral oblique)",
    "OCT": r"\b(?:SD-?|SS-?|AS-?|EDI-?|HD-?)?OCT\b|(?i:optical coherence tomogra\w+)",
    "ultrasound": (
        r"(?i:(?:endoscopic |endobronchial |intravascular )?ultraso(?:und|nogra|nic)\w*|\bsonogra\w*|\bechocardio\w*"
        r"|\bechogra\w*|sono(?:\w{0,8})gra(?:m|ph)\w*|\bdoppler|\bduplex|\bm-mode|\bB-mode|\belastogra\w+)"
        r"|\b(?:EUS|IVUS|CEUS|TVUS|TVS|TRUS|POCUS|EBUS|TTE|TEE|TOE|USG|HHUS|ABUS)\b|\bUS\b(?= "
        r"(?:scan|imag|exam|guid|show|of|demonst|reveal|in|study|view|with|probe|prior|at|find|appear)|[.:,)]|$)|"
        r"(?i:\b(?:transthoracic|transesophageal|transoesophageal|endo-?bronchial|2D|3D|4D) echo\b)"
    ),
    "angiography": (
        r"(?i:\bangio(?:gra\w*|plasty)\b|(?:arterio|aorto|veno|phlebo|ventriculo|porto|cavo|lymphangio|coronario"
        r"|fistulo)gra(?:m|ms|phy|phic)\b|digital subtraction|\bcardiac cath\w*|catheteri[sz]ation|\bemboli[sz]ation"
        r"|\bcoil(?:ing|ed)\b|(?:endoscopic retrograde )?cholangio(?:pancreato)?gra\w+|\bstent(?:ing)? (?:deploy|plac"
        r"|implant)\w*)"
        r"|\b(?:DSA|ERCP|PTCA|PCI|ICA angiogra\w+|CAG|EVAR|TACE|RVG)\b"
    ),
    "X-ray": (
        r"(?i:\bfluorosco\w*|\bx-? ?rays?\b|radiogra(?:ph|m|f)\w*|\broentgen\w*|\bröntgen\w*|orthopantomo\w*"
        r"|\bpanoramic\b|\bperiapical\b|bite-?wing|\bcephalo(?:gram|metric)\w*|plain film|\bskiagra\w+|\bbarium|"
        r"\bo?esophago?gra\w+|\bcologra\w+|\binvertogra\w+|\bloopogra\w+|cystogra\w+|urethrogra\w+|\burogra\w+"
        r"|pyelogra\w+|\bhysterosalpingogra\w+|\bdefecogra\w+|\bmyelogra\w+|\bchest film|\babdominal film"
        r"|\bcolonogra\w+|upper GI|"
        r"small bowel follow|contrast (?:enema|swallow|study)|gastrografin|\bsialogra\w+|\barthrogra\w+|\bsinogra\w+"
        r"|\bfistulogra\w+|\bscanogra\w+|scout (?:view|film|image)|\bdensitomet\w+)|\b(?:CXR|AXR|KUB|OPG|OPT|VCUG"
        r"|MCUG|IVP|IVU|HSG|DEXA|DXA|IOPA)\b"
    ),
    "fundus": (
        r"(?i:\bfundus (?:photo|imag|autofluo|exam|pictur)\w*|\bfundosc\w+|\bfluorescein angio\w+|\bretinal photo\w*"
        r"|\bcolou?r fundus\b)"
    ),
    "dermoscopy": r"(?i:\bdermosco\w+|\bdermatosco\w+)",
    "endoscopy": (
        r"(?i:\bendoscop(?:y|ic\w*)|\bcolonosco\w+|\bgastrosco\w+|\bbronchosco\w+|\bcystosco\w+|\blaparosco\w+"
        r"|\barthrosco\w+|\bhysterosco\w+|\blaryngosco\w+|\botosco\w+|\bsigmoidosco\w+|\bthoracosco\w+|\bEGD\b"
        r"|\bcapsule endo\w+|\bureterosco\w+|\bduodenosco\w+)"
    ),
    "microscopy": (
        r"(?i:\bhistolog\w+|\bhistopatho\w+|\bphotomicrogra\w+|\bmicrogra\w+|\bimmuno(?:histochem|fluoresc|stain"
        r"|cyto)\w*|\bmicroscop(?:y|ic (?:image|view|exam|find|sect|appear)\w*)|\bcytolog\w+|\b(?:hematoxylin"
        r"|haematoxylin|eosin)\b|\bstain(?:ed|ing)\b|original magnification|\bpatholog\w+ (?:section|specimen|image"
        r"|slide)\w*)"
        r"|\bH ?& ?E\b|\bHE stain|\b(?:SEM|TEM) (?:image|micro)\w*|\bscale bars?\b|\bScale bars?\b|\bDAPI\b|\bGFP\b"
    ),
    "ECG": r"(?i:\belectrocardiogra\w+|\brhythm strip|\b12[- ]lead)|\b(?:ECG|EKG)s?\b",
    "EEG": r"(?i:\belectroencephalogra\w+)|\b(?:EEG|iEEG|aEEG)\b",
    "graph": (
        r"(?i:\bkaplan[- ]meier|\bflow ?chart|\bscatter ?plot|\bbox ?plot|\bhistogram|\bbar (?:graph|chart)|\bROC "
        r"curve|\bforest plot|\berror bars?\b|\bdendrogram|\bphylogenetic|\bflow diagram|\bschematic\w*|\bdiagram\b)"
    ),
}
"""Modality → the words that name it."""

FINDINGS: dict[str, str] = {
    "CT": (
        r"(?i:\bhypodens\w+|\bhyperdens\w+|\bhounsfield|\bisodens\w+|\bground[- ]glass|\b(?:lung|bone|mediastinal"
        r"|soft tissue) window|\bhypoattenuat\w+|\bhyperattenuat\w+|\bfat stranding|\bmultiplanar|\bnon-?contrast)"
        r"|\bHU\b"
    ),
    "MRI": (
        r"(?i:\bhyper-?intens\w+|\bhypo-?intens\w+|\biso-?intens\w+|\bgadolinium|\bsignal (?:intensity|change|void)"
        r"|\bfat[- ](?:sat|suppress)\w*|\bspin[- ]echo|\bSTIR\b|\bBOLD\b)|\bT[12]\b(?=[ -](?:image|sequence|signal"
        r"|hyper|hypo|axial|sag|cor|prolong))"
    ),
    "ultrasound": (
        r"(?i:\bhypo-?echo\w*|\bhyper-?echo\w*|\ban-?echoic|\becho(?:gen|texture|ic|es)\w*|\b(?:apical|parasternal"
        r"|subcostal|suprasternal)\b|\b(?:four|4|two|2|three|3|five|5)[- ]chamber|\b(?:short|long)[- ]axis|\bcolou?r "
        r"flow|\btransvaginal|\btransabdominal|\bgestational sac|\bpeak (?:systolic )?velocity|\bregurgita\w+)"
    ),
    "PET": r"(?i:\bSUV(?:max)?\b|\bhypermetabol\w+)",
    "SPECT": r"(?i:\b(?:tracer|radio(?:tracer|nuclide|isotope)) (?:uptake|activity)|\bradionuclide)",
    "angiography": (
        r"(?i:\bblush\b|\bcontrast extravasation|\bguide ?wire|\bmicrocatheter|\bcatheter tip|\bocclusion of (?:the "
        r")?(?:left|right|LAD|RCA)|\b(?:left anterior descending|right coronary|circumflex) artery)|\b(?:LAD|RCA|LCX"
        r"|TIMI)\b"
    ),
    "X-ray": (
        r"(?i:\b(?:AP|PA|lateral|antero-?posterior|postero-?anterior|oblique) (?:view|projection|film)|\bcobb angle"
        r"|\bopaci(?:ty|ties|fication)\b|\bk-?wires?\b|\bradio-?(?:lucen|opa)\w+|\bcephalometric|\bblunting of)"
    ),
    "photograph": (
        r"(?i:\b(?:clinical|intra-?operative|intra-?oral|gross|operative|pre-?operative|post-?operative|macroscopic) "
        r"(?:photo\w*|view|appearance|picture|image)\b|\bphotogra\w+|\bgross (?:specimen|patholog|exam)\w*)"
    ),
}
"""Modality → words of its findings, which count if no modality is named."""

_NAME_PATTERNS = [(modality, re.compile(pattern)) for modality, pattern in NAMES.items()]
_FINDING_PATTERNS = [(modality, re.compile(pattern)) for modality, pattern in FINDINGS.items()]
_HYBRID = re.compile(
    r"\b(?P<one>PET|SPECT|positron[ -]emission tomograph\w+)(?:[ -]?[/-] ?|, | with | and | |)?"
    r"(?P<other>CT|MRI?|computed tomograph\w+)\b",
    re.IGNORECASE,
)


def modality_from_caption(caption: str) -> tuple[str, str]:
    """(modality, rule): rule is "name", "finding", or "none" with modality "unknown"."""
    text = _NO_NAMES.sub(" ", _HYPHENS.sub("-", caption))
    hybrid = _HYBRID.search(text)
    by_name = _first(text, _NAME_PATTERNS)
    if by_name:
        position, modality = by_name
        if hybrid and (modality in ("PET", "SPECT") or hybrid.start() <= position <= hybrid.end()):
            parts = {"PET" if hybrid["one"][0] in "Pp" else "SPECT", "CT" if hybrid["other"][0] in "Cc" else "MRI"}
            return "+".join(sorted(parts)), "name"
        return modality, "name"
    by_finding = _first(text, _FINDING_PATTERNS)
    return (by_finding[1], "finding") if by_finding else ("unknown", "none")


def _first(text: str, patterns: list[tuple[str, re.Pattern[str]]]) -> tuple[int, str] | None:
    # Of words that begin at one place the modality that is listed first: min keeps the first of equals.
    positions = [(match.start(), modality) for modality, pattern in patterns if (match := pattern.search(text))]
    return min(positions, key=lambda pair: pair[0]) if positions else None
