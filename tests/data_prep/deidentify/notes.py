"""Radiology reports that were never written of anybody, with every identifier in them marked.

`notes(count, seed)` puts reports together from headers, findings and closing lines in many formats. Names are drawn from
two lists of first names and surnames made up for this file, numbers and dates from the seed; none of it is taken from the
patterns that are tested against it. Formats and names come in two halves: those to develop with, and, with
`held_out=True`, those that are kept for reporting.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from tests.data_prep.deidentify.notes_words import (
    DAYS,
    FINDINGS,
    FIRST,
    HOSPITALS,
    KINDS_OF_STREET,
    LAST,
    MONTHS,
    STREETS,
    TOWNS,
)


@dataclass
class Note:
    """A report; spans are (start, end, kind) in characters, ends exclusive."""

    text: str = ""
    spans: list[tuple[int, int, str]] = field(default_factory=list)
    clinical: list[str] = field(default_factory=list)
    """What has to stand in the text after the removal."""
    one_line: bool = False
    """White space as single blanks, as `clean_text` leaves captions."""

    def add(self, *pieces: str | tuple[str, str]) -> None:
        """Append text, and identifiers as (kind, text)."""
        for piece in pieces:
            kind, text = piece if isinstance(piece, tuple) else ("", piece)
            if self.one_line:
                text = re.sub(r"\s+", " ", text)
                text = text.lstrip() if self.text.endswith(" ") else text
            if kind:
                self.spans.append((len(self.text), len(self.text) + len(text), kind))
            self.text += text


def notes(count: int, seed: int, held_out: bool = False, one_line: bool = False) -> list[Note]:
    """That many reports; the same for the same seed. held_out: the half of names and formats that is kept for reporting."""
    return [
        _Writer(random.Random(f"{seed}/{number}/{held_out}"), int(held_out), one_line).note() for number in range(count)
    ]


class _Writer:
    def __init__(self, chance: random.Random, half: int, one_line: bool) -> None:
        self.chance, self.half = chance, half
        self.note_ = Note(one_line=one_line)
        self.first, self.last = chance.choice(FIRST[half]), chance.choice(LAST[half])
        self.doctor = f"{chance.choice(FIRST[half])} {chance.choice(LAST[half])}"

    def digits(self, form: str) -> str:
        """The form with every # a digit and every @ a capital letter."""
        pick = {"#": "0123456789", "@": "ABCDEFGHKLMNPRSTUVWXYZ"}
        text = "".join(self.chance.choice(pick[c]) if c in pick else c for c in form)
        return text

    def date(self) -> tuple[str, str]:
        day, month, year = self.chance.randint(1, 28), self.chance.randint(1, 12), self.chance.randint(1995, 2024)
        name = MONTHS[month - 1]
        forms = (
            [
                f"{month:02}/{day:02}/{year}",
                f"{year}-{month:02}-{day:02}",
                f"{name} {day}, {year}",
                f"{day} {name} {year}",
                f"{month}/{day}/{year % 100:02}",
                f"{day:02}-{name[:3].upper()}-{year}",
                f"{name} {year}",
                f"{year}{month:02}{day:02}",
            ],
            [
                f"{day:02}.{month:02}.{year}",
                f"{name[:3]} {day} {year}",
                f"{name[:3]}. {day}, {year}",
                f"{day:02}{name[:3].upper()}{year}",
                f"{month}-{day}-{year}",
                f"the {ordinal(day)} of {name}",
                f"{name} {ordinal(day)}, {year}",
                f"{name.upper()} {day}, {year}",
                f"{year}/{month:02}/{day:02} 14:32",
                f"{month:02}/{year}",
            ],
        )
        return "date", self.chance.choice(forms[self.half])

    def phone(self) -> tuple[str, str]:
        forms = (
            ["(###) ###-####", "###-###-####", "###.###.####", "+1 ### ### ####"],
            ["1-###-###-####", "### ### ####", "(###)###-####", "+44 20 7### ####"],
        )
        text = self.chance.choice(forms[self.half])
        return "phone", self.digits(
            text.replace("###", self.chance.choice("23456789") + "##", 1) if text[1] != "4" else text
        )

    def id(self, kind: str) -> tuple[str, str]:
        forms = {
            "record": (
                ["#######", "###-##-##", "@######", "########"],
                ["##########", "##-##-##", "MR#######", "@@#####"],
            ),
            "accession": (["########", "@@-##-######", "####-#####"], ["@@##########", "@########", "##-@@-#####"]),
            "ssn": (["###-##-####"], ["### ## ####", "###-##-####"]),
            "account": (["############", "@@#######"], ["#########", "V###########"]),
        }
        return "id", self.digits(self.chance.choice(forms[kind][self.half]))

    def note(self) -> Note:
        self.header()
        self.body()
        self.closing()
        return self.note_

    def header(self) -> None:
        add, pick = self.note_.add, self.chance.choice
        first, last, initial = self.first, self.last, pick("ABCDEJKLMRST")
        hospital = ("hospital", pick(HOSPITALS[self.half]))
        if self.half == 0:
            name = pick(
                [
                    f"{last}, {first}",
                    f"{first} {last}",
                    f"{last.upper()}, {first.upper()} {initial}",
                    f"{first} {initial}. {last}",
                ]
            )
            style = self.chance.randrange(3)
            if style == 0:
                add(
                    hospital,
                    "\nDepartment of Radiology\n\nPatient Name: ",
                    ("name", name),
                    "\nMRN: ",
                    self.id("record"),
                )
                add(
                    "\nDOB: ",
                    self.date(),
                    "\nAccession Number: ",
                    self.id("accession"),
                    "\nExam date: ",
                    self.date(),
                    "\n\n",
                )
            elif style == 1:
                add(
                    "PATIENT: ",
                    ("name", name),
                    "   Medical Record Number ",
                    self.id("record"),
                    "   Acct #: ",
                    self.id("account"),
                )
                add("\nDate of service: ", self.date(), "   SSN: ", self.id("ssn"), "\n\n")
            else:
                add(
                    "Name: ",
                    ("name", name),
                    " | ID: ",
                    self.id("record"),
                    " | Acc. No.: ",
                    self.id("accession"),
                    " | ",
                    self.date(),
                    "\n",
                )
                add("Ordering physician: ", ("name", self.doctor), "\nTel: ", self.phone(), "\n\n")
        else:
            name = pick(
                [
                    f"{last.upper()}, {first.upper()}",
                    f"{first.upper()} {last.upper()}",
                    f"{last}, {first} {initial}.",
                    f"{last}^{first}",
                ]
            )
            style = self.chance.randrange(3)
            if style == 0:
                add(
                    "RADIOLOGY REPORT - ",
                    hospital,
                    "\nPt: ",
                    ("name", name),
                    "  MR#",
                    self.id("record"),
                    "\nBirth date ",
                    self.date(),
                )
                add("\nACC: ", self.id("accession"), "\nStudy performed ", self.date(), "\n\n")
            elif style == 1:
                add(
                    "Patient Identification Number: ",
                    self.id("record"),
                    "\nPatient: ",
                    ("name", name),
                    "\nReferring: Dr. ",
                    ("name", self.doctor),
                )
                add(
                    "\nVisit No. ",
                    self.id("account"),
                    "\nSocial Security Number ",
                    self.id("ssn"),
                    "\nReported: ",
                    self.date(),
                    "\n\n",
                )
            else:
                add(
                    "NAME: ",
                    ("name", name),
                    "\nUNIT NO: ",
                    self.id("record"),
                    "\nORDER #",
                    self.id("accession"),
                    "\nADMITTED: ",
                    self.date(),
                )
                add("\nCallback ", self.phone(), "\n\n")

    def body(self) -> None:
        add, pick = self.note_.add, self.chance.choice
        modality, region = (
            pick(["CT", "MRI", "Radiograph", "Ultrasound"]),
            pick(["chest", "abdomen", "brain", "left knee"]),
        )
        old, sex = self.chance.randint(90, 104), pick(["woman", "man"])
        add(f"EXAM: {modality} of the {region}\nHISTORY: ")
        if self.chance.random() < 0.4:
            age = pick(
                [
                    [f"{old}-year-old", f"{old} year old", f"{old} yo"],
                    [f"{old}-yr-old", f"{old} y/o", f"{old} years old"],
                ][self.half]
            )
            add(("age", age), f" {sex} with pain.\n")
        else:
            years = self.chance.randint(18, 89)
            self.note_.clinical.append(f"{years}-year-old {sex}")
            add(f"{years}-year-old {sex} with pain.\n")
        last = self.last
        comparison = [
            [
                ("COMPARISON: ", self.date(), ".\n"),
                ("COMPARISON: Study from ", self.date(), " and ", self.date(), ".\n"),
                ("COMPARISON: Outside films of ", self.date(), ", ", ("hospital", pick(HOSPITALS[0])), ".\n"),
                ("COMPARISON: None.\n",),
            ],
            [
                ("Compared with the examination of ", self.date(), ".\n"),
                ("PRIOR: ", self.date(), " through ", self.date(), ".\n"),
                (
                    "Comparison was made to images from ",
                    ("hospital", pick(HOSPITALS[1])),
                    " dated ",
                    self.date(),
                    ".\n",
                ),
                ("No prior.\n",),
            ],
        ][self.half]
        add(*pick(comparison), "\nFINDINGS: ")
        for sentence, is_clinical in self.chance.sample(FINDINGS, 4):
            add(sentence, " ")
            self.note_.clinical += is_clinical
        if self.chance.random() < 0.5:
            title = "Mr." if sex == "man" else pick(["Ms.", "Mrs."])
            add(f"\n{title} ", ("name", last), " tolerated the procedure well.")
        if self.chance.random() < 0.4:
            month, day = self.chance.randint(1, 12), self.chance.randint(1, 28)
            add(
                *[
                    [" The clot was first seen on ", ("date", f"{month}/{day}"), "."],
                    [" Tube placed on ", ("date", f"{pick(DAYS)}, {MONTHS[month - 1]} {day}"), "."],
                ][self.half]
            )
        add("\n\nIMPRESSION: No change.\n")

    def closing(self) -> None:
        add, pick = self.note_.add, self.chance.choice
        doctor, other = self.doctor, f"{pick(FIRST[self.half])} {pick(LAST[self.half])}"
        town, state = pick(TOWNS[self.half])
        street = f"{self.chance.randint(2, 9999)} {pick(STREETS[self.half])} {pick(KINDS_OF_STREET[self.half])}"
        zip_code = self.digits("#####")
        user = f"{doctor.split()[0][0]}{doctor.split()[-1]}".lower().replace("'", "")
        if self.half == 0:
            lines: list[list[str | tuple[str, str]]] = [
                ["Dictated by: ", ("name", f"{doctor}, M.D."), " on ", self.date(), "\n"],
                ["Electronically signed by Dr. ", ("name", doctor), "\n"],
                [
                    "Findings were discussed with Dr. ",
                    ("name", other.split(" ", 1)[1]),
                    " at 3:45 PM on ",
                    self.date(),
                    ".\n",
                ],
                ["Address: ", ("address", f"{street}, {town}, {state} {zip_code}"), "\n"],
                [
                    "Questions: ",
                    ("email", f"{user}@riverside-general.org"),
                    " or pager ",
                    ("phone", self.digits("#####")),
                    "\n",
                ],
                ["Images at ", ("url", f"https://pacs.lakeshore.org/study/{self.digits('####')}"), "\n"],
                ["cc: ", ("name", f"{other}, MD"), ", fax ", self.phone(), "\n"],
            ]
        else:
            lines = [
                ["Interpreted by ", ("name", f"{doctor}, MD, PhD"), ", ", self.date(), "\n"],
                ["Attending radiologist: ", ("name", doctor), "\n"],
                ["Critical result called to Nurse ", ("name", other), " at 0915 hours.\n"],
                ["The patient lives at ", ("address", f"{street}, Apt {self.digits('#@')}, {town}, {state}"), ".\n"],
                [
                    "Contact ",
                    ("email", f"{user}{self.digits('##')}@mail.brackenridge.edu"),
                    ", ext. ",
                    ("phone", self.digits("####")),
                    "\n",
                ],
                ["See ", ("url", f"www.eastgate-imaging.com/r?id={self.digits('######')}"), "\n"],
                [
                    "Mail: ",
                    ("address", f"P.O. Box {self.digits('####')}, {town}, {state} {zip_code}"),
                    ". Phone ",
                    self.phone(),
                    "\n",
                ],
                ["Spoke with the daughter, ", ("name", other), ", about the result.\n"],
            ]
        for line in self.chance.sample(lines, 4):
            add(*line)


def ordinal(day: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st, ..."""
    return f"{day}{'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
