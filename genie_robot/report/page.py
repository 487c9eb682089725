"""The shell of the report: one HTML file with everything inside; light, printable, no script, no external load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root{--ink:#1f2937;--faint:#6b7280;--line:#e5e7eb;--soft:#f8fafc;--accent:#1d4ed8;--good:#047857;--bad:#b91c1c}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header>div,footer>div{max-width:1060px;margin:0 auto;padding:0 24px}
header{background:linear-gradient(135deg,#0f172a,#1e3a8a);color:#fff;padding:44px 0 36px}
header h1{margin:0 0 10px;font-size:34px;line-height:1.2;letter-spacing:-.01em}
header p{max-width:760px;margin:0;color:#dbeafe;font-size:18px}
h2{margin:52px 0 6px;font-size:24px;letter-spacing:-.01em;border-top:1px solid var(--line);padding-top:28px}
h3{margin:28px 0 6px;font-size:17px}
p{max-width:820px;margin:8px 0 12px}
.faint,figcaption,small{color:var(--faint)}
figcaption{font-size:14px;max-width:780px;margin-top:6px}
figure{margin:16px 0}
img{max-width:100%;image-rendering:pixelated;border-radius:4px;display:block}
table{border-collapse:collapse;margin:14px 0;font-size:15px}
th,td{text-align:left;padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--faint);font-size:13px}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto}
.dense table{font-size:14px}.dense td,.dense th{padding-right:11px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin:26px 0 0}
.tile{background:rgba(255,255,255,.1);border:1px solid rgba(255,255,255,.18);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:27px;line-height:1.2}
.tile span{color:#bfdbfe;font-size:14px;line-height:1.35;display:block}
.tag{display:inline-block;border-radius:999px;padding:2px 11px;font-size:13px;font-weight:600;border:1px solid;margin:4px 6px 4px 0}
.tag.box{color:#1d4ed8;background:#eff6ff}.tag.scratch{color:#b45309;background:#fffbeb}
.tag.truth{color:#047857;background:#ecfdf5}
.yes,.no,.none{white-space:nowrap}
.chart>b{display:block;margin-left:62px}
.yes{color:var(--good);font-weight:700}.no{color:var(--bad);font-weight:700}.none{color:var(--faint);font-weight:700}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--faint);margin:2px 0 0 62px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px}
.row{display:flex;flex-wrap:wrap;gap:22px 30px;align-items:flex-start}
.sprite{background-repeat:no-repeat;image-rendering:pixelated;border-radius:6px;animation:film infinite;flex:none}
.sprite:hover{animation-play-state:paused}
@keyframes film{from{background-position-x:0}to{background-position-x:var(--travel)}}
@media(prefers-reduced-motion:reduce){.sprite{animation:none;background-position-x:var(--travel)}}
.grid{display:grid;gap:8px;align-items:center;width:max-content;max-width:100%;overflow-x:auto;font-size:14px}
.grid b{font-size:15px}
.pipeline{display:flex;flex-wrap:wrap;gap:8px;margin:16px 0}
.pipeline div{flex:1 1 150px;background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:10px 12px;font-size:14px}
.pipeline b{display:block;color:var(--accent)}
.note{background:var(--soft);border-left:4px solid var(--accent);padding:10px 16px;border-radius:0 6px 6px 0;max-width:780px}
nav{font-size:14px;margin-top:18px}nav a{color:#bfdbfe;margin-right:16px;white-space:nowrap}
code{background:var(--soft);border:1px solid var(--line);border-radius:4px;padding:0 5px;font-size:14px}
footer{margin-top:60px;background:var(--soft);border-top:1px solid var(--line);padding:22px 0;font-size:13px;color:var(--faint)}
ul{max-width:780px;padding-left:22px}li{margin:5px 0}
.line{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:10px 14px;font:13px/1.5 ui-monospace,monospace;
max-width:none;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:4px 22px;font-size:14px;border:1px solid var(--line);border-radius:8px;
background:var(--soft);padding:16px 20px;overflow-wrap:anywhere}
.facts b{font-weight:600;color:var(--faint)}
.stills{display:flex;gap:3px}.stills div{background-repeat:no-repeat;image-rendering:pixelated;border-radius:3px;flex:none}
.filmbox{break-inside:avoid;border-top:1px solid var(--line);padding:14px 0}
@media print{.sprite,.stills div{-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2{break-after:avoid}tr,figure{break-inside:avoid}body{font-size:13px}
.sprite{animation:none}header{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

BOX = '<span class="tag box">model in the box</span>'
SCRATCH = '<span class="tag scratch">from-scratch demo model</span>'
TRUTH = '<span class="tag truth">MuJoCo, the truth</span>'


def page(title: str, header: str, body: str, footer: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n<header><div>{header}</div></header>\n"
        f"<main>{body}</main>\n<footer><div>{footer}</div></footer>\n</body></html>\n"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """A section with a heading that links can point at."""
    return f'<h2 id="{anchor}">{escape(title)}</h2>\n' + "\n".join(parts)


def paragraph(html: str) -> str:
    """A paragraph of HTML."""
    return f"<p>{html}</p>"


def figure(content: str, caption: str) -> str:
    """Content with a caption below; both are HTML."""
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of HTML cells; `numbers` are the columns that are set flush right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        marks = [' class="number"' if column in numbers else "" for column in range(len(row))]
        return "".join(f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def tile(value: str, meaning: str) -> str:
    """A headline number with its meaning."""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(meaning)}</span></div>'


def verdict_mark(verdict: bool | None) -> str:
    """An honest tick, cross, or dash for what was not measured."""
    if verdict is None:
        return '<span class="none" title="not measured">&ndash; not measured</span>'
    return (
        '<span class="yes">&#10003; reached</span>' if verdict else '<span class="no">&#10007; missed</span>'
    )


def number(value: float | int | None, digits: int = 2, unit: str = "") -> str:
    """A number as text, a dash for None."""
    if value is None:
        return "&ndash;"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return f"{text} {unit}".strip()
