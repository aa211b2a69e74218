"""Files of rows as people have them, read as they meant them."""

from __future__ import annotations

import io
import random
from datetime import date, datetime
from typing import Any

import pytest
import xlsxwriter

from app.files.reader.read import unpack
from app.files.reader.workbooks import as_number
from app.files.rows_format import Row, decode_row
from app.files.unpacked import Unpacked, UnreadableError


def read(content: bytes | str) -> tuple[Unpacked, list[Row]]:
    file, rows = io.BytesIO(content.encode() if isinstance(content, str) else content), io.BytesIO()
    found = unpack(file, rows)
    lines = rows.getvalue().splitlines()
    assert len(lines) == found.rows
    return found, [decode_row(line) for line in lines]


def cells(content: bytes | str) -> list[list[str | None]]:
    return [row.cells for row in read(content)[1]]


def names(content: bytes | str) -> list[str]:
    return [column.name for column in read(content)[0].columns]


def workbook(*rows: list[Any], sheets: int = 1) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"default_date_format": "yyyy-mm-dd"}) as book:
        for _ in range(sheets):
            sheet = book.add_worksheet()
        sheet = book.worksheets()[-1]
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                sheet.write(number, place, value)
    return file.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "~", ":"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_any_usual_delimiter_and_line_end_is_found_out(delimiter: str, ending: str) -> None:
    lines = [["Name", "Email", "City"], ["Ada", "ada@x.example", '"Rome; Old, Town|1:2"'], ["Bo", "", "Oslo"]]
    found, rows = read(ending.join(delimiter.join(line) for line in lines))
    assert (found.delimiter, found.header, found.encoding) == (delimiter, True, "utf-8")
    assert rows == [
        Row(2, ["Ada", "ada@x.example", "Rome; Old, Town|1:2"]),
        Row(3, ["Bo", None, "Oslo"]),
    ]


def test_numbers_with_commas_do_not_hide_semicolons() -> None:
    content = "Deal;Amount;Close date\nA;1.234,50;31.01.2026\nB;12,5;01.02.2026\nC;7,25;03.02.2026\n"
    found, rows = read(content)
    assert found.delimiter == ";"
    assert rows[0].cells == ["A", "1.234,50", "31.01.2026"]
    assert (found.columns[1].decimals, found.columns[2].orders) == ([","], ["dmy"])


def test_excel_may_say_its_delimiter() -> None:
    found, rows = read("sep=;\r\nName;City\r\nAda;Rome\r\n")
    assert (found.delimiter, rows) == (";", [Row(3, ["Ada", "Rome"])])


def test_one_column_needs_no_delimiter() -> None:
    found, rows = read("Email\nada@x.example\nbo@x.example\n")
    assert (found.delimiter, [row.cells for row in rows]) == (None, [["ada@x.example"], ["bo@x.example"]])


def test_quotation_marks_hold_line_ends_and_doubled_marks() -> None:
    assert cells('Name,Notes\n"Ada","Said ""yes"",\nand left"\n') == [["Ada", 'Said "yes",\nand left']]
    assert cells("Name,Notes\n'Ada','a, b'\n'Bo','c'\n'Cy','d'\n") == [["Ada", "a, b"], ["Bo", "c"], ["Cy", "d"]]
    assert cells('Name,Notes\n"Ada","Said \\"yes\\", and left"\n') == [["Ada", 'Said "yes", and left']]
    assert cells('Name,Size\nPipe,5"\nRod,7\n') == [["Pipe", '5"'], ["Rod", "7"]]


def test_a_quotation_mark_that_is_never_closed_is_named_with_its_row() -> None:
    for rest in ("\nCy,y\nDee,z\n", "\n", ""):
        with pytest.raises(UnreadableError, match="Row 3 has a quotation mark"):
            read(f'Name,Notes\nAda,x\nBo,"never closed{rest}')
    assert cells('Name,Size\nPipe,7\nRod,5"')[-1] == ["Rod", '5"']


