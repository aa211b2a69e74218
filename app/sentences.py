"""What people are told, in one sentence, in each language: in their list of notifications, and as the subject of mails.

A sentence stands for itself, and the title of the record follows it. So no word depends on what the record is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.locales import Locale

_E, _D, _A = Locale.ENGLISH, Locale.GERMAN, Locale.ARABIC

# By kind of notification, and by type of record or of job. What has no type of its own is under the kind alone.
SENTENCES: dict[str, dict[Locale, str]] = {
    "assigned": {
        _E: "{actor} assigned something to you",
        _D: "{actor} hat Ihnen etwas zugewiesen",
        _A: "أُسند إليك عمل من {actor}",
    },
    "assigned/customer": {
        _E: "{actor} assigned a customer to you",
        _D: "{actor} hat Ihnen einen Kunden zugewiesen",
        _A: "أُسند إليك عميل من {actor}",
    },
    "assigned/deal": {
        _E: "{actor} assigned a deal to you",
        _D: "{actor} hat Ihnen einen Deal zugewiesen",
        _A: "أُسندت إليك صفقة من {actor}",
    },
    "assigned/activity": {
        _E: "{actor} assigned an activity to you",
        _D: "{actor} hat Ihnen eine Aktivität zugewiesen",
        _A: "أُسند إليك نشاط من {actor}",
    },
    "assigned/project": {
        _E: "{actor} assigned a project to you",
        _D: "{actor} hat Ihnen ein Projekt zugewiesen",
        _A: "أُسند إليك مشروع من {actor}",
    },
    "reminder": {_E: "Reminder", _D: "Erinnerung", _A: "تذكير"},
    "reminder/activity": {
        _E: "Reminder of an activity",
        _D: "Erinnerung an eine Aktivität",
        _A: "تذكير بنشاط",
    },
    "reminder/activity/due": {
        _E: "Reminder of an activity, due on {when}",
        _D: "Erinnerung an eine Aktivität, fällig am {when}",
        _A: "تذكير بنشاط موعده {when}",
    },
    "reminder/customer/due": {
        _E: "Follow up with a customer on {when}",
        _D: "Wiedervorlage eines Kunden am {when}",
        _A: "متابعة عميل في {when}",
    },
    "reminder/deal/due": {
        _E: "A deal is expected to close on {when}",
        _D: "Ein Deal soll am {when} abgeschlossen werden",
        _A: "من المتوقع إغلاق صفقة في {when}",
    },
    "overdue": {_E: "Something is overdue", _D: "Etwas ist überfällig", _A: "هناك ما تأخر عن موعده"},
    "overdue/activity/due": {
        _E: "An activity was due on {when}",
        _D: "Eine Aktivität war am {when} fällig",
        _A: "تأخر نشاط كان موعده {when}",
    },
    "overdue/project/due": {
        _E: "A project was due on {when}",
        _D: "Ein Projekt war am {when} fällig",
        _A: "تأخر مشروع كان موعده {when}",
    },
    "mentioned": {
        _E: "{actor} mentioned you in a note",
        _D: "{actor} hat Sie in einer Notiz erwähnt",
        _A: "وردت إشارة إليك في ملاحظة من {actor}",
    },
    "deal_moved": {
        _E: "{actor} moved a deal of yours to another stage",
        _D: "{actor} hat einen Ihrer Deals in eine andere Phase verschoben",
        _A: "نُقلت إحدى صفقاتك إلى مرحلة أخرى من قِبل {actor}",
    },
    "import_finished": {_E: "Your import has finished", _D: "Ihr Import ist fertig", _A: "اكتمل الاستيراد"},
    "job_failed": {
        _E: "Something that you asked for has failed",
        _D: "Ein Auftrag von Ihnen ist fehlgeschlagen",
        _A: "فشل تنفيذ أحد طلباتك",
    },
    "job_failed/import_check": {
        _E: "Your file could not be checked",
        _D: "Ihre Datei konnte nicht geprüft werden",
        _A: "تعذّر فحص ملفك",
    },
    "job_failed/import_run": {
        _E: "Your import has failed",
        _D: "Ihr Import ist fehlgeschlagen",
        _A: "فشل الاستيراد",
    },
    "job_failed/report": {
        _E: "Your report could not be made",
        _D: "Ihr Bericht konnte nicht erstellt werden",
        _A: "تعذّر إعداد تقريرك",
    },
    "job_failed/export": {
        _E: "Your export could not be made",
        _D: "Ihr Export konnte nicht erstellt werden",
        _A: "تعذّر إعداد ملف التصدير",
    },
    "job_failed/bulk": {
        _E: "Your change of many records did not come to its end",
        _D: "Ihre Änderung vieler Datensätze wurde nicht zu Ende geführt",
        _A: "لم يكتمل تغيير السجلات",
    },
    "job_failed/undo": {
        _E: "What you wanted to take back was not taken back",
        _D: "Was Sie zurücknehmen wollten, wurde nicht zurückgenommen",
        _A: "لم يكتمل التراجع عن التغيير",
    },
    "job_failed/erasure": {
        _E: "Your erasure did not come to its end",
        _D: "Ihre Löschung wurde nicht zu Ende geführt",
        _A: "لم يكتمل محو البيانات",
    },
    "job_failed/reassign": {
        _E: "What you wanted to hand over was not all handed over",
        _D: "Was Sie übergeben wollten, wurde nicht vollständig übergeben",
        _A: "لم يكتمل نقل السجلات إلى زميل آخر",
    },
    "webhook_disabled": {
        _E: "A webhook was switched off, because its receiver keeps failing",
        _D: "Ein Webhook wurde abgeschaltet, weil die Zustellung an seinen Empfänger immer wieder fehlschlägt",
        _A: "أُوقف أحد خطافات الويب لتكرر فشل التسليم إلى مستقبِله",
    },
    "assistant_failed": {
        _E: "The assistant's provider refuses its key, or the account there is used up",
        _D: "Der Anbieter des Assistenten lehnt seinen Schlüssel ab, oder das Konto dort ist aufgebraucht",
        _A: "يرفض مزوّد المساعد مفتاحه، أو أن رصيد الحساب لديه قد نفد",
    },
    "report_ready": {_E: "Your report is ready", _D: "Ihr Bericht ist fertig", _A: "تقريرك جاهز"},
    "connection": {
        _E: "A calendar has to be connected again",
        _D: "Ein Kalender muss neu verbunden werden",
        _A: "يجب إعادة ربط أحد التقويمات",
    },
    "connection/needs_confirmation": {
        _E: "Many entries have vanished from a calendar at once: please say what becomes of their activities",
        _D: "Aus einem Kalender sind viele Einträge auf einmal verschwunden: Bitte sagen Sie, was aus ihren Aktivitäten"
        " werden soll",
        _A: "اختفت مدخلات كثيرة من أحد التقويمات دفعة واحدة: يُرجى تحديد ما يحدث لأنشطتها",
    },
}
SOMEBODY = {_E: "Somebody", _D: "Jemand", _A: "أحد الزملاء"}
# One action may be about many records.
MORE: dict[Locale, dict[str, str]] = {
    _E: {"one": ", and one more", "other": ", and {number} more"},
    _D: {"one": " und ein weiterer Datensatz", "other": " und {number} weitere Datensätze"},
    _A: {
        "one": "، وسجل آخر",
        "two": "، وسجلان آخران",
        "few": "، و{number} سجلات أخرى",
        "many": "، و{number} سجلًا آخر",
        "other": "، و{number} سجل آخر",
    },
}


def sentence(
    locale: Locale,
    zone: ZoneInfo,
    kind: str,
    resource_type: str,
    *,
    actor: str | None = None,
    title: str | None = None,
    data: Mapping[str, Any],
) -> str:
    """What a notification says. `data` is what is stored with it; `zone` is the reader's timezone."""
    special = data.get("job") or data.get("about") or resource_type
    when = _due(locale, zone, data)
    names = (f"{kind}/{special}/due",) * bool(when) + (f"{kind}/{special}", kind)
    pattern = next(SENTENCES[name][locale] for name in names if name in SENTENCES)
    text = pattern.format(actor=_apart(locale, actor or SOMEBODY[locale]), when=when)
    if title:
        text += f": {_apart(locale, title)}"
    more = data.get("count", 1) - 1
    if more > 0:
        forms = MORE[locale]
        text += forms.get(locale.plural(more), forms["other"]).format(number=locale.number(more))
    return text


def _due(locale: Locale, zone: ZoneInfo, data: Mapping[str, Any]) -> str | None:
    """When it is due: a day, or a moment."""
    if not data.get("due_at"):
        return None
    due = datetime.fromisoformat(data["due_at"])
    return locale.day(due.date()) if data["all_day"] else locale.moment(due, zone)


def _apart(locale: Locale, text: str) -> str:
    """Text of another language inside a sentence that is read from right to left keeps its own direction."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if locale.direction == "rtl" else text
