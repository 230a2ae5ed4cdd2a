"""The table of area codes is rebuilt from a report in NANPA's own form."""

from __future__ import annotations

import csv
import io
from importlib import resources
from pathlib import Path

import pytest

from scripts.build_area_codes import ReportError, main, rows

SHIPPED = resources.files("config").joinpath("area_codes.csv").read_text("utf-8")
HEADER = (
    "NPA_ID,type_of_code,ASSIGNABLE,EXPLANATION,RESERVED,ASSIGNED,ASSIGNMENT_DT,USE,LOCATION,COUNTRY,IN_SERVICE,"
    "IN_SERVICE_DT,STATUS,PLANNING_LETTERS,NOTES,OVERLAY,OVERLAY_COMPLEX,PARENT_NPA_ID,SERVICE,TIME_ZONE"
)
LINES = """\
200,Easily Recognizable Code,Yes,,No,No,,N,,,N,,,,,,,,,
211,Easily Recognizable Code,No,N11 Code,No,No,,,,,N,,,,,,,,,
212,General Purpose Code,Yes,,No,Yes,01-Jan-1947,G,NY,US,Y,01-Jan-1947,,489 314 175,,Yes,212/332/646/917,,,E
242,General Purpose Code,Yes,,No,Yes,17-Nov-1995,G,BAHAMAS,BAHAMAS,Y,01-Oct-1996,,,,No,,809,,E
268,General Purpose Code,Yes,,No,Yes,26-Mar-1996,G,ANTIGUA/BARBUDA,ANTIGUA/BARBUDA,Y,01-Apr-1996,,,,No,,809,,A
273,General Purpose Code,Yes,,No,Yes,16-Oct-2025,G,QUEBEC,CANADA,N,27-Feb-2027,Active,,,Yes,"273/367/418/581 ",418,,E
340,General Purpose Code,Yes,,No,Yes,29-Apr-1997,G,VI,US,Y,01-Jun-1997,,056,,No,,809,,A
387,General Purpose Code,Yes,,Yes,No,,G,,CANADA,N,,,,,No,,,,
415,General Purpose Code,Yes,,No,Yes,01-Jan-1947,G,CA,US,Y,01-Jan-1947,,,,Yes,415/628,,,P
526,General Purpose Code,Yes,,No,Yes,16-Dec-2020,N,,US,Y,28-Jan-2021,,,Non-Geographic Services,No,\
500/533/544/566/577/588/522/523/524/525,500,Non-Geographic Services,E
600,Easily Recognizable Code,Yes,,No,Yes,15-Apr-1993,N,,CANADA,Y,01-Oct-1993,,,Canadian Non-Geographic Tariffed\
 Services,No,,,Canadian Non-Geographic Tariffed Services,E
633,Easily Recognizable Code,Yes,,No,Yes,10-Apr-2023,N,,CANADA,Y,15-May-2023,,,"Canadian Non-Geographic Services  "\
,No,622/633,,,E
670,General Purpose Code,Yes,,No,Yes,04-Sep-1996,G,CNMI,US,Y,01-Jul-1997,,010,,No,,,,(UTC+10)
700,Easily Recognizable Code,Yes,,No,Yes,01-Jan-1984,N,NANP AREA,,Y,01-Jan-1984,,,Interexchange Carrier Services,No,\
,,Interexchange Carrier Services,E
710,General Purpose Code,Yes,,No,Yes,01-Jan-1984,N,,US,Y,01-Jan-1984,,,US Government,No,,,US Government,E
761,General Purpose Code,Yes,,No,Yes,07-Aug-2025,G,KY,US,N,,Active,,,Yes,502/761,502,,E
800,Easily Recognizable Code,Yes,,No,Yes,01-Jan-1966,N,NANP AREA,,Y,01-Jan-1966,,,Toll-free,No,\
800/888/877/866/855/844/833,,Toll-Free,E
867,General Purpose Code,Yes,,No,Yes,30-Sep-1996,G,NORTHWEST TERRITORIES -YUKON - NUNAVUT,CANADA,Y,21-Oct-1997,,013,,\
No,,403,,CMP
872,General Purpose Code,Yes,,No,Yes,23-Jul-1999,G,IL,US,Y,07-Nov-2009,,392,,Yes,"312/872, 773/872",312,,C
900,Easily Recognizable Code,Yes,,No,Yes,01-Jan-1971,N,NANP AREA,,Y,01-Jan-1971,,,Premium Services,No,,,Premium \
Services,E
902,General Purpose Code,Yes,,No,Yes,01-Jan-1947,G,NOVA SCOTIA - PRINCE EDWARD ISLAND,CANADA,Y,01-Jan-1947,,,,Yes,\
782/902,,,A
"""
REPORT = f"File Date,01/05/2026\n{HEADER}\n{LINES}"


def test_the_shipped_rows_come_out_of_the_report() -> None:
    built = {row["code"]: row for row in rows(REPORT)}
    shipped = {row["code"]: row for row in csv.DictReader(io.StringIO(SHIPPED))}
    assert len(built) == 18
    for code, row in built.items():
        wanted = shipped[code]
        assert {k: v for k, v in row.items() if "phonenumbers" not in k} == {
            k: v for k, v in wanted.items() if "phonenumbers" not in k
        }


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("", "line 1: File Date: missing"),
        ("File Date,01/05/2026\nNPA_ID,ASSIGNED\n", "line 2: USE, LOCATION"),
        (REPORT.replace("NY,US", "XX,US"), "line 5: LOCATION: 'XX' is no state"),
        (REPORT.replace("G,KY,US", "G,ONTARIO,US"), "LOCATION: 'ONTARIO' is no state or province of US"),
        (REPORT.replace("BAHAMAS,BAHAMAS", "ATLANTIS,ATLANTIS"), "line 6: COUNTRY: 'ATLANTIS' is not known"),
        (REPORT.replace("Premium", "Strange"), "SERVICE: 'Strange Services' is not known"),
        (REPORT.replace("212,General", "2I2,General"), "line 5: NPA_ID: '2I2' is not an area code"),
    ],
)
def test_what_is_not_known_is_named(report: str, message: str) -> None:
    with pytest.raises(ReportError) as caught:
        list(rows(report))
    assert message in str(caught.value)


def test_the_command_writes_the_table_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "npa_report.csv"
    report.write_text(REPORT, encoding="utf-8")
    assert main([str(report)]) == 0
    assert capsys.readouterr().out.startswith("code,country,region,kind,source,")
    report.write_text(REPORT.replace("902,General Purpose Code,Yes,,No,Yes", "9O2,G,Yes,,No,Yes"), encoding="utf-8")
    assert main([str(report)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "npa_report.csv: line" in told.err
    assert main([str(tmp_path / "none.csv")]) == 2