@pytest.mark.parametrize(
    "content",
    [random.Random(1).randbytes(5000), b"\1\0\0\0Name\0\0\0\0" * 100, b"Name,City\n" + bytes(range(256)) * 9],
    ids=["noise", "records", "text with bytes"],
)
def test_a_file_that_is_no_text_is_no_csv(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="no text"):
        read(content)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1252", "cp1252"),
        ("cp1251", "cp1251"),
        ("cp1250", "cp1250"),
        ("cp932", "cp932"),
        ("gb18030", "gb18030"),
        ("mac_roman", "mac_roman"),
    ],
)
def test_an_encoding_is_found_out(encoding: str, said: str) -> None:
    texts = {
        "cp1251": [
            "Мария Иванова",
            "Алексей Смирнов",
            "Общество большой ответственности",
            "Москва",
        ],
        "cp1250": ["Łukasz Żółtowski", "Šárka Příhodová", "Wiśniewski i Wspólnicy", "Gdańsk"],
        "cp932": ["山田太郎", "東京都千代田区丸の内", "株式会社サンプル", "営業部の鈴木さん"],
        "gb18030": ["王小明", "北京市海淀区中关村大街", "示例有限公司", "销售部经理李华"],
    }.get(encoding, ["Müller & Söhne", "Renée Ångström", "São João Lda", "Zoë Nuñez"])
    content = "Name,Number\n" + "".join(f"{text},{n}\n" for n, text in enumerate(texts * 5, 1))
    found, rows = read(content.encode(encoding))
    assert [row.cells[0] for row in rows[: len(texts)]] == texts
    assert found.encoding == said


def test_bytes_from_elsewhere_in_a_file_of_utf8_are_read_and_said() -> None:
    good = "".join(f"Jürgen Groß {n},Köln\n" for n in range(20))
    found, rows = read(b"Name,City\n" + good.encode() + b"Ren\xe9e,Paris\n")
    assert (rows[0].cells, rows[-1].cells) == (["Jürgen Groß 0", "Köln"], ["Renée", "Paris"])
    assert "Windows-1252" in found.remarks[0]


def test_the_first_row_has_names_unless_it_holds_values() -> None:
    found, rows = read("Ada,ada@x.example\nBo,bo@x.example\n")
    assert (found.header, [column.name for column in found.columns], rows[0].number) == (
        False,
        ["Column 1", "Column 2"],
        1,
    )
    assert names("Name,,Name,\nAda,1,2,\n") == ["Name", "Column 2", "Name (2)"]


def test_a_title_above_the_table_is_left_out_and_said() -> None:
    found, rows = read("Customers of 2026,,\n,,\nName,Email,City\nAda,a@x.example,Rome\n")
    assert ([column.name for column in found.columns], rows) == (
        ["Name", "Email", "City"],
        [Row(4, ["Ada", "a@x.example", "Rome"])],
    )
    assert "Customers of 2026" in found.remarks[0]


def test_blank_rows_do_not_count_and_keep_their_numbers() -> None:
    assert read("Name,City\n\nAda,Rome\n,\n\n \t, \nBo, \n")[1] == [Row(3, ["Ada", "Rome"]), Row(7, ["Bo"])]


def test_a_row_that_is_wider_than_the_header_loses_nothing() -> None:
    found, rows = read("Name,City\nAda,Rome,Italy\nBo,Oslo\n")
    assert [column.name for column in found.columns] == ["Name", "City", "Column 3"]
    assert rows[0].cells == ["Ada", "Rome", "Italy"]
    assert "Row 2 has more cells" in found.remarks[0]


def test_what_was_made_harmless_for_spreadsheets_is_as_it_was() -> None:
    assert cells("Name,Phone\n'=1+1,+49 30 1\n'@ada,'quoted'\n") == [["=1+1", "+49 30 1"], ["@ada", "'quoted'"]]


def test_what_no_database_can_store_is_left_out_and_said() -> None:
    found, rows = read("Name,City\nA\0da,Rome\n")
    assert rows[0].cells == ["Ada", "Rome"]
    assert "NUL" in found.remarks[-1]


