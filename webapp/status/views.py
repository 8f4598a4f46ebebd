"""The System Status page and its machine-readable kin."""

from __future__ import annotations

from functools import cache, lru_cache

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import get_template
from django.templatetags.static import static
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from status import checks, metrics, report

# Status -> the word for it, and its tone.
_SHOWN = {"operational": ("Operational", "good"), "degraded": ("Degraded", "warn"), "down": ("Down", "bad")}


@require_safe
@never_cache
@vary_on_headers("Accept")
def page(request: HttpRequest) -> HttpResponse:
    """The page; JSON or plain text when the Accept header prefers them."""
    wanted = request.get_preferred_type(["text/html", "application/json", "text/plain"])
    facts = report.facts(checks.look())
    if wanted == "application/json":
        return _json(facts)
    cards = report.cards(facts)
    text = report.text(facts, cards)
    if wanted == "text/plain":
        return HttpResponse(text, status=_code(facts), content_type="text/plain; charset=utf-8")
    word, tone = _SHOWN[facts["status"]]
    context = {
        "facts": facts,
        "word": word,
        "cards": [(card.name, card.title, _rows(card)) for card in cards],
        "text": text,
        "checked": report.format_clock(facts["checked_at"]),
        "tone": tone,
        "icon": _file(f"{tone}.svg"),
        "css": _file("status.css"),
        "js": _file("status.js"),
    }
    return HttpResponse(get_template("status/page.html").render(context), status=_code(facts))


@require_safe
@never_cache
def api(request: HttpRequest) -> JsonResponse:
    """The same as JSON: docs/status.schema.json describes it."""
    return _json(report.facts(checks.look()))


@require_safe
@never_cache
def metrics_page(request: HttpRequest) -> HttpResponse:
    """OpenMetrics. Always 200: a scrape that works tells that the database does not."""
    return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


@cache
def _file(name: str) -> str:
    """The hashed URL of a static file."""
    return static(f"status/{name}")


def _rows(card: report.Card) -> SafeString:
    """A card's rows, each escaped by its template."""
    return SafeString("\n".join(map(_row, card.rows)))  # nosec B703, B704


@lru_cache(256)
def _row(row: report.Row) -> SafeString:
    """A row's HTML. Most rows are the same from one look to the next, and half of the page's time went into them."""
    return get_template("status/row.html").render({"row": row})


def _json(facts: dict) -> JsonResponse:
    return JsonResponse(facts, status=_code(facts), json_dumps_params={"indent": 2})


def _code(facts: dict) -> int:
    return 503 if facts["status"] == "down" else 200
