"""Numbers by which states know people: python-stdnum's checks, and how much to ask of each number.

A number of eleven digits is somebody's in a dozen countries, and an order's everywhere. So each
row says what must come together before a number is believed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from xlmr.errors import MissingExtraError
from xlmr.feedback.redaction.finding import NATIONAL_ID, Finding
from xlmr.feedback.redaction.words import REFERENCE_WORDS, last_word, word_pattern

try:
    import stdnum
except ImportError:
    raise MissingExtraError("python-stdnum", extra="feedback") from None

# What must come together: its shape and check digits; those, in a language of its country; a word
# before it that names it. Such a word always suffices, with the shape alone: a slip of the pen
# spoils a check digit and names the same person.
SHAPE, COUNTRY, WORD = "shape", "country", "word"


@dataclass(frozen=True, slots=True)
class Row:
    """One way in which the numbers of a country are written.

    Attributes:
        country: ISO 3166.
        module: of stdnum, which checks it; empty where a shape is all there is.
        shape: on text as `plain` gives it; upper or lower case.
        needs: `SHAPE`, `COUNTRY` or `WORD`.
        words: that name it, with `|` between them.
    """

    country: str
    module: str
    shape: str
    needs: str
    words: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """What finds the shape, where it stands by itself."""
        return _pattern(self.shape)


ROWS = (
    Row("AR", "ar.cuit", r"\d{2}-\d{8}-\d", SHAPE, "cuit|cuil"),
    Row("AR", "ar.cuit", r"\d{11}", COUNTRY, "cuit|cuil"),
    Row("AR", "", r"\d{1,2}\.?\d{3}\.?\d{3}", WORD, "dni"),
    Row("AT", "at.vnr", r"\d{4} ?\d{6}", COUNTRY, "sozialversicherungsn|sv-n|svnr"),
    Row("AU", "au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", WORD, "tfn|tax file"),
    Row("BE", "be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", SHAPE, "rijksregister|niss|insz"),
    Row("BE", "be.nn", r"\d{11}", COUNTRY, "rijksregister|registre national|niss|insz"),
    Row("BG", "bg.egn", r"\d{10}", COUNTRY, "егн|egn"),
    Row("BR", "br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", SHAPE, "cpf"),
    Row("BR", "br.cpf", r"\d{11}", COUNTRY, "cpf"),
    Row("CA", "ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", WORD, "sin |nas |social insur|assurance soc"),
    Row("CH", "ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}", SHAPE, "ahv|avs"),
    Row("CL", "cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dk]", SHAPE, "rut|run "),
    Row("CL", "cl.rut", r"\d{7,8}-[\dk]", COUNTRY, "rut|run "),
    Row("CN", "cn.ric", r"\d{17}[\dx]", SHAPE, "身份证|身份證"),
    Row("CO", "", r"\d{1,3}(?:\.?\d{3}){2,3}", WORD, "cédula|cedula|c.c."),
    Row("CU", "cu.ni", r"\d{11}", WORD, "carné de identidad|carnet de identidad"),
    Row("CZ", "cz.rc", r"\d{6}/\d{3,4}", SHAPE, "rodné číslo|rč"),
    Row("CZ", "cz.rc", r"\d{10}", COUNTRY, "rodné číslo|rč"),
    Row("DE", "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", COUNTRY, "steuer|idnr|identifikationsn"),
    Row("DK", "dk.cpr", r"\d{6}-\d{4}", SHAPE, "cpr|personnummer"),
    Row("DK", "dk.cpr", r"\d{10}", WORD, "cpr|personnummer"),
    Row("DO", "do.cedula", r"\d{3}-\d{7}-\d", SHAPE, "cédula|cedula"),
    Row("EC", "ec.ci", r"\d{10}", WORD, "cédula|cedula|c.i."),
    Row("EE", "ee.ik", r"[1-6]\d{10}", COUNTRY, "isikukood"),
    Row(
        "EG", "", r"[23]\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{7}", COUNTRY, "الرقم القومي"
    ),
    Row("ES", "es.dni", r"\d{8}[ -]?[A-Z]", SHAPE, "dni|nif"),
    Row("ES", "es.dni", r"\d{2}\.\d{3}\.\d{3}[ -]?[A-Z]", SHAPE, "dni|nif"),
    Row("ES", "es.nie", r"[XYZ]-?\d{7}-?[A-Z]", SHAPE, "nie"),
    Row("FI", "fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Z]", SHAPE, "henkilötunnus|hetu"),
    Row(
        "FR",
        "fr.nir",
        r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d",
        SHAPE,
        "sécu|sécurité sociale|nir",
    ),
    Row("GB", "gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", WORD, "nhs"),
    Row(
        "GB",
        "",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]",
        SHAPE,
        "national insurance|ni n|nino",
    ),
    Row("GR", "gr.amka", r"\d{11}", COUNTRY, "αμκα|amka"),
    Row("HR", "hr.oib", r"\d{11}", COUNTRY, "oib"),
    Row("HU", "", r"8\d{9}|\d{3}[ -]?\d{3}[ -]?\d{3}", WORD, "adóazonosító|taj"),
    Row("ID", "id.nik", r"\d{16}", COUNTRY, "nik|ktp"),
    Row("IE", "ie.pps", r"\d{7}[A-W][A-IW]?", SHAPE, "pps"),
    Row("IL", "il.idnr", r"\d{9}", COUNTRY, "ת.ז|ת״ז|תעודת זהות"),
    Row("IN", "in_.aadhaar", r"\d{4}[ -]\d{4}[ -]\d{4}", SHAPE, "aadhaar|आधार|ஆதார்|আধার"),
    Row("IN", "in_.aadhaar", r"\d{12}", COUNTRY, "aadhaar|आधार|ஆதார்|আধার"),
    Row("IN", "in_.pan", r"[A-Z]{5}\d{4}[A-Z]", SHAPE, "pan "),
    Row("IR", "", r"\d{10}", WORD, "کد ملی|کدملی"),
    Row("IS", "is_.kennitala", r"\d{6}-\d{4}", SHAPE, "kennitala"),
    Row("IS", "is_.kennitala", r"\d{10}", COUNTRY, "kennitala"),
    Row(
        "IT",
        "it.codicefiscale",
        r"[A-Z]{6}[\dL-NP-V]{2}[A-Z][\dL-NP-V]{2}[A-Z][\dL-NP-V]{3}[A-Z]",
        SHAPE,
        "codice fiscale|c.f.",
    ),
    Row("JP", "jp.in_", r"\d{4}[ -]?\d{4}[ -]?\d{4}", COUNTRY, "マイナンバー|個人番号"),
    Row("KR", "kr.rrn", r"\d{6}-[1-8]\d{6}", SHAPE, "주민"),
    Row("KR", "kr.rrn", r"\d{13}", COUNTRY, "주민"),
    Row("LT", "lt.asmens", r"[1-6]\d{10}", COUNTRY, "asmens kod"),
    Row("LV", "lv.pvn", r"\d{6}-\d{5}", SHAPE, "personas kod"),
    Row("LV", "lv.pvn", r"\d{11}", COUNTRY, "personas kod"),
    Row("MK", "si.emso", r"\d{13}", COUNTRY, "ембг|embg"),
    Row("MX", "mx.curp", r"[A-Z]{4}\d{6}[A-Z]{6}[A-Z0-9]\d", SHAPE, "curp"),
    Row("MX", "mx.rfc", r"[A-Z]{4}-?\d{6}-?[A-Z0-9]{3}", SHAPE, "rfc"),
    Row("MY", "my.nric", r"\d{6}-\d{2}-\d{4}", SHAPE, "nric|mykad|kad pengenalan|ic "),
    Row("NL", "nl.bsn", r"\d{9}|\d{4}\.\d{2}\.\d{3}", COUNTRY, "bsn|burgerservice|sofi"),
    Row("NO", "no.fodselsnummer", r"\d{6} ?\d{5}", COUNTRY, "fødselsn|personnummer"),
    Row("NZ", "nz.ird", r"\d{2,3}[ -]?\d{3}[ -]?\d{3}", WORD, "ird"),
    Row("PE", "pe.cui", r"\d{8}-?\d?", WORD, "dni|cui"),
    Row("PK", "pk.cnic", r"\d{5}-\d{7}-\d", SHAPE, "cnic|شناختی"),
    Row("PL", "pl.pesel", r"\d{11}", COUNTRY, "pesel"),
    Row("PT", "pt.nif", r"\d{3} ?\d{3} ?\d{3}", WORD, "nif|contribuinte"),
    Row("PT", "pt.cc", r"\d{8} ?\d ?[A-Z0-9]{2}\d", COUNTRY, "cartão de cidadão"),
    Row("RO", "ro.cnp", r"[1-8]\d{12}", COUNTRY, "cnp"),
    Row("RS", "si.emso", r"\d{13}", COUNTRY, "jmbg|јмбг"),
    Row("RU", "ru.inn", r"\d{12}", COUNTRY, "инн"),
    Row("RU", "", r"\d{3}-\d{3}-\d{3}[ -]\d\d", SHAPE, "снилс"),
    Row("RU", "", r"\d{2} ?\d{2} ?№? ?\d{6}", WORD, "паспорт"),
    Row("SA", "", r"[12]\d{9}", WORD, "هوية|الهوية"),
    Row("SE", "se.personnummer", r"(?:\d\d)?\d{6}[-+]\d{4}", SHAPE, "personnummer"),
    Row("SE", "se.personnummer", r"(?:19|20)\d{10}", COUNTRY, "personnummer"),
    Row("SG", "", r"[STFGM]\d{7}[A-Z]", SHAPE, "nric|fin "),
    Row("SI", "si.emso", r"\d{13}", COUNTRY, "emšo"),
    Row("SK", "cz.rc", r"\d{10}", COUNTRY, "rodné číslo"),
    Row("TH", "th.pin", r"\d-\d{4}-\d{5}-\d{2}-\d", SHAPE, "บัตรประชาชน"),
    Row("TH", "th.pin", r"\d{13}", COUNTRY, "บัตรประชาชน|เลขประจำตัว"),
    Row("TR", "tr.tckimlik", r"[1-9]\d{10}", COUNTRY, "kimlik|tckn|t.c."),
    Row("TW", "", r"[A-Z][12]\d{8}", WORD, "身分證|身份證"),
    Row("UA", "ua.rntrc", r"\d{10}", COUNTRY, "іпн|рнокпп|код платника"),
    Row("US", "us.ssn", r"\d{3}-\d{2}-\d{4}", SHAPE, "ssn|social security"),
    Row("US", "us.itin", r"9\d{2}-\d{2}-\d{4}", SHAPE, "itin|tax id"),
    Row("US", "", r"\d{3} ?\d{2} ?\d{4}", WORD, "ssn|social security|itin"),
    Row("VE", "ve.rif", r"[VE]-?\d{8}-?\d", COUNTRY, "rif"),
    Row("VN", "", r"\d{12}|\d{9}", WORD, "cccd|căn cước|cmnd|chứng minh"),
    Row("ZA", "za.idnr", r"\d{6} ?\d{4} ?\d{3}", COUNTRY, "id number|identity number|id-nommer"),
)
_FEWEST_DIGITS = re.compile(r"(?:\d\D{0,3}){4}")


def find_national_ids(text: str, regions: Collection[str]) -> Iterator[Finding]:
    """Numbers of people, of any country; see `ROWS` for what is asked of them.

    Args:
        text: as `plain` gives it.
        regions: countries (ISO 3166) of the text's language.
    """
    if not _FEWEST_DIGITS.search(text):
        return
    for row in ROWS:
        for found in row.pattern.finditer(text):
            start, end = found.span()
            said = last_word(_words(row.words), text, start)
            reference = last_word(REFERENCE_WORDS, text, start)
            if said > reference:
                yield Finding(NATIONAL_ID, start, end, True)
                continue
            here = row.country in regions and reference < 0
            believed = row.needs == SHAPE or (row.needs == COUNTRY and here)
            if believed and (not row.module or _module(row.module).is_valid(text[start:end])):
                yield Finding(NATIONAL_ID, start, end)


@cache
def _pattern(shape: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z_])(?<!\d[.,/-])(?:{shape})(?![0-9A-Za-z_]|[.,/-]\d)", re.I)


@cache
def _words(words: str) -> re.Pattern[str]:
    return word_pattern(words)


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{stdnum.__name__}.{name}")
