"""What the service's mails say, in each language. In braces stands what is put in."""

from __future__ import annotations

from app.locales import Locale

_E, _D, _A = Locale.ENGLISH, Locale.GERMAN, Locale.ARABIC

TEXTS: dict[str, dict[Locale, str]] = {
    "hello": {_E: "Hello {name},", _D: "Guten Tag {name},", _A: "مرحبًا {name}،"},
    "hello_nobody": {_E: "Hello,", _D: "Guten Tag,", _A: "مرحبًا،"},
    "open": {_E: "Open in the CRM", _D: "Im CRM öffnen", _A: "فتح في نظام إدارة العملاء"},
    "report_intro": {
        _E: "Here is the report “{report}”, made on {moment}.",
        _D: "hier ist der Bericht „{report}“ vom {moment}.",
        _A: "إليك تقرير «{report}» الذي أُعِدّ في {moment}.",
    },
    "report_file": {
        _E: "All the figures are in the attached file.",
        _D: "Alle Zahlen stehen in der angehängten Datei.",
        _A: "جميع الأرقام موجودة في الملف المرفق.",
    },
    "more_rows": {
        _E: "The first {shown} of {total} rows. The attached file has all of them.",
        _D: "Die ersten {shown} von {total} Zeilen. Die angehängte Datei enthält alle.",
        _A: "أول {shown} من أصل {total} صفًا. الملف المرفق يحتوي عليها كلها.",
    },
    "nothing": {_E: "Nothing in this period.", _D: "Nichts in diesem Zeitraum.", _A: "لا شيء في هذه الفترة."},
    "why_report": {
        _E: "You get this mail because {owner} has this report mailed to you.",
        _D: "Sie erhalten diese E-Mail, weil {owner} Ihnen diesen Bericht schicken lässt.",
        _A: "تصلك هذه الرسالة لأن عنوانك ضمن مستلمي هذا التقرير الذي جدوله {owner}.",
    },
    "a_colleague": {_E: "a colleague", _D: "jemand aus Ihrem Team", _A: "أحد زملائك"},
    "unsubscribe": {
        _E: "Stop these mails",
        _D: "Diese E-Mails abbestellen",
        _A: "إيقاف هذه الرسائل",
    },
    "unsubscribe_question_report": {
        _E: "Should this report no longer be mailed to {address}?",
        _D: "Soll dieser Bericht nicht mehr an {address} geschickt werden?",
        _A: "هل تريد ألّا يُرسَل هذا التقرير إلى {address} بعد الآن؟",
    },
    "unsubscribe_question": {
        _E: "Should such notifications no longer be mailed to you? In the CRM you still see them.",
        _D: "Sollen solche Benachrichtigungen nicht mehr per E-Mail kommen? Im CRM sehen Sie sie weiterhin.",
        _A: "هل تريد ألّا تصلك إشعارات من هذا النوع بالبريد؟ ستظل تراها في نظام إدارة العملاء.",
    },
    "unsubscribe_question_digest": {
        _E: "Should the regular overview of your tasks no longer be mailed to you?",
        _D: "Soll Ihnen die regelmäßige Übersicht Ihrer Aufgaben nicht mehr geschickt werden?",
        _A: "هل تريد ألّا تصلك النظرة المنتظمة على مهامك بعد الآن؟",
    },
    "unsubscribe_yes": {_E: "Yes, stop them", _D: "Ja, abbestellen", _A: "نعم، أوقِفها"},
    "unsubscribe_done": {
        _E: "Done. You get no more of these mails.",
        _D: "Erledigt. Sie erhalten keine dieser E-Mails mehr.",
        _A: "تم. لن تصلك هذه الرسائل بعد الآن.",
    },
    "unsubscribe_title": {_E: "Stop mails", _D: "E-Mails abbestellen", _A: "إيقاف الرسائل"},
    "why_notification": {
        _E: "You get this mail because you have such notifications mailed to you. Your settings in the CRM say which.",
        _D: "Sie erhalten diese E-Mail, weil Sie sich solche Benachrichtigungen schicken lassen. In Ihren"
        " Einstellungen im CRM steht, welche.",
        _A: "تصلك هذه الرسالة لأنك اخترت أن تصلك إشعارات كهذه بالبريد. يمكنك تحديد أنواعها من إعداداتك في نظام إدارة"
        " العملاء.",
    },
    "why_digest": {
        _E: "You get this overview because your settings in the CRM say so.",
        _D: "Sie erhalten diese Übersicht, weil Sie sie in Ihren Einstellungen im CRM gewählt haben.",
        _A: "تصلك هذه النظرة العامة لأنك اخترتها في إعداداتك في نظام إدارة العملاء.",
    },
    "digest_daily": {_E: "Your day: {day}", _D: "Ihr Tag: {day}", _A: "يومك: {day}"},
    "digest_weekly": {_E: "Your week from {day}", _D: "Ihre Woche ab {day}", _A: "أسبوعك ابتداءً من {day}"},
    "digest_today": {_E: "Today", _D: "Heute", _A: "اليوم"},
    "digest_week": {_E: "This week", _D: "Diese Woche", _A: "هذا الأسبوع"},
    "digest_late": {_E: "Overdue", _D: "Überfällig", _A: "متأخر"},
    "digest_unread": {_E: "Unread notifications", _D: "Ungelesene Benachrichtigungen", _A: "إشعارات غير مقروءة"},
    "and_more": {_E: "and {number} more", _D: "und {number} weitere", _A: "والمزيد: {number}"},
    "entry.call": {_E: "Call", _D: "Anruf", _A: "مكالمة"},
    "entry.email": {_E: "Email", _D: "E-Mail", _A: "بريد"},
    "entry.meeting": {_E: "Meeting", _D: "Termin", _A: "اجتماع"},
    "entry.task": {_E: "Task", _D: "Aufgabe", _A: "مهمة"},
    "entry.note": {_E: "Note", _D: "Notiz", _A: "ملاحظة"},
    "entry.follow_up": {_E: "Follow-up", _D: "Wiedervorlage", _A: "متابعة"},
    "entry.closing": {_E: "Closing", _D: "Abschluss", _A: "إغلاق صفقة"},
    "calendar.both": {
        _E: "This was changed here and in the calendar “{calendar}” at about the same time. What was set here stays. In"
        " the calendar it had become:",
        _D: "Das wurde etwa gleichzeitig hier und im Kalender „{calendar}“ geändert. Es bleibt, was hier steht. Im"
        " Kalender war daraus geworden:",
        _A: "عُدّل هذا هنا وفي التقويم «{calendar}» في الوقت نفسه تقريبًا. يبقى ما هو محدد هنا. وكان قد أصبح في التقويم:",
    },
    "calendar.title": {_E: "Title", _D: "Titel", _A: "العنوان"},
    "calendar.description": {_E: "Description", _D: "Beschreibung", _A: "الوصف"},
    "calendar.times": {_E: "Time", _D: "Zeit", _A: "الوقت"},
    "calendar.completed": {_E: "Status", _D: "Status", _A: "الحالة"},
    "calendar.done": {_E: "done", _D: "erledigt", _A: "منجز"},
    "calendar.not_done": {_E: "not done", _D: "nicht erledigt", _A: "غير منجز"},
    "entry.project": {_E: "Project due", _D: "Projekt fällig", _A: "موعد مشروع"},
    # ── logging in ───────────────────────────────────────────────────────────────────────────────────────────────────
    "registered_subject": {
        _E: "Confirm your email address",
        _D: "Bestätigen Sie Ihre E-Mail-Adresse",
        _A: "أكِّد عنوان بريدك الإلكتروني",
    },
    "registered_text": {
        _E: "You have registered. Please confirm that this is your address. You can log in already.",
        _D: "Sie haben sich registriert. Bitte bestätigen Sie, dass dies Ihre Adresse ist. Anmelden können Sie sich"
        " schon jetzt.",
        _A: "لقد أنشأت حسابًا. يرجى تأكيد أن هذا عنوانك. يمكنك تسجيل الدخول من الآن.",
    },
    "registered_action": {_E: "Confirm the address", _D: "Adresse bestätigen", _A: "تأكيد العنوان"},
    "registered_again_subject": {
        _E: "You have an account already",
        _D: "Sie haben schon ein Konto",
        _A: "لديك حساب بالفعل",
    },
    "registered_again_text": {
        _E: "Somebody has tried to register with your address. You have an account already: log in, or ask for a new"
        " password. If it was not you, there is nothing to do.",
        _D: "Jemand wollte sich mit Ihrer Adresse registrieren. Sie haben schon ein Konto: Melden Sie sich an, oder"
        " fordern Sie ein neues Passwort an. Wenn Sie es nicht waren, ist nichts zu tun.",
        _A: "حاول شخص ما إنشاء حساب بعنوانك. لديك حساب بالفعل: سجّل الدخول أو اطلب كلمة مرور جديدة. إن لم تكن أنت فلا"
        " داعي لأي إجراء.",
    },
    "reset_password_subject": {_E: "A new password", _D: "Ein neues Passwort", _A: "كلمة مرور جديدة"},
    "reset_password_text": {
        _E: "Somebody has asked for a new password for your account. The link is good for 30 minutes, once. If it was"
        " not you, there is nothing to do: your password stays as it is.",
        _D: "Jemand hat ein neues Passwort für Ihr Konto angefordert. Der Link gilt 30 Minuten lang und einmal. Wenn"
        " Sie es nicht waren, ist nichts zu tun: Ihr Passwort bleibt, wie es ist.",
        _A: "طلب شخص ما كلمة مرور جديدة لحسابك. الرابط صالح لمدة 30 دقيقة ولمرة واحدة. إن لم تكن أنت فلا داعي لأي"
        " إجراء: تبقى كلمة مرورك كما هي.",
    },
    "reset_password_action": {_E: "Set a new password", _D: "Neues Passwort setzen", _A: "تعيين كلمة مرور جديدة"},
    "invitation_subject": {
        _E: "{inviter} invites you to {organization}",
        _D: "{inviter} lädt Sie zu {organization} ein",
        _A: "{inviter} يدعوك إلى {organization}",
    },
    "invitation_text": {
        _E: "{inviter} invites you to work in {organization}. The link is good for 7 days, once.",
        _D: "{inviter} lädt Sie ein, in {organization} mitzuarbeiten. Der Link gilt 7 Tage lang und einmal.",
        _A: "{inviter} يدعوك إلى العمل في {organization}. الرابط صالح لمدة 7 أيام ولمرة واحدة.",
    },
    "invitation_action": {_E: "Accept the invitation", _D: "Einladung annehmen", _A: "قبول الدعوة"},
    "token_reused_subject": {
        _E: "A session of yours was ended",
        _D: "Eine Ihrer Sitzungen wurde beendet",
        _A: "أُنهيت إحدى جلساتك",
    },
    "token_reused_text": {
        _E: "An old key of your session on this device was used again: {device}. Somebody may have copied it, so the"
        " session was ended. Log in again. If you do not know the device, change your password.",
        _D: "Ein alter Schlüssel Ihrer Sitzung auf diesem Gerät wurde noch einmal benutzt: {device}. Vielleicht hat ihn"
        " jemand kopiert, deshalb wurde die Sitzung beendet. Melden Sie sich neu an. Wenn Sie das Gerät nicht kennen,"
        " ändern Sie Ihr Passwort.",
        _A: "استُخدم مرة أخرى مفتاح قديم لجلستك على هذا الجهاز: {device}. ربما نسخه شخص ما، لذلك أُنهيت الجلسة. سجّل"
        " الدخول من جديد. إن كنت لا تعرف الجهاز فغيِّر كلمة مرورك.",
    },
    "why_identity": {
        _E: "You get this mail because of your account, or because somebody has given this address.",
        _D: "Sie erhalten diese E-Mail wegen Ihres Kontos, oder weil jemand diese Adresse angegeben hat.",
        _A: "تصلك هذه الرسالة بسبب حسابك، أو لأن شخصًا ما أدخل هذا العنوان.",
    },
    # ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────
    "overview": {_E: "Overview", _D: "Überblick", _A: "نظرة عامة"},
    "summary": {_E: "Summary of deals", _D: "Zusammenfassung der Deals", _A: "ملخص الصفقات"},
    "funnel": {_E: "Sales funnel", _D: "Vertriebstrichter", _A: "قمع المبيعات"},
    "forecast": {_E: "Forecast", _D: "Prognose", _A: "التوقعات"},
    "team": {_E: "Team", _D: "Team", _A: "الفريق"},
    "figures": {_E: "Figures", _D: "Kennzahlen", _A: "الأرقام"},
    "figure": {_E: "Figure", _D: "Kennzahl", _A: "البند"},
    "value": {_E: "Value", _D: "Wert", _A: "القيمة"},
    "customers": {_E: "Customers", _D: "Kunden", _A: "العملاء"},
    "customer": {_E: "Customer", _D: "Kunde", _A: "العميل"},
    "deals": {_E: "Deals", _D: "Deals", _A: "الصفقات"},
    "open_deals": {_E: "Open deals", _D: "Offene Deals", _A: "الصفقات المفتوحة"},
    "won_deals": {_E: "Won deals", _D: "Gewonnene Deals", _A: "الصفقات المكسوبة"},
    "lost_deals": {_E: "Lost deals", _D: "Verlorene Deals", _A: "الصفقات المفقودة"},
    "open_value": {_E: "Value of open deals", _D: "Wert offener Deals", _A: "قيمة الصفقات المفتوحة"},
    "weighted_value": {_E: "Weighted value", _D: "Gewichteter Wert", _A: "القيمة المرجحة"},
    "won_value": {_E: "Value of won deals", _D: "Wert gewonnener Deals", _A: "قيمة الصفقات المكسوبة"},
    "average_deal_size": {_E: "Average deal", _D: "Durchschnittlicher Deal", _A: "متوسط الصفقة"},
    "won_this_month": {_E: "Won this month", _D: "Diesen Monat gewonnen", _A: "صفقات هذا الشهر المكسوبة"},
    "new_customers": {_E: "New customers this month", _D: "Neue Kunden diesen Monat", _A: "عملاء جدد هذا الشهر"},
    "activities_this_week": {_E: "Activities this week", _D: "Aktivitäten diese Woche", _A: "أنشطة هذا الأسبوع"},
    "overdue_activities": {_E: "Overdue activities", _D: "Überfällige Aktivitäten", _A: "الأنشطة المتأخرة"},
    "deals_by_stage": {_E: "Deals by stage", _D: "Deals nach Phase", _A: "الصفقات حسب المرحلة"},
    "top_customers": {_E: "Top customers", _D: "Wichtigste Kunden", _A: "أهم العملاء"},
    "top_performers": {_E: "Top performers", _D: "Beste Ergebnisse", _A: "الأفضل أداءً"},
    "stage": {_E: "Stage", _D: "Phase", _A: "المرحلة"},
    "count": {_E: "Number", _D: "Anzahl", _A: "العدد"},
    "person": {_E: "Person", _D: "Person", _A: "الشخص"},
    "status": {_E: "Status", _D: "Status", _A: "الحالة"},
    "total": {_E: "Total", _D: "Summe", _A: "المجموع"},
    "average": {_E: "Average", _D: "Durchschnitt", _A: "المتوسط"},
    "status.open": {_E: "Open", _D: "Offen", _A: "مفتوحة"},
    "status.won": {_E: "Won", _D: "Gewonnen", _A: "مكسوبة"},
    "status.lost": {_E: "Lost", _D: "Verloren", _A: "مفقودة"},
    "new_deals_last_30_days": {
        _E: "New deals in the last 30 days",
        _D: "Neue Deals der letzten 30 Tage",
        _A: "صفقات جديدة في آخر 30 يومًا",
    },
    "average_days_to_close": {
        _E: "Average days to close",
        _D: "Tage bis zum Abschluss (Durchschnitt)",
        _A: "متوسط الأيام حتى الإغلاق",
    },
    "entered": {_E: "Entered", _D: "Erreicht", _A: "دخلت"},
    "current": {_E: "There now", _D: "Jetzt dort", _A: "فيها الآن"},
    "conversion": {_E: "Conversion", _D: "Übergang", _A: "نسبة التحويل"},
    "period": {_E: "Period", _D: "Zeitraum", _A: "الفترة"},
    "period.none": {_E: "No date", _D: "Ohne Datum", _A: "بلا تاريخ"},
    "period.overdue": {_E: "Overdue", _D: "Überfällig", _A: "متأخرة"},
    "won": {_E: "Won", _D: "Gewonnen", _A: "مكسوبة"},
    "open_": {_E: "Open", _D: "Offen", _A: "مفتوحة"},
    "weighted": {_E: "Weighted", _D: "Gewichtet", _A: "مرجحة"},
    "lost": {_E: "Lost", _D: "Verloren", _A: "مفقودة"},
    "win_rate": {_E: "Win rate", _D: "Quote", _A: "نسبة الفوز"},
    "done": {_E: "Done", _D: "Erledigt", _A: "أُنجز"},
    "nobody": {_E: "No one", _D: "Niemand", _A: "لا أحد"},
}


class Say:
    """Says sentences in one language."""

    def __init__(self, locale: Locale) -> None:
        self._locale = locale

    def __call__(self, key: str, **values: object) -> str:
        """The sentence, with these values put in. Raises KeyError for one that there is not."""
        return TEXTS[key][self._locale].format(**values)