def test_samples_are_different_and_few() -> None:
    found, _ = read("City\nRome\nRome\n\nOslo\nLima\nBern\n")
    assert found.columns[0].samples == ["Rome", "Oslo", "Lima"]


@pytest.mark.parametrize(
    ("dates", "orders", "unclear"),
    [
        (["31.01.2026", "02.03.2026"], ["dmy"], ["02.03.2026"]),
        (["01/31/2026"], ["mdy"], []),
        (["02/03/2026", "02/03/2026"], [], ["02/03/2026"]),
        (["05/05/2026", "2026-01-02"], [], []),
        (["31/01/2026", "01/31/2026"], ["dmy", "mdy"], []),
    ],
)
def test_dates_prove_their_order_or_not(dates: list[str], orders: list[str], unclear: list[str]) -> None:
    (column,) = read("Due date\n" + "\n".join(dates))[0].columns
    assert (column.orders, column.unclear) == (orders, unclear)


def test_a_date_far_down_proves_the_order_too() -> None:
    (column,) = read("Due date\n" + "01/02/2026\n" * 3000 + "13/02/2026\n")[0].columns
    assert column.orders == ["dmy"]


@pytest.mark.parametrize(
    ("number", "proved"),
    [
        ("1,234.50", "."),
        ("1.234,50", ","),
        ("12,5", ","),
        ("12.50", "."),
        ("1.234", ""),
        ("1,234", ""),
        ("1.234.567", ","),
    ],
)
def test_numbers_prove_their_decimal_sign_or_not(number: str, proved: str) -> None:
    for written in (number, f"€ {number}", f"{number} EUR"):
        assert "".join(read(f"Amount;x\n{written};1\n")[0].columns[0].decimals) == proved, written


def test_json_lines_have_a_column_for_each_member() -> None:
    content = (
        '{"name": "Ada", "age": 36.50, "big": 12345678901234567890}\n\n'
        '{"name": "Bo", "tags": ["VIP", "a;b"], "contacted": true, "more": {"x": [1]}, "none": null}\n'
        '{"tags": [{"id": 1, "name": "Old"}]}\n'
    )
    found, rows = read(content)
    assert [column.name for column in found.columns] == ["name", "age", "big", "tags", "contacted", "more", "none"]
    assert rows == [
        Row(1, ["Ada", "36.50", "12345678901234567890"]),
        Row(3, ["Bo", None, None, 'VIP; "a;b"', "true", '{"x":[1]}']),
        Row(4, [None, None, None, "Old"]),
    ]


@pytest.mark.parametrize("line", ["{", "[1]", "x", '{"a":}', "{}{}"])
def test_a_line_that_is_no_object_is_named(line: str) -> None:
    with pytest.raises(UnreadableError, match="Line 2 is not"):
        read(f'{{"name": "Ada"}}\n{line}\n')


def test_a_workbook_is_read_as_it_shows() -> None:
    content = workbook(
        ["Name", "Amount", "Phone", "Day", "Moment", "Yes", "Formula"],
        ["Ada", 0.1 + 0.2, 493012345678, date(2026, 1, 31), datetime(2026, 1, 31, 9, 30), True, "'=1"],  # noqa: DTZ001
        [None] * 7,
        ["Bo", 1e-7, 5, None, None, False, None],
    )
    found, rows = read(content)
    assert (found.format, found.sheet, found.remarks) == ("xlsx", "Sheet1", [])
    assert rows[0] == Row(2, ["Ada", "0.3", "493012345678", "2026-01-31", "2026-01-31 09:30:00", "true", "=1"])
    assert rows[1] == Row(4, ["Bo", "0.0000001", "5", None, None, "false"])


def test_of_several_sheets_the_first_with_rows_is_read_and_said() -> None:
    found, _ = read(workbook(["Name"], ["Ada"], sheets=3))
    assert (found.sheet, found.remarks) == ("Sheet3", ["The workbook has 3 sheets: 'Sheet3' is read"])


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1"), (0.1 + 0.2, "0.3"), (1e15, "1000000000000000"), (1234.5, "1234.5"), (1e-7, "0.0000001"), (-2.0, "-2")],
)
def test_a_number_has_no_noise_and_no_exponent(number: float, text: str) -> None:
    assert as_number(number) == text


