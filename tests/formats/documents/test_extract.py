"""The text of documents of all kinds, and of hostile ones."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.formats.documents import word
from ollamapy.formats.documents.extract import Extract, Page, extract, plain
from ollamapy.formats.documents.hypertext import text_of
from ollamapy.formats.documents.kinds import Kind, media_type
from tests.documents import archive, docx, paragraph, pdf

CELLS = f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>"
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
IMAGES = pytest.mark.parametrize("images", [False, True])


def read(content: bytes, kind: Kind, most: int = 1000, images: bool = False) -> Extract:
    return extract(content, kind, most=most, images=images)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (paragraph("One") + paragraph("Two & <three>"), "One\nTwo & <three>"),
        (paragraph("One") + "<w:p/>" + paragraph("Two"), "One\n\nTwo"),
        ("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>", "a\tb\nc"),
        (CELLS + paragraph("after"), "a | b | \nafter"),
        ("<w:p><w:r><w:delText>gone</w:delText><w:t>kept</w:t></w:r></w:p>", "kept"),
        ('<w:p><w:r><w:t xml:space="preserve"> x </w:t></w:r></w:p>', " x "),
        ("<w:p><x:t xmlns:x='other'>no</x:t><w:r><w:t>yes</w:t></w:r></w:p>", "yes"),
    ],
)
def test_the_text_of_a_docx(body: str, text: str) -> None:
    assert read(docx(body), "docx") == Extract((Page(text),))


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<title>T</title><h2>Head</h2><p>a  b\n c<br>d", "T\n\n## Head\n\na b c\nd"),
        ("<ul><li>a<li>b</ul>after", "- a\n- b\n\nafter"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 | 2 |"),
        ("<script>if (a < b) x()</script><style>p {}</style>seen", "seen"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("&lt;b&gt; &amp; &#65;", "<b> & A"),
        ('<img alt="a cat" src="x">', "[a cat]"),
        ("</script></pre>seen", "seen"),
        ("<!-- no --><p>yes", "yes"),
    ],
)
def test_the_text_of_html(markup: str, text: str) -> None:
    assert text_of(markup) == text


def test_the_pages_of_a_pdf() -> None:
    pytest.importorskip("pypdf")
    found = read(pdf("First (page)", "", "Third"), "pdf")
    assert found == Extract((Page("First (page)"), Page(""), Page("Third")), n_pages=3)


def test_a_page_without_text_becomes_an_image() -> None:
    pytest.importorskip("pypdf")
    pytest.importorskip("pypdfium2")
    found = read(pdf("First", ""), "pdf", images=True)
    assert [page.text for page in found.pages] == ["First", ""]
    assert [media_type(page.image) for page in found.pages] == ["", "image/png"]
    assert found.pages[1].image[16:24] == (1024).to_bytes(4, "big") * 2  # its width and height


def test_reading_ends_at_the_bound() -> None:
    assert read(b"abcdef", "text", most=4) == Extract((Page("abcd"),), is_cut=True)
    assert read(b"abcd", "text", most=4) == Extract((Page("abcd"),))
    assert read(docx(paragraph("abcdef")), "docx", most=4).is_cut
    pytest.importorskip("pypdf")
    found = read(pdf("abc", "def", "ghi"), "pdf", most=5)
    assert found == Extract((Page("abc"), Page("de")), n_pages=3, is_cut=True)
    late = extract(pdf("abc", "def"), "pdf", most=99, images=False, in_time=lambda: False)
    assert late == Extract((Page("abc"),), n_pages=2, is_cut=True)


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        (b" \n", "text", "has no text"),
        (b"<html></html>", "html", "has no text"),
        (docx(""), "docx", "has no text"),
        (archive([("a.txt", b"a")]), "docx", "no Word document"),
        (b"PK\x03\x04 and nothing", "docx", "damaged zip"),
        (docx(paragraph("a"))[:-9], "docx", "damaged zip"),
        (docx("<w:p>"), "docx", "damaged Word document"),
        (docx(paragraph("a"), head=LAUGHS), "docx", "entities"),
        (docx("<w:p>" * 2000 + "</w:p>" * 2000), "docx", "nested too deeply"),
        (docx("", more=[(f"{n}", b"") for n in range(10_001)]), "docx", "too many parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused(content: bytes, kind: Kind, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read(content, kind)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"%PDF-1.7\nnothing", "damaged PDF"),
        (pdf("a")[:200], "damaged PDF"),
        (pdf(""), "has no text"),
        (pdf(), "has no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pdf_that_cannot_be_read_is_refused(content: bytes, why: str) -> None:
    pytest.importorskip("pypdf")
    with pytest.raises(InvalidRequest, match=why):
        read(content, "pdf")


def test_without_the_extra_a_pdf_is_refused_and_the_way_out_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(InvalidRequest, match=r"lacks pypdf: pip install 'ollamapy\[media\]'"):
        read(pdf("a"), "pdf")


def test_an_encrypted_pdf_is_refused() -> None:
    pypdf = pytest.importorskip("pypdf")
    from io import BytesIO

    writer = pypdf.PdfWriter(clone_from=BytesIO(pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    with pytest.raises(InvalidRequest, match="encrypted"):
        read(out.getvalue(), "pdf")


def test_a_zip_bomb_is_unpacked_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "MOST_UNPACKED", 2**20)
    bomb = docx(paragraph("x" * 1000) * 5000)
    assert len(bomb) < 50_000
    assert len(read(bomb, "docx", most=5000).pages[0].text) == 5000
    with pytest.raises(InvalidRequest, match="unpacks to too much"):
        read(docx("<w:p/>" * 500_000), "docx", most=10**7)


@given(st.text())
def test_a_text_is_read_as_it_is(text: str) -> None:
    shown = text.replace("\r\n", "\n").replace("\r", "\n")
    assert plain(text.encode("utf-8", "surrogatepass")) == shown or text.startswith("\ufeff")
    assert plain(b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass")) == shown


@given(st.text(alphabet="<>/!-abp &;'\"=", max_size=200))
def test_any_markup_is_read(markup: str) -> None:
    assert "\n\n\n" not in text_of(markup)


@IMAGES
@pytest.mark.parametrize("kind", ["pdf", "docx"])
@pytest.mark.parametrize("copies", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_damaged_documents_are_read_or_refused(kind: Kind, images: bool, copies: int) -> None:
    """Copies of a document, each with some bytes changed."""
    if kind == "pdf":
        pytest.importorskip("pypdf")
    chance = random.Random(copies)
    whole = pdf("First", "", "Third") if kind == "pdf" else docx(paragraph("One") + CELLS)
    for _ in range(copies):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            assert read(bytes(content), kind, images=images).pages
        except InvalidRequest:
            pass
