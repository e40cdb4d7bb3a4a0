"""Where people who write a language mostly live: which national numbers to expect in it."""

from __future__ import annotations

_REGIONS = """
af ZA|am ET|ar EG SA AE MA|az AZ|be BY|bg BG|bn BD IN|bs BA|ca ES|cs CZ|cy GB|da DK|de DE AT CH|
el GR CY|en US GB IN AU CA IE NZ ZA|es ES MX AR CO CL PE EC VE DO|et EE|eu ES|fa IR AF|fi FI|
fil PH|fr FR BE CH CA MA|ga IE|gl ES|gu IN|he IL|hi IN|hr HR BA|hu HU|hy AM|id ID|is IS|it IT CH|
ja JP|ka GE|kk KZ|km KH|kn IN|ko KR|ky KG|lo LA|lt LT|lv LV|mk MK|ml IN|mn MN|mr IN|ms MY SG|my MM|
nb NO|ne NP|nl NL BE|nn NO|no NO|pa IN PK|pl PL|ps AF PK|pt BR PT|ro RO MD|ru RU KZ BY|si LK|sk SK|
sl SI|so SO|sq AL|sr RS ME BA|sv SE FI|sw KE TZ|ta IN LK SG|te IN|th TH|tl PH|tr TR|uk UA|ur PK IN|
uz UZ|vi VN|xh ZA|yo NG|zh CN TW HK SG|zu ZA
"""
REGIONS: dict[str, tuple[str, ...]] = {
    language: tuple(regions)
    for language, *regions in (row.split() for row in _REGIONS.replace("\n", "").split("|"))
}


def regions_of(language: str) -> tuple[str, ...]:
    """Regions (ISO 3166) of a language (ISO 639, with or without a script); empty where unknown."""
    return REGIONS.get(language.partition("-")[0].partition("_")[0].lower(), ())
