"""What the made-up reports of `notes` are made of, in two halves: one to develop with, one to report on."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


FIRST = (
    _words(
        "Maria John Wei Aisha Olga Pedro Ingrid Kwame Fatima Liam Priya Henrik Chloe Tomasz Yuki Amara Dmitri Rosa Ngozi"
    ),
    _words(
        "Robert Elena Hiroshi Zainab Patrick Lucia Anders Mei Gabriel Nadia Victor Sunita Oscar Ewa Jamal Niamh Tove Grace"
    ),
)
LAST = (
    [
        *_words(
            "Gonzalez Smith Zhang Okafor Petrov Almeida Lindqvist Mensah Haddad Murphy Iyer Johansen Dubois Kowalski Black"
        ),
        *("O'Connor", "Garcia-Lopez", "de la Cruz", "Zorvanek"),
    ],
    [
        *_words(
            "Johnson Martinez Nguyen Bello Ivanova Silva Bergstrom Chukwu Rahman Gallagher Patel Nielsen Moreau Nowak Young"
        ),
        *("McAllister", "Smith-Jones", "van der Berg", "Qyrnell"),
    ],
)
STREETS = (
    ["Maple", "Elm Grove", "Washington", "Oak Hill", "Second"],
    ["Birch", "Stony Brook", "Lincoln", "12th", "Harbor View"],
)
KINDS_OF_STREET = (["Street", "Ave", "Road", "Blvd."], ["St", "Avenue", "Rd.", "Lane", "Drive"])
TOWNS = (
    [("Springfield", "IL"), ("Portland", "OR"), ("Albany", "NY")],
    [("Fairview", "TX"), ("Salem", "MA"), ("San Mateo", "CA")],
)
HOSPITALS = (
    [
        "Riverside General Hospital",
        "St. Brigid's Hospital",
        "Lakeshore Medical Center",
        "Northfield University Hospital",
    ],
    [
        "Mount Alder Hospital",
        "St. Columba Medical Centre",
        "Eastgate Community Clinic",
        "University Hospital of Brackenridge",
    ],
)
MONTHS = _words("January February March April May June July August September October November December")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

# Each has something that a careless pattern takes for an identifier; `clinical` in a note lists what has to survive.
FINDINGS = [
    ("No acute intracranial abnormality. Findings compatible with Parkinson disease.", ["Parkinson disease"]),
    ("A Foley catheter is present in the bladder.", ["Foley catheter"]),
    ("The lesion is bright on T2-weighted and dark on T1-weighted images.", ["T2-weighted", "T1-weighted"]),
    ("Disc bulge at C5-C6 and L4/5 with grade 3 stenosis.", ["C5-C6", "L4/5", "grade 3"]),
    ("Strength is 5/6 and 4/5; 3/4 views were obtained.", ["5/6", "4/5", "3/4 views"]),
    (
        "A mass of 3.5 x 2.1 cm in segment 7 (SUV 12.4), previously 2.8 x 1.9 cm.",
        ["3.5 x 2.1 cm", "segment 7", "SUV 12.4", "2.8 x 1.9 cm"],
    ),
    (
        "History of Hodgkin's lymphoma; Crohn's disease may be considered.",
        ["Hodgkin's lymphoma", "Crohn's disease may"],
    ),
    (
        "Hemoglobin 10.2 g/dL, platelets 250,000, creatinine 1.1, INR 1.2.",
        ["10.2 g/dL", "250,000", "creatinine 1.1", "INR 1.2"],
    ),
    ("A march fracture of the second metatarsal.", ["march fracture"]),
    ("BI-RADS 4; ACR TI-RADS 3; Fleischner criteria apply.", ["BI-RADS 4", "TI-RADS 3", "Fleischner criteria"]),
    (
        "100 mL of Omnipaque 350 was given; CTDIvol 12.55 mGy, DLP 645.80 mGy-cm.",
        ["100 mL", "Omnipaque 350", "12.55 mGy", "645.80"],
    ),
    (
        "Swan-Ganz catheter tip in the right pulmonary artery. Heart size is normal.",
        ["Swan-Ganz catheter", "right pulmonary artery"],
    ),
    ("Murphy sign was positive. The common bile duct measures 6 mm.", ["Murphy sign", "6 mm"]),
    (
        "Hounsfield units of 35-45; slices 1-24 of 120; series 4, image 56.",
        ["Hounsfield units", "35-45", "slices 1-24", "series 4, image 56"],
    ),
    ("Salter-Harris II fracture of the distal radius with 2/3 displacement.", ["Salter-Harris II", "2/3 displacement"]),
    ("Prior Whipple procedure. Blood pressure 120/80, pulse 72.", ["Whipple procedure", "120/80"]),
]