VCARDS = """BEGIN:VCARD
VERSION:3.0
N:Lovelace;Ada;King;Dr.;
FN:Dr. Ada Lovelace
ORG:Analytical Engines\\, Ltd;Research
TITLE:Countess
EMAIL;TYPE=HOME:home@x.example
EMAIL;TYPE=WORK,PREF:ada@x.example
TEL;TYPE=CELL:+44 7700 900000
item1.TEL;TYPE=WORK:+44 20 7946 0000
ADR;TYPE=WORK:;;12 St James's Square;London;;SW1Y 4LE;UK
NOTE:Likes\\nnumbers\\; and
  poetry
CATEGORIES:VIP,Old
PHOTO;ENCODING=b;TYPE=JPEG:AAAA
UID:abc-1
END:VCARD
BEGIN:VCARD
VERSION:4.0
FN:Grace Hopper
TEL;VALUE=uri;PREF=1:tel:+1-555-0100
URL:https://navy.example
END:VCARD
BEGIN:VCARD
VERSION:2.1
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;J=C3=BCrgen
TEL;WORK;VOICE:030 1234
END:VCARD
"""


def test_vcards_of_each_version_become_rows() -> None:
    found, rows = read(VCARDS.replace("\n", "\r\n"))
    columns = [column.name for column in found.columns]
    ada, grace, juergen = (
        {name: cell for name, cell in zip(columns, row.cells, strict=False) if cell is not None} for row in rows
    )
    assert found.format == "vcard"
    assert ada == {
        "Prefix": "Dr.",
        "First Name": "Ada",
        "Middle Name": "King",
        "Last Name": "Lovelace",
        "Full Name": "Dr. Ada Lovelace",
        "Organization": "Analytical Engines, Ltd",
        "Department": "Research",
        "Job Title": "Countess",
        "Email": "ada@x.example",
        "Email 2": "home@x.example",
        "Phone": "+44 20 7946 0000",
        "Phone 2": "+44 7700 900000",
        "Address": "12 St James's Square, SW1Y 4LE London, UK",
        "Notes": "Likes\nnumbers; and poetry",
        "Categories": "VIP; Old",
        "UID": "abc-1",
    }
    assert grace == {"Full Name": "Grace Hopper", "Phone": "+1-555-0100", "Website": "https://navy.example"}
    assert juergen == {"First Name": "Jürgen", "Last Name": "Müller", "Phone": "030 1234"}
    assert found.remarks == ["Left out of the cards: photo"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"  \r\n ", "empty"),
        (b"Name,Email\r\n", "empty"),
        (b"Name,Email\r\n,\r\n", "empty"),
        (b"%PDF-1.7 ...", "type"),
        (b"\x89PNG\r\n\x1a\n", "type"),
        (b"<html><table><tr><td>Name", "type"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "type"),
        (b"PK\x03\x04 no archive at all", "broken"),
        (b'[{"name": "Ada"}]', "type"),
        (b"Name\n" + b'"' + b"x" * (1024 * 1024 + 1) + b'"\n', "broken"),
        (b'{"a": "' + b"x" * (1024 * 1024) + b'"}\n', "large"),
        (b",".join(b"c%d" % n for n in range(1001)) + b"\nx" + b",x" * 1001, "large"),
        (b"Name,Notes\nAda," + b"x" * 1024 * 1024 + b"\n", "large"),
    ],
)
def test_what_is_no_file_of_rows_is_refused_and_why(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        read(content)
    assert refused.value.refusal.why == why


def test_a_row_that_is_too_long_is_named() -> None:
    with pytest.raises(UnreadableError, match="Row 3 has more than 1 MiB of text"):
        read("Name,Notes,More\nAda,,\nBob," + ",".join(["x" * 600_000] * 2))
