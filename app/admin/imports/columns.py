"""Guessing which field a column is, by the names that other CRMs, address books and people use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

from app.admin.imports.fields import fields_of
from app.admin.imports.schemas import ImportColumn, ImportKind
from app.files.unpacked import Column

# By its name; by the column of the company; by what the cells look like.
SURE, LIKELY, PERHAPS = 1.0, 0.7, 0.4
# Exports of HubSpot, Salesforce, Pipedrive, Zoho, Google Contacts and Outlook, in English and by their own keys; and
# what people write over columns of a spreadsheet. Case, accents and what is between words do not count.
NAMES: Mapping[ImportKind, Mapping[str, str]] = {
    ImportKind.CUSTOMERS: {
        "external_id": (
            "Record ID, Account ID, Lead ID, Contact ID, Company ID, Customer ID, Customer number, Customer"
            " no, Account number, Organization - ID, Person - ID, Record Id, hs_object_id, External ID,"
            " External key, Reference, UID"
        ),
        "name": (
            "Company name, Account Name, Customer name, Customer, Client, Client name, Organization - Name,"
            " Person - Name, Full Name, Lead Name, Display Name, File As, Contact, Contact Name, Name1"
        ),
        "first_name": "First Name, Firstname, Given Name, Forename, Person - First name",
        "last_name": "Last Name, Lastname, Family Name, Surname, Person - Last name",
        "email": (
            "E-mail, Mail, Email Address, E-mail Address, E-mail 1 - Value, Person - Email, Person - Email -"
            " Work, Person - Email - Home, Email 1, Primary email, Work email, Email1Address"
        ),
        "phone": (
            "Phone Number, Telephone, Telephone number, Tel, Business Phone, Company Main Phone, Phone 1 -"
            " Value, Person - Phone, Person - Phone - Work, Primary phone, Work phone, Account Phone, Mobile"
            " Phone Number, Mobile, Mobile Phone, Cell, Cell Phone, Organization - Phone, MobilePhone, Phone 1"
        ),
        "company": (
            "Company / Account, Employer, Organization, Organisation, Organization Name, Organization 1 -"
            " Name, Person - Organization, Associated Company, Firm"
        ),
        "role": (
            "Title, Job Title, Jobtitle, Position, Organization Title, Organization 1 - Title, Person - Job"
            " title, Function, Designation"
        ),
        "kind": "Customer type, Customer kind",
        "industry": "Sector, Branch, Line of business, Organization - Industry",
        "website": (
            "Website URL, Web, Web Page, Web site, URL, Homepage, Home page, Company Domain Name, Domain,"
            " Website 1 - Value, Organization - Website, Domain name"
        ),
        "status": (
            "Lead Status, Lifecycle Stage, lifecyclestage, hs_lead_status, Customer status, Account Status,"
            " Contact status, Stage"
        ),
        "assigned_to": (
            "Owner, Company owner, Contact owner, Account Owner, Lead Owner, Person - Owner, Organization -"
            " Owner, OwnerId, Owner ID, hubspot_owner_id, Assigned, Assigned user, Sales rep, Salesperson,"
            " Account manager, Responsible"
        ),
        "next_follow_up_at": (
            "Next follow up, Follow up, Follow-up date, Next Activity Date, Next step date, Person - Next"
            " activity date, Next contact, notes_next_activity_date"
        ),
        "notes": "Note, Description, Comment, Comments, Remarks, About Us, Memo, Account Description",
        "tags": (
            "Tag, Labels, Label, Categories, Category, Group Membership, Groups, Person - Labels,"
            " Organization - Labels, Keywords, Segment"
        ),
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Person - Person created, Organization - Organization created, Customer since, Add"
            " time"
        ),
    },
    ImportKind.CONTACTS: {
        "external_id": "Record ID, Contact ID, Person - ID, Record Id, hs_object_id, External ID, Reference, UID",
        "first_name": "Firstname, Given Name, Forename, Person - First name, Vorname",
        "last_name": "Lastname, Family Name, Surname, Person - Last name, Nachname",
        "name": "Full Name, Contact Name, Person - Name, Display Name, File As, Contact, Person",
        "email": (
            "E-mail, Mail, Email Address, E-mail Address, E-mail 1 - Value, Person - Email, Person - Email -"
            " Work, Email 1, Primary email, Work email, Email1Address"
        ),
        "phone": (
            "Phone Number, Telephone, Telephone number, Tel, Business Phone, Phone 1 - Value, Person - Phone,"
            " Person - Phone - Work, Primary phone, Work phone, Mobile Phone Number, Mobile, Mobile Phone,"
            " Cell, Cell Phone, MobilePhone, Phone 1, Home Phone"
        ),
        "position": (
            "Title, Job Title, Jobtitle, Role, Organization Title, Organization 1 - Title, Person - Job"
            " title, Function, Designation"
        ),
        "customer": (
            "Company, Company name, Account Name, Account, Account: Account Name, Account.Name, Organization,"
            " Organisation, Organization Name, Organization 1 - Name, Person - Organization, Associated"
            " Company, Employer, Customer name, Client, Firm"
        ),
        "customer_id": "Customer ID",
        "is_primary": "Primary, Primary contact, Main contact",
        "notes": "Note, Description, Comment, Comments, Remarks, Memo",
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Person - Person created, Add time"
        ),
    },
    ImportKind.DEALS: {
        "external_id": (
            "Record ID, Deal ID, Opportunity ID, Deal - ID, Record Id, hs_object_id, External ID, Reference"
        ),
        "title": (
            "Deal Name, dealname, Opportunity Name, Deal - Title, Deal, Opportunity, Name, Subject, Potential Name"
        ),
        "description": "Deal Description, Deal - Description, Comment, Comments, Remarks, Note, Notes, Details",
        "customer": (
            "Company, Company name, Account Name, Account, Account: Account Name, Account.Name, Associated"
            " Company, Deal - Organization, Organization, Organisation, Customer name, Client"
        ),
        "customer_id": "Customer ID",
        "contact": "Contact Name, Primary Contact, Associated Contact, Deal - Contact person, Contact person, Person",
        "contact_id": "Contact ID",
        "stage": "Deal Stage, dealstage, StageName, Deal - Stage, Sales stage, Pipeline stage, Phase",
        "amount": (
            "Deal Amount, Deal - Value, Value, Deal value, Price, Sum, Total, Volume, Amount in company currency"
        ),
        "currency": (
            "Currency Code, CurrencyIsoCode, Deal - Currency, Deal - Currency of Value, deal_currency_code,"
            " Currency ISO Code, Deal Currency"
        ),
        "probability": (
            "Probability (%), Deal probability, Deal - Probability, hs_deal_stage_probability, Chance, Win %"
        ),
        "expected_close_date": (
            "Close Date, closedate, CloseDate, Closing Date, Deal - Expected close date, Expected close,"
            " Expected closing date, Deal close date"
        ),
        "actual_close_date": (
            "Closed Date, Deal - Won time, Deal - Deal closed on, Won date, Closed on, Deal closed on"
        ),
        "owner_id": (
            "Owner, Deal owner, Opportunity Owner, Deal - Owner, OwnerId, hubspot_owner_id, Assigned to,"
            " Sales rep, Salesperson, Potential Owner"
        ),
        "lost_reason": (
            "Closed Lost Reason, closed_lost_reason, Loss Reason, Deal - Lost reason, Reason For Loss, Reason lost"
        ),
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Deal - Deal created, Add time"
        ),
    },
    ImportKind.PROJECTS: {
        "external_id": (
            "Record ID, Project ID, Project - ID, Record Id, hs_object_id, External ID, Reference, Key, Number"
        ),
        "name": "Project name, Project, Project title, Project - Title, Title, Subject, Deal Name",
        "description": "Comments, Comment, Notes, Note, Details, Project description, Project - Description, Scope",
        "status": "Project status, Project - Status, State, Phase, Stage, Board",
        "customer": (
            "Company, Company name, Account Name, Account, Associated Company, Project - Organization, Organization,"
            " Organisation, Customer name, Client, Client name, Parent Name"
        ),
        "customer_id": "Customer ID",
        "owner_id": (
            "Owner, Project owner, Project manager, Project lead, Lead, Manager, Project - Owner, OwnerId,"
            " hubspot_owner_id, Responsible, Assigned to"
        ),
        "assignees": "Members, Team, Participants, People, Project members, Assigned people, Resources",
        "start_date": "Start, Start on, Begin, Begins, Project - Start date, Starts on, From",
        "due_date": (
            "Due, Deadline, End date, End, Finish, Finish date, Target date, Project - End date, Due on, Close Date, To"
        ),
        "completed_at": "Completed, Date Completed, Completion date, Completed on, Closed Time, Done on, Actual end",
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Project - Add time, Add time"
        ),
    },
    ImportKind.ACTIVITIES: {
        "external_id": (
            "Record ID, Activity ID, Task ID, Activity - ID, Record Id, hs_object_id, External ID, Reference"
        ),
        "title": (
            "Subject, Task name, Activity - Subject, Name, Task, hs_task_subject, Meeting name, Call title,"
            " Summary, Task Title"
        ),
        "type": "Activity Type, Task type, Activity - Type, hs_task_type, TaskSubtype, Kind",
        "description": (
            "Comments, Comment, Notes, Note, Body, Activity - Note, hs_task_body, Details,"
            " Description/Comments, Full Comments"
        ),
        "status": "Task status, hs_task_status, Activity status, State",
        "customer": (
            "Company, Company name, Account Name, Account, Associated Company, Activity - Organization,"
            " Organization, Organisation, Customer name, Client, Company / Account, Related To"
        ),
        "customer_id": "Customer ID",
        "deal": "Deal Name, Opportunity, Opportunity Name, Associated Deal, Activity - Deal",
        "project": "Project name, Project title, Associated Project, Activity - Project",
        "deal_id": "Deal ID",
        "project_id": "Project ID",
        "contact": (
            "Contact Name, Contact person, Associated Contact, Activity - Contact person, Person, Name of contact"
        ),
        "contact_id": "Contact ID",
        "assigned_to": (
            "Owner, Assigned, Task Owner, Activity owner, Activity - Assigned to user, OwnerId,"
            " hubspot_owner_id, Assignee, Responsible, Host"
        ),
        "due_date": (
            "Due, Due Date, Activity - Due date, ActivityDate, Activity Date, hs_timestamp, Deadline, Start"
            " Date, Start, Date, Start Time, Due on"
        ),
        "all_day": "All day event, Whole day",
        "remind_at": "Reminder, Remind on, Reminder Date/Time, ReminderDateTime, hs_task_reminders, Remind me",
        "completed_at": (
            "Completed, Date Completed, Completion date, Activity - Marked as done time, Completed at,"
            " CompletedDateTime, Closed Time, Done on, hs_task_completion_date"
        ),
        "duration": "Duration (minutes), Activity - Duration, Length, Minutes, Call duration (minutes)",
        "outcome": "Result, Call outcome, Meeting outcome, hs_call_disposition, Call Result",
        "priority": "Task priority, hs_task_priority, Activity - Priority, Importance",
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Activity - Add time, Add time"
        ),
    },
    ImportKind.NOTES: {
        "external_id": "Record ID, Note ID, Record Id, hs_object_id, External ID, Reference",
        "content": (
            "Note, Note Content, Note body, hs_note_body, Body, Text, Notes, Comment, Comments, Description, Remarks"
        ),
        "customer": (
            "Company, Company name, Account Name, Account, Associated Company, Organization, Organisation,"
            " Customer name, Client, Parent Name, Parent"
        ),
        "customer_id": "Customer ID",
        "deal": "Deal Name, Opportunity, Opportunity Name, Associated Deal",
        "deal_id": "Deal ID",
        "activity_id": "Activity ID",
        "project": "Project name, Project title, Associated Project",
        "project_id": "Project ID",
        "created_at": (
            "Create Date, Created Date, CreatedDate, createdate, Created Time, Created, Creation date,"
            " Created on, Activity date, hs_timestamp, Date, Add time"
        ),
    },
}
# What the cells of a column look like, and the field that it may be then.
BY_LOOKS = {"email": "email", "phone": "phone", "address": "website"}


def guess(kind: ImportKind, columns: Sequence[Column]) -> list[ImportColumn]:
    """What each column may be. Each field is guessed for one column: for the surest, of several the first."""
    ours = any(column.name == "external_id" for column in columns)
    found = [(place, *_guess(kind, column, ours=ours)) for place, column in enumerate(columns)]
    taken: dict[str, int] = {}
    for place, field, confidence in sorted(found, key=lambda each: -each[2]):
        if confidence:
            taken.setdefault(field, place)
    if kind is ImportKind.CUSTOMERS and "first_name" not in taken and "last_name" not in taken:
        _name_by_company(taken, found)
    return [
        ImportColumn(
            column.name,
            column.samples,
            field if taken.get(field) == place else None,
            confidence if taken.get(field) == place else 0.0,
        )
        for column, (place, field, confidence) in zip(columns, found, strict=True)
    ]


def words(name: str) -> str:
    """What counts of a column's name."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", spaced).casefold() if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", plain.replace("_", " ")))


def _guess(kind: ImportKind, column: Column, *, ours: bool) -> tuple[str, float]:
    field = _known(kind).get(words(column.name))
    if field == "id" and not ours:
        # The id of another system is no id of ours; our own exports have both.
        return "external_id", SURE
    if field is not None:
        return field, SURE
    field = BY_LOOKS.get(column.looks_like or "", "")
    return (field, PERHAPS) if field in fields_of(kind) else ("", 0.0)


def _name_by_company(taken: dict[str, int], found: list[tuple[int, str, float]]) -> None:
    """A list of companies has its customers' names in the column of the company."""
    if "name" not in taken and "company" in taken:
        place = taken.pop("company")
        taken["name"] = place
        found[place] = (place, "name", LIKELY)


@cache
def _known(kind: ImportKind) -> Mapping[str, str]:
    """The field of each name: the API's own first, then the table's in its order."""
    known: dict[str, str] = {}
    for field in fields_of(kind):
        known.setdefault(words(field), field)
    for field, names in NAMES.get(kind, {}).items():
        for name in names.split(", "):
            known.setdefault(words(name), field)
    return known
