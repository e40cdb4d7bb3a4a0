"""Words before a number that say what it is: a telephone's, an order's, a version's.

Written as they begin, in lower case, so that endings do not matter.
"""

from __future__ import annotations

import re

# How far before a number such a word may stand.
_REACH = 32

_PHONE = """
tel|phone|mobile|cell|fax|whatsapp|viber|hotline|handy|mobil|rufnummer|durchwahl|tél|
portable|numérode contact|teléf|móvil|celular|telem|cellulare|telefo|mobiel|gsm|komórk|tlf|
matkapuh|puhel|tālr|mob|τηλ|κινητ|тел|моб|сотов|ватсап|cep|هاتف|جوال|موبايل|موبایل|تلفن|فون|
واتس|טלפון|נייד|פלאפון|फ़ोन|फोन|मोबाइल|ফোন|মোবাইল|தொலைபேசி|மொபைல்|கைபேசி|ఫోన్|മൊബൈൽ|ફોન|
ਫ਼ੋਨ|โทร|มือถือ|เบอร์|điện thoại|sđt|đt|telp|hp|no hp|ponsel|电话|電話|手机|手機|携帯|传真|전화|
휴대폰|휴대전화|연락처|핸드폰|simu|nambari ya simu|ስልክ|ტელ|մոբ|հեռ|nomor wa
"""
_REFERENCE = """
order|invoice|ref|track|ticket|case|item|article|serial|booking|shipment|parcel|sku|isbn|
ean|batch|part n|model|product|account manager|version|bestell|rechnung|auftrag|sendung|
vorgang|artikel|kunden|serien|paket|aktenzeichen|buchung|commande|facture|dossier|réf|colis|
suivi|pedido|factura|seguimiento|expediente|guía|fatura|encomenda|protocolo|rastre|ordine|
fattura|pratica|spedizione|codice prodotto|factuur|pakket|zamówieni|faktur|przesył|seryjn|
objednáv|zásil|rendel|számla|csomag|comand|beställ|ordre|ordrenummer|tilaus|lasku|tellimus|
pasūtī|užsaky|narudž|račun|naroči|παραγγελ|τιμολόγ|αποστολ|заказ|счёт|счет|накладн|трек|
посыл|замовлен|рахун|поръчк|фактур|пратк|наруџб|sipariş|kargo|طلب|فاتورة|شحن|سفارش|فاکتور|
مرسول|آرڈر|הזמנה|חשבונית|משלוח|ऑर्डर|चालान|इनवॉइस|बिल|অর্ডার|ஆர்டர்|ఆర్డర్|ഓർഡർ|คำสั่งซื้อ|
ออเดอร์|ใบแจ้งหนี้|พัสดุ|đơn hàng|hóa đơn|vận đơn|pesanan|resi|tempahan|订单|訂單|发票|發票|单号|
單號|快递|編號|编号|注文|請求書|伝票|追跡|受注|주문|송장|운송장|접수|oda|ankara|agizo|
bestelnommer|შეკვეთ|պատվեր
"""
_VERSION = (
    "version|versión|versão|versione|wersj|verze|версі|верси|sürüm|版本|バージョン|버전|"
    "v|ver|release|build"
)
_SECRET_NAMES = """
access_token api_key apikey api_token auth auth_token authorization awsaccesskeyid client_secret
code credential id_token jwt key otp passwd password pin private_token pwd refresh_token reset
reset_token secret secret_key session session_id sessionid sid sig sign signature ticket token
x_amz_credential x_amz_security_token x_amz_signature x_goog_signature
"""
# Parameters of a URL whose value lets somebody in.
SECRET_NAMES = frozenset(_SECRET_NAMES.split())


def word_pattern(words: str) -> re.Pattern[str]:
    """What finds any of the words, given with `|` between them, where a word begins."""
    listed = sorted({word.strip() for word in words.replace("\n", "").split("|")}, key=len)
    # Elsewhere articles and prepositions are written together with the word.
    starts = r"(?<![a-z\u00df-\u024f\u0370-\u058f])"
    return re.compile(f"{starts}(?:{'|'.join(re.escape(word) for word in reversed(listed))})")


PHONE_WORDS = word_pattern(_PHONE)
REFERENCE_WORDS = word_pattern(_REFERENCE)
_VERSION_WORD = re.compile(rf"(?<![^\W\d_])(?:{_VERSION})\.? ?\Z", re.IGNORECASE)


def last_word(words: re.Pattern[str], text: str, place: int) -> int:
    """Where the last of the words before a place begins; -1 where none is near."""
    first = max(0, place - _REACH)
    # Characters are lowered one by one: a lower case may be longer than its upper case.
    near = "".join(low if len(low := sign.lower()) == 1 else sign for sign in text[first:place])
    found = -1
    for match in words.finditer(near):
        found = first + match.start()
    return found


def says_version(text: str, place: int) -> bool:
    """Whether a number is a program's version."""
    return bool(_VERSION_WORD.search(text[max(0, place - 16) : place]))
