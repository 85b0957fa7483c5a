"""Thoracic findings and devices, and the words by which English reports state them: a list of our own."""

FINDINGS: dict[str, tuple[str, ...]] = {
    "aortic aneurysm": (r"aortic aneurysms?", r"aneurysm\w* (?:dilatation |dilation )?of the (?:\w+ ){0,2}aorta"),
    "aortic dissection": (r"aortic dissections?", r"dissection of the (?:\w+ ){0,2}aorta"),
    "atelectasis": (
        r"atelecta\w+",
        r"(?:lobar|segmental|lung|pulmonary) collapse",
        r"collapse of the (?:\w+ ){0,3}(?:lobe|lung)",
    ),
    "atherosclerosis": (
        r"atherosclero\w+",
        r"(?:aortic|coronary|vascular|atheromatous)(?: \w+)? calcifications?",
        r"calcifi\w+ (?:of the )?(?:thoracic )?aorta",
        r"aortic (?:arch|knob) calcifications?",
    ),
    "bronchiectasis": (r"bronchiecta\w+",),
    "bronchial wall thickening": (
        r"(?:peri)?bronchial (?:wall )?(?:thickening|cuffing)",
        r"thickened bronchial walls?",
    ),
    "calcified granuloma": (r"(?:calcified )?granulomas?", r"granulomat\w+(?: disease)?"),
    "cardiomegaly": (
        r"cardiomegal\w+",
        r"cardiac (?:\w+ )?enlargement",
        r"enlarge(?:d|ment of the) (?:\w+ ){0,2}(?:heart|cardiac silhouette|cardiac shadow|cardiomediastinal silhouette)",
        r"(?:heart|cardiac silhouette|cardiac shadow|cardiomediastinal silhouette)(?: size)?(?: \w+){0,3} enlarged",
    ),
    "cavity": (r"cavit(?:y|ies|ation|ations|ary|ating|ated)(?: lesions?)?",),
    "consolidation": (r"consolidati\w+", r"air ?space disease"),
    "lung cyst": (
        r"(?:lung|pulmonary|bronchogenic|pericardial) cysts?",
        r"bulla(?:e|s)?",
        r"bullous disease",
        r"blebs?",
    ),
    "degenerative spine": (
        r"degenerative (?:\w+ ){0,3}(?:spine|disc|disk|changes?|disease)",
        r"spondylo(?:sis|tic \w+)",
        r"osteophytes?",
    ),
    "diaphragmatic elevation": (
        r"(?:elevat(?:ed|ion of the)|raised) (?:\w+ ){0,3}(?:hemi|hemi-)?diaphragm",
        r"(?:hemi)?diaphragmatic elevation",
        r"eventration(?: of the (?:\w+ )?(?:hemi)?diaphragm)?",
    ),
    "edema": (
        r"(?:pulmonary|interstitial|alveolar|airspace|lung) (?:\w+ )?(?:o?edema)",
        r"(?<!soft tissue )(?<!subcutaneous )(?<!peripheral )o?edema",
    ),
    "emphysema": (
        r"(?<!subcutaneous )(?<!mediastinal )emphysema\w*",
        r"copd",
        r"chronic obstructive pulmonary disease",
    ),
    "fibrosis": (r"fibros[ie]s", r"fibrotic(?: \w+)?", r"honeycomb\w*"),
    "fracture": (r"fractur\w+",),
    "ground-glass opacity": (
        r"ground[- ]glass(?: \w+)?",
        r"ggos?",
    ),
    "heart failure": (r"(?:congestive )?(?:heart|cardiac) failure", r"chf", r"cardiac decompensation"),
    "hiatal hernia": (r"(?:hiatal|hiatus|diaphragmatic|paraesophageal) hernias?",),
    "hyperinflation": (
        r"hyper-?inflat\w+",
        r"hyper-?expan\w+",
        r"flatten(?:ed|ing)(?: of the)? (?:hemi)?diaphragms?",
        r"air trapping",
    ),
    "interstitial disease": (
        r"interstitial (?:(?:lung )?disease|opacit(?:y|ies)|markings?|pattern|thickening|prominence|changes?|infiltrates?)",
        r"reticula(?:r|tion|tions)(?: \w+)?",
        r"reticulonodular(?: \w+)?",
    ),
    "kyphosis": (r"kyphos[ie]s", r"kyphotic(?: \w+)?"),
    "lymphadenopathy": (
        r"(?:lymph)?adenopath\w+",
        r"enlarged (?:\w+ ){0,2}(?:lymph )?nodes?",
    ),
    "mass": (r"mass(?:es)?", r"tumou?rs?", r"neoplas\w+", r"carcinomas?", r"malignan(?:cy|cies)"),
    "mediastinal widening": (
        r"mediastinal widening",
        r"widen(?:ed|ing of the) (?:\w+ )?mediastin(?:um|al contours?)",
        r"mediastin(?:um|al contours?|al silhouette)(?: \w+){0,2} (?:widened|enlarged)",
        r"enlarged (?:cardio)?mediastin(?:um|al silhouette|al contours?)",
    ),
    "metastasis": (r"metasta(?:sis|ses|tic)(?: \w+)?",),
    "nodule": (r"(?:micro)?nodul(?:es?|ar(?: \w+)?)",),
    "opacity": (
        r"opaci(?:ty|ties|fication|fications|fied)",
        r"infiltrat(?:e|es|ion|ions)",
        r"increased density",
        r"densities",
    ),
    "pericardial effusion": (r"pericardial (?:effusions?|fluid)", r"h[a]?emopericardium"),
    "pleural effusion": (
        r"(?:\w+)?pleural (?:\w+ )?(?:effusions?|fluid)",
        r"effusions?",
        r"hydrothorax",
        r"ha?emothorax",
        r"empyemas?",
    ),
    "pleural thickening": (
        r"pleural (?:\w+ )?(?:thickening|plaques?|scarring)",
        r"thicken(?:ed|ing of the) pleura",
        r"(?:apical|pleural) (?:cap|capping)",
    ),
    "pneumomediastinum": (r"pneumomediastinum", r"mediastinal emphysema"),
    "pneumonia": (r"(?:broncho)?pneumonias?", r"pneumonic(?: \w+)?", r"pneumonitis"),
    "pneumoperitoneum": (
        r"pneumoperitoneum",
        r"free (?:intra-?peritoneal |sub-?diaphragmatic |intra-?abdominal )?air",
    ),
    "pneumothorax": (r"(?:hydro)?pneumothora(?:x|ces)", r"ptx"),
    "pulmonary embolism": (r"pulmonary (?:thrombo)?embol(?:ism|us|i|isms)", r"thromboembolism"),
    "scarring": (r"scar(?:ring|s)?",),
    "scoliosis": (r"(?:levo|dextro)?scolio(?:sis|ses|tic)(?: \w+)?",),
    "subcutaneous emphysema": (r"subcutaneous (?:emphysema|air|gas)", r"soft tissue emphysema"),
    "tuberculosis": (r"tuberculo(?:sis|us)", r"(?:miliary )?tb"),
    "vascular congestion": (
        r"(?:pulmonary |central )?(?:veno)?vascular congestion",
        r"(?:pulmonary )?vascular (?:engorgement|redistribution)",
        r"cephali[sz]ation",
    ),
    "central venous catheter": (
        r"(?:central (?:venous )?|picc |subclavian |jugular |dialysis )(?:lines?|catheters?)",
        r"picc",
        r"port-?a-?cath",
        r"(?:infusion|chest wall) port",
        r"swan-?ganz(?: catheter)?",
    ),
    "chest tube": (r"(?:chest|thoracostomy|pleural) (?:tubes?|drains?)", r"pigtail catheters?"),
    "endotracheal tube": (r"endotracheal (?:tubes?|tip)", r"et tube", r"ett", r"tracheostomy(?: \w+)?"),
    "gastric tube": (
        r"(?:naso|oro)?gastric tubes?",
        r"(?:ng|og|enteric|feeding|dobh?off) tubes?",
    ),
    "pacemaker": (
        r"pacemakers?",
        r"pacing (?:leads?|wires?)",
        r"(?:icd|aicd|defibrillators?)(?: leads?)?",
        r"pacer(?: \w+)?",
    ),
    "sternotomy": (r"sternotomy(?: wires?)?", r"sternal wires?", r"cabg"),
}
"""Finding → regular expressions over text in lower case, each for whole words."""

NO_FINDING = (
    r"(?:joint|knee|hip|elbow|ankle|subdural|shoulder) effusions?",
    r"(?:soft tissue|subcutaneous|peripheral|cerebral|brain|leg|macular) o?edema",
    r"mass effect",
    r"(?:thoracic|chest|pleural|abdominal|peritoneal|pelvic|oral|nasal|cranial|uterine|medullary|joint|body) cavit(?:y|ies)",
    r"fatty infiltrat\w+",
    r"body mass",
    r"(?:bone|mineral|soft tissue|fat|fluid) densit(?:y|ies)",
    r"breast (?:tissue|densit(?:y|ies))",
)
"""Words that resemble a finding and are none of those above; they are read first."""
