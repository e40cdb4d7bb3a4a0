"""The name a data set gives a language, as the code our identification gives it. Pure."""

from __future__ import annotations

# ISO 639-3 (of the language, or of what a data set usually means by it) → ISO 639-1.
_PAIRS = (
    "afr:af als:sq sqi:sq amh:am ara:ar arb:ar asm:as aze:az azj:az bel:be ben:bn bos:bs "
    "bre:br bul:bg cat:ca ces:cs cmn:zh cym:cy dan:da deu:de ekk:et ell:el eng:en epo:eo "
    "est:et eus:eu fas:fa fil:tl fin:fi fra:fr fry:fy gla:gd gle:ga glg:gl guj:gu hat:ht "
    "heb:he hin:hi hrv:hr hun:hu hye:hy ind:id isl:is ita:it jav:jv jpn:ja kan:kn kat:ka "
    "kaz:kk khk:mn khm:km kir:ky kmr:ku kor:ko kur:ku lao:lo lat:la lav:lv lit:lt ltz:lb "
    "lvs:lv mal:ml mar:mr mkd:mk mlg:mg mon:mn msa:ms mya:my nep:ne nld:nl nno:nn nob:no "
    "nor:no npi:ne ory:or ori:or pan:pa pbt:ps pes:fa plt:mg pol:pl por:pt pus:ps ron:ro "
    "rus:ru san:sa sin:si slk:sk slv:sl snd:sd som:so spa:es sqi:sq srp:sr sun:su swa:sw "
    "swe:sv swh:sw tam:ta tel:te tgl:tl tha:th tur:tr uig:ug ukr:uk urd:ur uzb:uz uzn:uz "
    "vie:vi xho:xh ydd:yi yid:yi yor:yo zho:zh zsm:ms zul:zu iw:he in:id nb:no"
)
_SHORT = dict(pair.split(":") for pair in _PAIRS.split())


def short_code(key: str) -> str:
    """A language key without script and region, in two letters where there are two.

    `pt-BR` → `pt`, `arb_Arab` → `ar`, `ceb` → `ceb`. What is no known code stays as it is.
    """
    code = key.replace("_", "-").partition("-")[0].lower()
    return _SHORT.get(code, code)
